"""Many trainings in one process, and several at once: does anything grow, does anything disturb?"""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from hostile.process_levels import VARIANTS, levels, scan_counts, train

__all__ = ["measure", "section"]


def measure(quick: bool) -> dict[str, Any]:
    """Soak in a fresh process, then threads, then processes."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        soaked = pool.submit(levels, 12 if quick else 200, print).result()
    with ProcessPoolExecutor(1, context) as pool:
        threads = pool.submit(_in_threads, 1 if quick else 10).result()
    seeds = range(2 if quick else 6)
    with ProcessPoolExecutor(1, context) as alone, ProcessPoolExecutor(2, context) as pool:
        want, got = list(alone.map(_latents, seeds)), list(pool.map(_latents, seeds))
    equal = sum(np.array_equal(one, other) for one, other in zip(want, got, strict=True))
    return {"soak": soaked, "threads": threads, "processes": {"trainings": len(seeds), "equal": equal}}


def _latents(seed: int) -> np.ndarray:
    torch.set_num_threads(1)
    scan = scan_counts()
    return train(scan, seed).embed(scan).maps


def _in_threads(rounds: int) -> dict[str, int]:
    """Two trainings at once in threads, again and again, against each alone."""
    torch.set_num_threads(1)
    scan, alone = scan_counts(), [_latents(seed) for seed in (1, 2)]
    equal, before = 0, threading.active_count()
    for _ in range(rounds):
        with ThreadPoolExecutor(2) as pool:
            models = list(pool.map(lambda seed: train(scan, seed), (1, 2)))
        equal += sum(np.array_equal(m.embed(scan).maps, want) for m, want in zip(models, alone, strict=True))
    return {"trainings": 2 * rounds, "equal": equal, "threads left": threading.active_count() - before}


def section(values: dict[str, Any]) -> str:
    """The part of the page."""
    soak, threads, processes = values["soak"], values["threads"], values["processes"]
    lines = [
        "## Soak\n",
        f"{soak['trainings']} trainings of {len(VARIANTS)} kinds in one process, after each of which a scan was embedded and "
        "reconstructed, and the model saved and loaded:\n",
        f"| | after {soak['warm'] + 1} | after {soak['trainings']} | per 100 trainings |",
        "|---|---|---|---|",
    ]
    told = {
        "memory": "resident memory, MB",
        "files": "open files",
        "threads": "threads",
        "shared": "shared memory files",
    }
    for name, what in told.items():
        first, last, slope = (soak[part][name] for part in ("first", "last", "per 100"))
        lines.append(f"| {what} | {first:.0f} | {last:.0f} | {slope:+.1f} |")
    lines.append(
        f"\nTwo trainings at once ended with the latents of each alone: {threads['equal']} of {threads['trainings']} in "
        f"threads of one process (threads left over: {threads['threads left']}), {processes['equal']} of "
        f"{processes['trainings']} in processes.\n"
    )
    return "\n".join(lines)
