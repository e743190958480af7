"""Does it install, and work, where others have other versions?

Builds wheel and sdist, installs each kind of environment from scratch and runs `environment_check` in it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import tomllib

ROOT = Path(__file__).resolve().parents[2]
TORCH = "torch==2.13.0"  # others come as CUDA builds of several GB
_OLDEST_TORCH = {"torch": TORCH}  # older ones exist as such only


class Environment(NamedTuple):
    """What is installed, and which hosts are then there."""

    name: str
    kind: str  #: wheel or sdist
    extras: str
    requirements: list[str]
    hosts: tuple[str, ...]


def environments() -> list[Environment]:
    """All that are tried, cheap ones first."""
    tested = [f"-c{ROOT / 'constraints.txt'}"]
    return [
        Environment("core alone", "wheel", "", [*tested, TORCH], ()),
        Environment("sdist", "sdist", "", [*tested, TORCH], ()),
        Environment("oldest supported", "wheel", "hyperspy,distributed", oldest(), ("hyperspy",)),
        Environment(
            "numpy 2, newest, without py4DSTEM",
            "wheel",
            "hyperspy,napari",
            ["numpy>=2", TORCH],
            ("hyperspy", "napari"),
        ),
        Environment(
            "all extras, numpy 1.26", "wheel", "all", [*tested, TORCH], ("hyperspy", "py4DSTEM", "napari")
        ),
    ]


def oldest() -> list[str]:
    """The lower bounds of pyproject.toml as exact versions, for the core, HyperSpy and dask.distributed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    pins = {}
    for requirement in [*project["dependencies"], *extras["hyperspy"], *extras["distributed"]]:
        found = re.fullmatch(r"([\w.-]+)(\[\w+\])?>=([\d.]+).*", requirement)
        name, extra, bound = found.groups() if found else (requirement, None, None)
        pins[name] = f"{name}{extra or ''}=={bound}" if found else requirement
    return list({**pins, **_OLDEST_TORCH}.values())


def measure(quick: bool) -> dict[str, Any]:
    """Install and check each environment; `quick` takes the core alone."""
    with tempfile.TemporaryDirectory(prefix="latentstem-environments-") as folder:
        dist = Path(folder) / "dist"
        built = _run([sys.executable, "-m", "build", "--outdir", str(dist), str(ROOT)], Path(folder))
        if built.returncode:
            raise RuntimeError(built.stdout[-3000:])
        packages = {"wheel": next(dist.glob("*.whl")), "sdist": next(dist.glob("*.tar.gz"))}
        results: dict[str, Any] = {"packages": {p.name: p.stat().st_size for p in packages.values()}}
        results["environments"] = {
            e.name: _tried(e, packages[e.kind], Path(folder) / "environment")
            for e in environments()[: 1 if quick else None]
        }
    return results


def _tried(environment: Environment, package: Path, place: Path) -> dict[str, Any]:
    """What came of one environment; it is deleted afterwards."""
    print(f"   {environment.name}", flush=True)
    start = time.perf_counter()
    try:
        subprocess.run([sys.executable, "-m", "venv", str(place / "venv")], check=True)
        python, work = str(place / "venv" / "bin" / "python"), place / "work"
        work.mkdir()
        what = (
            f"latentstem[{environment.extras}] @ {package.as_uri()}" if environment.extras else str(package)
        )
        steps = {
            "install": [python, "-m", "pip", "install", "--quiet", "--no-input", *environment.requirements, what],
            "consistent": [python, "-m", "pip", "check"],
            "check": [
                python, str(Path(__file__).with_name("environment_check.py")),
                str(ROOT / "tests" / "io" / "checkpoints"), *environment.hosts,
            ],
        }  # fmt: skip
        for step, command in steps.items():
            done = _run(command, work)
            if done.returncode:
                print(done.stdout[-4000:], flush=True)
                return {"passed": False, "failed": step, "output": done.stdout[-1500:]}
        found = json.loads(done.stdout.splitlines()[-1])
        return {"passed": True, **found, "total_seconds": time.perf_counter() - start}
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Both streams together, as they came; without this Python's environment variables."""
    around = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        command,
        cwd=folder,
        env=around,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def section(values: dict[str, Any]) -> str:
    """The part of the page in Markdown."""
    lines = [
        "## Environments\n",
        "Wheel and source distribution, each installed into a new virtual environment, and checked there: the files, "
        "what `import latentstem` loads, the console script, the latents of a checkpoint written elsewhere, training, "
        "embedding, reconstruction and report, the entry points of the hosts that are installed.\n",
        "| environment | outcome | versions |",
        "|---|---|---|",
    ]
    for name, found in values["environments"].items():
        if found["passed"]:
            outcome = f"passed; import in {found['import_seconds']:.2f} s; {', '.join(found['checks'])}"
            versions = ", ".join(f"{package} {v}" for package, v in found["versions"].items())
        else:
            outcome, versions = f"**failed**: {found['failed']}", ""
        lines.append(f"| {name} | {outcome} | {versions} |")
    sizes = ", ".join(f"`{name}` {size / 1024:.0f} kB" for name, size in values["packages"].items())
    return "\n".join([*lines, "", f"Built: {sizes}.", ""])
