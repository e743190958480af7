"""Importing the package is quick, light and shows its public names."""

from __future__ import annotations

import subprocess
import sys

import pytest

import latentstem

HEAVY = (
    "torch",
    "pytorch_lightning",
    "torchmetrics",
    "pydantic",
    "hyperspy",
    "py4DSTEM",
    "emdfile",
    "matplotlib",
    "dask",
)


def python(code: str) -> str:
    """Output of a fresh interpreter."""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_nothing_heavy_is_imported():
    loaded = python("import sys, latentstem; print(*sys.modules)").split()
    assert "latentstem" in loaded
    assert not {name.partition(".")[0] for name in loaded} & set(HEAVY)


def test_import_is_quick():
    code = "import time; start = time.perf_counter(); import latentstem; print(time.perf_counter() - start)"
    assert min(float(python(code)) for _ in range(3)) < 0.3


def test_dir_shows_the_public_names_before_they_are_loaded():
    shown = python("import latentstem; print(*dir(latentstem))").split()
    assert set(latentstem.__all__) <= set(shown)


@pytest.mark.parametrize("name", latentstem.__all__)
def test_public_names_resolve(name):
    value = getattr(latentstem, name)
    assert value is getattr(latentstem, name)
    assert name == "__version__" or value.__name__ == name
    assert name == "__version__" or value.__module__.startswith(("latentstem.", "napari_latentstem."))


def test_every_lazy_name_is_public():
    assert sorted(latentstem._MODULES) == sorted(set(latentstem.__all__) - {"__version__"})


def test_star_import():
    assert "train_autoencoder" in python("from latentstem import *; print(train_autoencoder.__name__)")


def test_unknown_name():
    with pytest.raises(AttributeError, match="'latentstem' has no attribute 'autoencode'"):
        latentstem.autoencode  # noqa: B018


def test_version_is_that_of_the_distribution():
    from importlib.metadata import version

    assert latentstem.__version__ == version("latentstem")
