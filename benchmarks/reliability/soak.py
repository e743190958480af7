"""Many trainings in one process, and several at once: does anything grow, does anything disturb?"""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

import latentstem

__all__ = ["levels", "measure", "section"]

_WARM = 0.2  # share of the trainings after which caches are taken to be full
_KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"output_dir": "output"},
    {"network": "resnet", "epochs": 1},
    {"preprocessing": "zscore", "reconstruction": "mse", "realtime_metrics": True},
    {"workers": 2, "epochs": 1},
    {"patience": 1, "max_time": "00:00:01:00"},
)


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


def levels(trainings: int, say: Callable[[str], object] = lambda text: None) -> dict[str, Any]:
    """Train, embed, reconstruct, save and load so many times, and read the process's levels after each."""
    scan, process = _scan(), psutil.Process()
    series: dict[str, list[float]] = {name: [] for name in ("memory", "files", "threads", "shared")}
    with tempfile.TemporaryDirectory(prefix="latentstem-soak-") as name:
        folder = Path(name)
        for number in range(trainings):
            kind = dict(_KINDS[number % len(_KINDS)])
            if "output_dir" in kind:
                kind["output_dir"] = folder / kind["output_dir"]
            model = _train(scan, number, **kind)
            model.embed(scan)
            model.reconstruct(scan[:2])
            latentstem.load(model.save(folder / "ae.ckpt"))
            shutil.rmtree(folder / "output", ignore_errors=True)
            series["memory"].append(process.memory_info().rss / 1e6)
            series["files"].append(process.num_fds())
            series["threads"].append(process.num_threads())
            series["shared"].append(len(list(Path("/dev/shm").glob("*"))))
            if (number + 1) % 20 == 0:
                say(
                    f"{number + 1}: "
                    + ", ".join(f"{name} {values[-1]:.0f}" for name, values in series.items())
                )
        left = len(list(folder.iterdir())) - 1
    warm = int(_WARM * trainings)
    at = np.arange(warm, trainings)
    return {
        "trainings": trainings,
        "warm": warm,
        "first": {name: values[warm] for name, values in series.items()},
        "last": {name: values[-1] for name, values in series.items()},
        "per 100": {
            name: 100 * float(np.polyfit(at, values[warm:], 1)[0]) for name, values in series.items()
        },
        "left": left,
    }


def _scan() -> np.ndarray:
    return latentstem.simulate((12, 10), (16, 20), dose=300, n_grains=3).counts


def _train(scan: np.ndarray, seed: int, **arguments: Any) -> latentstem.LatentModel:
    from latentstem.nn.networks import resnet

    resnet._WIDTH = 8  # a narrow edition of the reference network
    quick = {"latent_dim": 4, "epochs": 3, "batch_size": 16, "progress": False, "seed": seed}
    return latentstem.train_autoencoder(scan, **{**quick, **arguments})


def _latents(seed: int) -> np.ndarray:
    torch.set_num_threads(1)
    scan = _scan()
    return _train(scan, seed).embed(scan).maps


def _in_threads(rounds: int) -> dict[str, int]:
    """Two trainings at once in threads, again and again, against each alone."""
    torch.set_num_threads(1)
    scan, alone = _scan(), [_latents(seed) for seed in (1, 2)]
    equal, before = 0, threading.active_count()
    for _ in range(rounds):
        with ThreadPoolExecutor(2) as pool:
            models = list(pool.map(lambda seed: _train(scan, seed), (1, 2)))
        equal += sum(np.array_equal(m.embed(scan).maps, want) for m, want in zip(models, alone, strict=True))
    return {"trainings": 2 * rounds, "equal": equal, "threads left": threading.active_count() - before}


def section(values: dict[str, Any]) -> str:
    """The part of the page."""
    soak, threads, processes = values["soak"], values["threads"], values["processes"]
    lines = [
        "## Soak\n",
        f"{soak['trainings']} trainings of {len(_KINDS)} kinds in one process, after each of which a scan was embedded and "
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
