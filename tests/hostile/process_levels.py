"""Many trainings in one process, and what the process holds after each: memory, files, threads."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import latentstem

__all__ = ["VARIANTS", "levels", "scan_counts", "train"]

_WARM = 0.2  # fraction of the trainings after which caches are taken to be full
#: arguments of the trainings, in turn
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"output_dir": "output"},
    {"network": "resnet", "epochs": 1},
    {"preprocessing": "zscore", "reconstruction": "mse", "realtime_metrics": True},
    {"workers": 2, "epochs": 1},
    {"patience": 1, "max_time": "00:00:01:00"},
)


def levels(trainings: int, say: Callable[[str], object] = lambda text: None) -> dict[str, Any]:
    """Train, embed, reconstruct, save and load so many times, and read the process's levels after each."""
    scan, process = scan_counts(), psutil.Process()
    series: dict[str, list[float]] = {name: [] for name in ("memory", "files", "threads", "shared")}
    with tempfile.TemporaryDirectory(prefix="latentstem-soak-") as name:
        folder = Path(name)
        for number in range(trainings):
            arguments = dict(VARIANTS[number % len(VARIANTS)])
            if "output_dir" in arguments:
                arguments["output_dir"] = folder / arguments["output_dir"]
            model = train(scan, number, **arguments)
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


def scan_counts() -> np.ndarray:
    """Counts (12, 10, 16, 20) of a few grains."""
    return latentstem.simulate((12, 10), (16, 20), dose=300, n_grains=3).counts


def train(scan: np.ndarray, seed: int, **arguments: Any) -> latentstem.LatentModel:
    """A short training."""
    from latentstem.nn.networks import resnet

    resnet._CHANNELS = 8  # a narrow edition of the reference network
    quick = {"latent_dim": 4, "epochs": 3, "batch_size": 16, "progress": False, "seed": seed}
    return latentstem.train_autoencoder(scan, **{**quick, **arguments})
