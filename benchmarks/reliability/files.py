"""Thousands of damaged and altered files of every kind: what do our readers make of them?"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from hostile.damaged_files import KINDS, MEMORY, SECONDS, read_in_child


def measure(quick: bool = False) -> dict[str, Any]:
    """Damage 300 files of each kind, or 20."""
    n = 20 if quick else 300
    ends: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    wrong: list[str] = []
    start = time.perf_counter()
    for kind in KINDS:
        number = 0
        while number < n:
            done = 0
            for ended in read_in_child(kind, number, n):
                _count(ends[kind], wrong, kind, number + done, ended)
                done += 1
            number += done
            if number < n:  # the child has gone
                _count(
                    ends[kind], wrong, kind, number, "WRONG: the process crashed, or hung inside a library"
                )
                number += 1
        print(f"{kind}: {dict(ends[kind])}", flush=True)
    return {
        "ends": {kind: dict(counted) for kind, counted in ends.items()},
        "wrong": wrong,
        "milliseconds": 1000 * (time.perf_counter() - start) / (n * len(KINDS)),
    }


def section(values: dict[str, Any]) -> str:
    """How many files ended in what."""
    total = Counter[str]()
    for counted in values["ends"].values():
        total.update(counted)
    lines = [
        "## Damaged files",
        "",
        f"{total.total()} files with flipped bits, cut off, mixed, or with absurd numbers in their headers were read, "
        f"each within {SECONDS} s and {MEMORY / 2**30:.0f} GiB. {total['result']} could be read; {total['WRONG']} ended in "
        "something else than a result or one of our errors. A checkpoint that could be read was always the same model as "
        "before: its check sums are compared. Formats of data have none, or not for all they hold: there a flipped bit may be "
        "a changed count.",
        "",
        "| kind | files | read | refused with our error | anything else |",
        "|---|---|---|---|---|",
    ]
    for kind, counted in values["ends"].items():
        n, read, bad = sum(counted.values()), counted.get("result", 0), counted.get("WRONG", 0)
        lines.append(f"| {kind} | {n} | {read} | {n - read - bad} | {bad} |")
    return "\n".join([*lines, "", *(f"- {line}" for line in values["wrong"]), ""])


def _count(ends: Counter[str], wrong: list[str], kind: str, number: int, ended: str) -> None:
    ends[ended.partition(":")[0]] += 1
    if ended.startswith("WRONG"):
        wrong.append(f"{kind} {number}: {ended}")
        print(wrong[-1], flush=True)
