"""Run the benchmarks and write ``RESULTS.md``: ``python -m benchmarks [--only quality speed] [--quick]``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

THREADS = 2
if __name__ == "__main__":  # the environment of who imports this is left alone
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(variable, str(THREADS))  # read when the libraries are imported

from .parts import PARTS, say  # noqa: E402
from .scans import SCANS  # noqa: E402
from .table import written  # noqa: E402


def main(arguments: list[str] | None = None) -> Path:
    """Run what is asked for; results of other parts are kept. Returns the path of the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="parts to run")
    parser.add_argument(
        "--quick", action="store_true", help="tiny scans: shows that it runs, measures nothing"
    )
    parser.add_argument(
        "--scans", nargs="+", choices=list(SCANS), help="scans of quality, limits and passing"
    )
    parser.add_argument("--rebuild", action="store_true", help="write the tables from stored results")
    parser.add_argument(
        "--output", type=Path, help="folder for RESULTS.md and results.json, from which it is made"
    )
    asked = parser.parse_args(arguments)
    for name in set(SCANS) - set(asked.scans or SCANS):
        del SCANS[name]
    folder = asked.output or (Path("benchmarks_quick") if asked.quick else Path(__file__).parent)
    folder.mkdir(parents=True, exist_ok=True)
    stored = folder / "results.json"
    results = json.loads(stored.read_text(encoding="utf-8")) if stored.exists() else {}
    for part in [] if asked.rebuild else asked.only:
        say(f"== {part}")
        start = time.perf_counter()
        values = PARTS[part](asked.quick)
        if asked.scans and part in results:  # of the other scans
            values = {**results[part]["values"], **values}
        results[part] = {"values": values, "machine": machine(time.perf_counter() - start)}
        results = json.loads(json.dumps(results))  # as they will be read
        stored.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    page = folder / "RESULTS.md"
    page.write_text(written(results), encoding="utf-8")
    say(page.read_text(encoding="utf-8"))
    return page


def machine(seconds: float) -> dict[str, str]:
    """What the results depend on besides the code."""
    import torch

    names = ("latentstem", "torch", "pytorch-lightning", "numpy", "scikit-learn", "hyperspy")
    return {
        "measured": time.strftime("%Y-%m-%d"),
        "in": f"{seconds:.0f} s",
        "on": f"{_processor()}, {os.cpu_count()} cores",
        "threads": str(torch.get_num_threads()),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "Python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
