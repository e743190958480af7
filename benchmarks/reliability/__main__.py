"""Try to break it, and write ``docs/RELIABILITY.md``: ``python -m benchmarks.reliability [--only kills] [--quick]``.

Each part is a module of this package with two functions: ``measure(quick) -> dict`` of plain values, and
``section(values) -> str``, its part of the page in Markdown.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from pathlib import Path
from types import ModuleType

from ..__main__ import machine

PARTS = ("kills", "interrupts", "inputs", "files", "soak", "environments")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "RELIABILITY.md"
_INTRODUCTION = """\
# Reliability

Made by `python -m benchmarks.reliability`: each section says which command printed it, when and on which machine.
What is promised of files from strangers is in [SECURITY.md](../SECURITY.md).
"""


def main(arguments: list[str] | None = None) -> Path:
    """Run what is asked for; results of other parts are kept. Returns the path of the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to run")
    parser.add_argument("--quick", action="store_true", help="few tries: shows that it runs")
    parser.add_argument(
        "--output", type=Path, help="folder for RELIABILITY.md and results.json, from which it is made"
    )
    asked = parser.parse_args(arguments)
    folder = asked.output or (Path("reliability_quick") if asked.quick else None)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    stored = (folder or Path(__file__).parent) / "results.json"
    page = folder / PAGE.name if folder else PAGE
    results = json.loads(stored.read_text(encoding="utf-8")) if stored.exists() else {}
    for name in asked.only:
        print(f"== {name}", flush=True)
        start = time.perf_counter()
        values = _part(name).measure(asked.quick)
        results[name] = {"values": values, "machine": machine(time.perf_counter() - start)}
        results = json.loads(json.dumps(results))  # as they will be read
        stored.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    page.write_text(_written(results), encoding="utf-8")
    print(page.read_text(encoding="utf-8"))
    return page


def _part(name: str) -> ModuleType:
    return importlib.import_module(f"{__package__}.{name}")


def _written(results: dict[str, dict[str, dict]]) -> str:
    sections = [_INTRODUCTION]
    for name in PARTS:
        if name in results:
            about = {"by": f"`python -m benchmarks.reliability --only {name}`", **results[name]["machine"]}
            sections.append(_part(name).section(results[name]["values"]))
            sections.append("*" + ", ".join(f"{key} {value}" for key, value in about.items()) + "*\n")
    return "\n".join(sections)


if __name__ == "__main__":
    main()
