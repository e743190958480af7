"""One process against two that train together."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytorch_lightning as L

from . import autoencoder as ae
from .scans import TYPICAL, benchmark_scan, masked

__all__ = ["processes"]

TRAINED = 100_000  # patterns
SEEDS = 3


class WrittenClock(ae.StepClock):
    """A clock of steps that is read in another process: it leaves seconds per step in a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self.path.write_text(json.dumps(self.seconds_per_step), encoding="utf-8")


def processes(quick: bool) -> dict[str, Any]:
    """Speed and result of training on one process and on two that share its cores, each with three seeds."""
    scan = benchmark_scan(TYPICAL, quick)
    found: dict[str, Any] = {}
    for devices in (1, 2):
        found[devices] = []
        for seed in range(1 if quick else SEEDS):
            with tempfile.TemporaryDirectory() as folder:
                clock = WrittenClock(Path(folder) / "seconds.json")
                model, seconds = ae.train(
                    masked(scan), quick, max_patterns=TRAINED, max_time=None, seed=seed,
                    devices=devices, strategy="ddp_notebook", callbacks=[clock],
                )  # fmt: skip
                step = json.loads(clock.path.read_text(encoding="utf-8"))
            found[devices].append({
                "patterns/s": model.config.batch_size / step,
                "seconds": seconds,
                "validation loss": min(model.history["val/loss"]),
                "efficiency": ae.scores_of(model, scan)["efficiency"]["all"],
            })  # fmt: skip
            print(f"{devices} processes, seed {seed}: {found[devices][-1]}", flush=True)
    return found
