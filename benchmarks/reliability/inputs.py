"""Every kind of good and bad input, through training, embedding and reconstruction: what does it end in?"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from hostile.cases import outcome
from hostile.input_cases import all_cases


def measure(quick: bool = False) -> dict[str, Any]:
    """Try all cases, or every seventh."""
    known: dict[str, np.ndarray] = {}
    cases = all_cases()
    families: dict[str, Counter[str]] = {}
    wrong = {}
    for number, case in enumerate(cases):
        if quick and number % 7:
            continue
        ended = outcome(case, known)
        family = case.name.partition(":")[0]
        families.setdefault(family, Counter())[ended.partition(":")[0]] += 1
        if ended.startswith("WRONG"):
            wrong[case.name] = ended
            print(f"{case.name!r}: {ended}", flush=True)
    return {"families": {name: dict(ends) for name, ends in families.items()}, "wrong": wrong}


def section(values: dict[str, Any]) -> str:
    """How many cases ended in what."""
    total = Counter[str]()
    for ends in values["families"].values():
        total.update(ends)
    n, results, wrong = total.total(), total["result"], total["WRONG"]
    lines = [
        "## Bad and odd input",
        "",
        f"{n} inputs were trained on, embedded and reconstructed. {results} ended in a result that was checked (finite "
        "where it should be, NaN where excluded, a mean like that of the data, the same for equal data in another "
        f"dtype or layout, the input unchanged), {n - results - wrong} in one of our errors, with a message that says "
        f"what was expected, what came and what to do; {wrong} in something else.",
        "",
        "| input | cases | results | our errors | anything else |",
        "|---|---|---|---|---|",
    ]
    for name, ends in values["families"].items():
        n, results, other = sum(ends.values()), ends.get("result", 0), ends.get("WRONG", 0)
        lines.append(f"| {name} | {n} | {results} | {n - results - other} | {other} |")
    errors = {name: n for name, n in total.most_common() if name not in ("result", "WRONG")}
    lines += ["", "Errors: " + ", ".join(f"{name} {n}" for name, n in errors.items()) + ".", ""]
    lines += [f"- {name}: {ended}" for name, ended in values["wrong"].items()]
    return "\n".join(lines)
