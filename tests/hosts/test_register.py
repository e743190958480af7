"""The methods reach the hosts' classes, whichever is imported first, and nothing else is touched."""

from __future__ import annotations

import subprocess
import sys

import pytest

HOSTS = {
    "hyperspy": ("import hyperspy.api as hs; from hyperspy.signal import BaseSignal as Host", "BaseSignal"),
    "py4DSTEM": ("from py4DSTEM import DataCube as Host", "DataCube"),
}
METHODS = ("train_autoencoder", "embed", "reconstruct")
SHOW = f"print(*[getattr(getattr(Host, name, None), '__module__', None) for name in {METHODS}])"


def python(*lines: str) -> str:
    """Output of a fresh interpreter, with its warnings."""
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("first", ["latentstem", "host"])
def test_either_order_of_import(host, first):
    lines = [HOSTS[host][0], "import latentstem"]
    out = python(*(lines if first == "host" else lines[::-1]), SHOW)
    assert out.split()[-3:] == [f"latentstem.hosts.{host.lower()}"] * 3


def test_existing_instances_and_subclasses_get_the_methods():
    out = python(
        "import numpy as np, hyperspy.api as hs",
        "signal = hs.signals.Signal2D(np.zeros((7, 5, 32, 24))).as_lazy()",
        "import latentstem",
        "print(type(signal).__name__, callable(signal.embed), signal.embed.__func__.__module__)",
        "from pyxem.signals import ElectronDiffraction2D",
        "print(ElectronDiffraction2D.reconstruct.__module__)",
    )
    assert "LazySignal2D True latentstem.hosts.hyperspy" in out
    assert out.count("latentstem.hosts.hyperspy") == 2


@pytest.mark.parametrize("host", HOSTS)
def test_a_method_with_another_meaning_is_left_alone(host):
    load, label = HOSTS[host]
    out = python(
        load,
        "Host.embed = lambda self: 'theirs'",
        "import latentstem, latentstem.hosts.register",
        "latentstem.hosts.register.install()",
        SHOW,
        "print(Host.embed(None))",
    )
    ours = f"latentstem.hosts.{host.lower()}"
    assert f"{ours} __main__ {ours}\ntheirs" in out
    assert out.count(f"{label}.embed already exists") == 1
    assert "call latentstem.embed(data, model) instead" in out


def test_importing_twice_changes_nothing():
    out = python(
        "import importlib, sys, latentstem, latentstem.hosts.register",
        "importlib.reload(latentstem)",
        "importlib.reload(latentstem.hosts.register).install()",
        "latentstem.hosts.register.install()",
        "print(sum(type(f).__module__ == 'latentstem.hosts.register' for f in sys.meta_path))",
        HOSTS["hyperspy"][0],
        "importlib.reload(latentstem)",
        SHOW,
    )
    assert out.split() == ["1", *["latentstem.hosts.hyperspy"] * 3]


def test_a_reloaded_host_gets_the_methods_again():
    out = python(
        "import importlib, latentstem, hyperspy.signal",
        "Host = importlib.reload(hyperspy.signal).BaseSignal",
        SHOW,
    )
    assert out.split()[-3:] == ["latentstem.hosts.hyperspy"] * 3


def test_the_adapter_may_be_imported_first():
    out = python(
        "import latentstem.hosts.py4dstem, latentstem.hosts.latent_maps",
        "from hyperspy.signal import BaseSignal as Host",
        SHOW,
    )
    assert out.split()[-3:] == ["latentstem.hosts.hyperspy"] * 3


def test_threads_that_import_at_once():
    out = python(
        "import importlib, sys, threading",
        "names = ['latentstem', 'hyperspy.signal', 'hyperspy.api', 'latentstem'] * 2",
        "wait = threading.Barrier(len(names))",
        "def load(name):",
        "    wait.wait()",
        "    importlib.import_module(name)",
        "threads = [threading.Thread(target=load, args=(name,)) for name in names]",
        "[t.start() for t in threads], [t.join() for t in threads]",
        "from hyperspy.signal import BaseSignal as Host",
        SHOW,
    )
    assert out.split() == ["latentstem.hosts.hyperspy"] * 3


def test_missing_hosts_do_no_harm():
    out = python(
        "import sys",
        "sys.modules['hyperspy'] = sys.modules['py4DSTEM'] = None",
        "import latentstem, importlib.util",
        "for name in ('hyperspy.signal', 'py4DSTEM.datacube.datacube'):",
        "    try: __import__(name)",
        "    except ModuleNotFoundError as error: print(error)",
        "print(latentstem.Embedding.__name__)",
    )
    assert out.count("is not a package") + out.count("halted") == 2
    assert out.split()[-1] == "Embedding"


def test_a_host_without_its_class_is_left_alone(tmp_path):
    package = tmp_path / "hyperspy"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "signal.py").write_text("value = 3\n")
    out = python(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})",
        "import latentstem, hyperspy.signal, inspect",
        "print(hyperspy.signal.value, inspect.getsource(hyperspy.signal).strip())",
    )
    assert out.split() == ["3", "value", "=", "3"]
