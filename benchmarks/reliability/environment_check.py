"""Is an installed latentstem whole? Run by the Python of a fresh environment, in an empty folder; prints JSON.

``python environment_check.py CHECKPOINTS HOST ...``: the folder of a checkpoint that was written elsewhere, and the
hosts that are expected here (hyperspy, py4DSTEM, napari); the others must be missing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, distribution, entry_points, version
from importlib.resources import files
from pathlib import Path
from typing import Any

os.environ["QT_QPA_PLATFORM"] = "offscreen"
HOSTS = ("hyperspy", "py4DSTEM", "napari")
HEAVY = ("torch", "pytorch_lightning", "matplotlib", "pydantic", "dask", *HOSTS)
SHIPPED = {
    "latentstem": ("py.typed", "hyperspy_extension.yaml", "hosts/hyperspy.py", "nn/networks/compact.py"),
    "napari_latentstem": ("napari.yaml", "widgets/panel.py"),
}


def require(holds: bool, what: str) -> None:
    if not holds:
        raise SystemExit(f"failed: {what}")


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    require(done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-1000:]}{done.stderr[-3000:]}")
    return done.stdout


def python(code: str) -> str:
    return run(sys.executable, "-c", code)


def check_files() -> None:
    """The distribution holds two packages, its licence and one script, and what the packages need besides code."""
    shipped = [path.as_posix() for path in distribution("latentstem").files or []]
    tops = {
        path.partition("/")[0] for path in shipped if not path.startswith("..") and ".dist-info" not in path
    }
    require(tops == set(SHIPPED), f"top-level names {tops}")
    require({path for path in shipped if path.startswith("..")} == {"../../../bin/latentstem"}, "one script")
    require(any(path.endswith("licenses/LICENSE") for path in shipped), "licence")
    for package, names in SHIPPED.items():
        for name in names:
            require(files(package).joinpath(name).is_file(), f"{package}/{name}")


def check_import() -> float:
    """Seconds that ``import latentstem`` takes, at best of three; nothing heavy is loaded."""
    code = "import sys, time; t = time.perf_counter(); import latentstem; t = time.perf_counter() - t; print(t, *sys.modules)"
    seconds = []
    for _ in range(3):
        took, *loaded = python(code).split()
        seconds.append(float(took))
        heavy = {name.partition(".")[0] for name in loaded} & set(HEAVY)
        require(not heavy, f"import latentstem loads {heavy}")
    return min(seconds)


def check_command_line(script: str, checkpoints: Path) -> None:
    """The console script: what it says of itself, and the latents of a checkpoint that was written elsewhere."""
    import numpy as np

    require(run(script, "--version").strip() == f"latentstem {version('latentstem')}", "--version")
    require("reconstruct" in run(script, "--help"), "--help")
    for stored in sorted(checkpoints.glob("format-*.ckpt")):
        known = np.load(stored.with_suffix(".npz"))
        np.save("elsewhere.npy", known["scan"])
        arguments = (
            "--data",
            "elsewhere.npy",
            "--model",
            str(stored),
            "--output",
            "elsewhere.npz",
            "--overwrite",
        )
        run(script, "embed", *arguments)
        difference = np.abs(np.load("elsewhere.npz")["maps"] - known["latents"]).max()
        require(
            bool(difference < 1e-4 * np.abs(known["latents"]).max()), f"{stored.name}: off by {difference}"
        )
        require("format version" in run(script, "info", str(stored)), "info")


def check_work(script: str) -> None:
    """Train, embed, reconstruct and report on an array, in Python and on the command line."""
    import numpy as np

    import latentstem

    counts = latentstem.simulate((10, 9), (16, 20), dose=300, n_grains=2).counts
    model = latentstem.train_autoencoder(counts, latent_dim=4, epochs=2, progress=False)
    require(model.embed(counts).maps.shape == (10, 9, 4), "latents")
    require(bool(np.isfinite(model.reconstruct(counts)).all()), "reconstruction")
    model.save("own.ckpt")
    np.save("scan.npy", counts)
    run(script, "train", "--data", "scan.npy", "--latent_dim", "4", "--epochs", "1", "--output_dir", "made")
    run(script, "report", "own.ckpt", "--data", "scan.npy", "--output", "report.html")
    require("<html" in Path("report.html").read_text(encoding="utf-8"), "report")


def check_hyperspy() -> None:
    """The extension is found by HyperSpy alone, and the methods are there whichever is imported first."""
    (found,) = entry_points(group="hyperspy.extensions", name="latentstem")
    require(found.value == "latentstem", "entry point of HyperSpy")
    python(
        "import latentstem, hyperspy.api as hs\n"
        "s = hs.signals.Signal2D(latentstem.simulate((10, 9), (16, 20), dose=300, n_grains=2).counts)\n"
        "model = s.train_autoencoder(latent_dim=4, epochs=1, progress=False)\n"
        "maps = s.embed(model)\n"
        "assert type(maps).__name__ == 'LatentMaps', type(maps)\n"
        "assert s.reconstruct(model).data.shape == s.data.shape\n"
        "assert s.as_lazy().reconstruct(model)._lazy\n"
        "maps.save('maps.hspy'); maps.save('maps.zspy')\n"
    )
    for name in ("maps.hspy", "maps.zspy"):
        code = f"import hyperspy.api as hs; print(type(hs.load({name!r})).__name__, type(hs.load({name!r}, lazy=True)).__name__)"
        require(python(code).split()[-2:] == ["LatentMaps", "LazyLatentMaps"], f"type of {name}")
    python("import hyperspy.api as hs, latentstem; assert hs.signals.Signal2D.train_autoencoder")


def check_py4dstem() -> None:
    """Methods of a DataCube, and a file that py4DSTEM reads."""
    python(
        "import py4DSTEM, latentstem\n"
        "dc = py4DSTEM.DataCube(latentstem.simulate((10, 9), (16, 20), dose=300, n_grains=2).counts)\n"
        "model = dc.train_autoencoder(latent_dim=4, epochs=1, progress=False)\n"
        "dc.embed(model, name='latents')\n"
        "assert dc.reconstruct(model).shape == dc.shape\n"
        "py4DSTEM.save('cube.h5', dc, mode='o')\n"
    )
    python("import py4DSTEM; print(py4DSTEM.read('cube.h5').tree())")


def check_napari() -> None:
    """npe2 finds the manifest, it is valid, and every command it names can be imported."""
    run(sys.executable, "-m", "npe2", "validate", "latentstem")
    python(
        "from npe2 import PluginManager\n"
        "manager = PluginManager.instance(); manager.discover()\n"
        "commands = manager.get_manifest('latentstem').contributions.commands\n"
        "assert commands\n"
        "for command in commands:\n"
        "    assert callable(manager.commands.get(command.id)), command.id\n"
    )


def main() -> dict[str, Any]:
    checkpoints, expected = Path(sys.argv[1]), set(sys.argv[2:])
    script = str(Path(sys.executable).with_name("latentstem"))
    there = {name for name in HOSTS if importlib.util.find_spec(name) is not None}
    require(there == expected, f"hosts {sorted(there)} instead of {sorted(expected)}")
    start = time.perf_counter()
    check_files()
    seconds = check_import()
    check_command_line(script, checkpoints)
    check_work(script)
    done = [
        "files",
        "import",
        "command line",
        "checkpoint from elsewhere",
        "train, embed, reconstruct, report",
    ]
    for host, check in zip(HOSTS, (check_hyperspy, check_py4dstem, check_napari), strict=True):
        if host in expected:
            check()
            done.append(host)
    names = (
        "numpy",
        "torch",
        "pytorch-lightning",
        "scipy",
        "scikit-learn",
        "hyperspy",
        "py4DSTEM",
        "napari",
        "zarr",
    )
    return {
        "checks": done,
        "import_seconds": seconds,
        "seconds": time.perf_counter() - start,
        "versions": {"python": sys.version.split()[0], **{n: _version(n) for n in names if _version(n)}},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    print(json.dumps(main()))
