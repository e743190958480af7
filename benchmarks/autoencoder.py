"""Training runs of the benchmarks, and callbacks that watch them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import WeightAveraging

import latentstem
from latentstem.inference.model import LatentModel
from latentstem.nn.batches import PatternBatch
from latentstem.nn.preprocessing import patterns_to_tensor
from latentstem.nn.scan_scores import ScanScores
from latentstem.scan.scan import Scan
from latentstem.simulation.simulate import SimulatedScan

from .scans import masked
from .scores import all_scores, latent_scores

LATENTS = 16
BUDGET = "00:00:02:00"
QUICK: dict[str, Any] = {"max_patterns": 2000, "max_time": None}


def train(data: Any, quick: bool, **arguments: Any) -> tuple[LatentModel, float]:
    """A model with `LATENTS` latents and at most `BUDGET`, defaults otherwise; and the seconds it took."""
    start = time.perf_counter()
    arguments = {"latent_dim": LATENTS, "max_time": BUDGET, **arguments, **(QUICK if quick else {})}
    model = latentstem.train_autoencoder(data, progress=False, **arguments)
    return model, time.perf_counter() - start


def scores_of(model: LatentModel, scan: SimulatedScan) -> dict[str, Any]:
    """Every score of a model on the scan it was trained on."""
    data = masked(scan)
    found = all_scores(model.reconstruct(data), model.embed(data).maps, scan)
    if model.context:
        found["also"] = {"smooth=0": latent_scores(model.embed(data, smooth=0).maps, scan)}
    return found


class StepClock(L.Callback):
    """When each training step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.ends.append(time.perf_counter())

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.ends.append(time.perf_counter())

    @property
    def seconds_per_step(self) -> float:
        """Median over the steps, the first left out where there are others."""
        steps = np.diff(self.ends)
        return float(np.median(steps[1:] if len(steps) > 1 else steps))


class EfficiencyClock(L.Callback):
    """Efficiency on a sample of scan positions over the seconds since `start`, its own time left out.

    Of the running mean of the weights: the model that training would keep if it ended then.

    Parameters
    ----------
    scan : SimulatedScan
        What is trained on.
    start : float
        `time.perf_counter` when the call to train was made.
    positions : int
        Size of the sample.
    """

    def __init__(self, scan: SimulatedScan, start: float, positions: int = 256) -> None:
        where = np.flatnonzero(~scan.scan_mask.ravel() & ~scan.truth["defect"].ravel())
        self.positions = where[np.linspace(0, len(where) - 1, min(positions, len(where))).astype(int)]
        self.data: Scan = masked(scan)
        self.used = ~scan.pattern_mask
        self.clean = np.sqrt(
            scan.expectation.reshape(-1, *scan.pattern_mask.shape)[self.positions][:, self.used]
        )
        self.floor, self.start = scan.n_parameters / 4, start
        self.own, self.next = 0.0, 0.0
        self.batch: PatternBatch | None = None
        self.curve: list[tuple[float, float]] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._measure(trainer)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if time.perf_counter() - self.start - self.own >= self.next:
            self._measure(trainer)

    def seconds_to(self, level: float) -> float | None:
        """When the efficiency first passed a level; None if it never did."""
        return next((seconds for seconds, value in self.curve if value > level), None)

    @torch.no_grad()
    def _measure(self, trainer: L.Trainer) -> None:
        begun = time.perf_counter()
        mean = next(found for found in trainer.callbacks if isinstance(found, WeightAveraging))  # type: ignore[attr-defined]
        autoencoder: Any = mean._average_model.module.autoencoder
        seconds = begun - self.start - self.own
        training = autoencoder.training
        autoencoder.eval()
        if self.batch is None:
            detector = autoencoder.preprocessing.detector
            scores = ScanScores.measure(self.data, autoencoder.principal_components, detector)
            patterns = patterns_to_tensor(self.data.read(self.positions))
            self.batch = PatternBatch(patterns, scores(self.positions))
        found = autoencoder.decode_patterns(autoencoder.encode_batch(self.batch)).numpy()
        autoencoder.train(training)
        error = (np.sqrt(np.maximum(found[:, self.used], 0)) - self.clean) ** 2
        self.curve.append((seconds, float(self.floor / error.sum(1).mean())))
        self.next = seconds * 1.05 + 0.1
        self.own += time.perf_counter() - begun
