"""Lightning callback that reports progress to the panel. Import it when training starts: Lightning takes seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from math import ceil
from typing import Any

import numpy as np
import pytorch_lightning as L

from latentstem import Autoencoder, Scan
from latentstem.nn.batches import PatternBatch, ScoreBatch
from latentstem.nn.preprocessing import patterns_to_tensor
from latentstem.nn.scan_scores import ScanScores
from latentstem.training.trainer import TimeLimit

from .events import Progress, Validated

__all__ = ["TrainingCallback"]

_REPORT_SECONDS = 0.25  # least time between two reports of progress
# patterns trained on for each pattern embedded, so that embedding takes a few percent of the time
_TRAINED_PER_EMBEDDED = 2
_MIN_EMBEDDED, _MAX_EMBEDDED = 64, 4096  # scan positions embedded after a validation
_BATCH = 256


class TrainingCallback(L.Callback):
    """Reports the progress of training, and stops it.

    Parameters
    ----------
    report : callable
        Called with `Progress` and `Validated`.
    stop : threading.Event
        Training ends after the step during which it is set.
    on_prepared : callable
        Called when the scan has been prepared and training starts.
    """

    def __init__(
        self,
        report: Callable[[Progress | Validated], None],
        stop: threading.Event,
        on_prepared: Callable[[], None],
    ) -> None:
        self._report, self._stop, self._on_prepared = report, stop, on_prepared
        self.has_stepped = False
        self._maps: np.ndarray | None = None
        self._first_step = self._embedded_step = 0
        self._start_time = self._report_time = 0.0

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Start, unless stopped during the preparation."""
        self._on_prepared()
        trainer.should_stop = trainer.should_stop or self._stop.is_set()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock."""
        self._first_step = self._embedded_step = trainer.global_step
        self._start_time = time.monotonic()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop if requested; report the progress, but at most four times a second."""
        self.has_stepped = True
        if self._stop.is_set():
            trainer.should_stop = True
        step, steps, now = trainer.global_step, pl_module.total_steps, time.monotonic()
        is_last = trainer.is_last_batch or trainer.should_stop
        if now - self._report_time < _REPORT_SECONDS and not is_last:
            return
        self._report_time = now
        seconds_left = (now - self._start_time) / max(1, step - self._first_step) * (steps - step)
        limits = [callback for callback in trainer.callbacks if isinstance(callback, TimeLimit)]
        seconds_left = min([seconds_left, *(limit.time_remaining() or 0.0 for limit in limits)])
        self._report(Progress(step, steps, max(0.0, seconds_left), float(outputs["loss"])))

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Embed part of the scan with the weights that were validated."""
        trained_on = (trainer.global_step - self._embedded_step) * pl_module.config.batch_size
        self._embedded_step = trainer.global_step
        n_positions = int(np.clip(trained_on // _TRAINED_PER_EMBEDDED, _MIN_EMBEDDED, _MAX_EMBEDDED))
        self._maps = _coarse_latent_maps(
            pl_module.autoencoder, trainer.datamodule.scan, trainer.datamodule.scores, n_positions
        )

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Report the validation; its metrics are in the history by now."""
        if self._maps is not None:
            history = {name: list(values) for name, values in pl_module.autoencoder.history.items()}
            self._report(Validated(trainer.current_epoch, history, self._maps))
            self._maps = None


def _coarse_latent_maps(
    autoencoder: Autoencoder, scan: Scan, scores: ScanScores, n_positions: int
) -> np.ndarray:
    """Latents (Ny, Nx, k) of about `n_positions` scan positions; see `Validated`."""
    ny, nx = scan.scan_shape
    excluded = scan.excluded
    device = autoencoder.preprocessing.scale.device
    if scan.source.array is None:  # streamed from disk: read whole storage blocks
        step = 1
        blocks = list(scan.blocks(1024))
        n_blocks = min(len(blocks), max(1, n_positions // len(blocks[0])))
        positions = np.concatenate([blocks[n] for n in np.linspace(0, len(blocks) - 1, n_blocks).astype(int)])
    else:
        step = max(1, ceil((ny * nx / n_positions) ** 0.5))
        rows, columns = (np.minimum(np.arange(0, n, step) + step // 2, n - 1) for n in (ny, nx))
        positions = (rows[:, None] * nx + columns).ravel()
    latents = np.full((len(positions), autoencoder.network.latent_dim), np.nan, np.float32)
    included = np.flatnonzero(~excluded.ravel()[positions])
    for indices in np.array_split(included, ceil(len(included) / _BATCH) or 1):
        if len(indices):
            batch_positions = positions[indices]
            batch = PatternBatch(
                patterns_to_tensor(scan.read(batch_positions)).to(device),
                ScoreBatch(*(values.to(device) for values in scores(batch_positions))),
            )
            latents[indices] = autoencoder.encode_batch(batch).float().cpu().numpy()
    if step > 1:
        coarse = latents.reshape(len(rows), len(columns), -1)
        maps = np.repeat(np.repeat(coarse, step, 0), step, 1)[:ny, :nx]
    else:
        maps = np.full((ny * nx, latents.shape[1]), np.nan, np.float32)
        maps[positions] = latents
        maps = maps.reshape(ny, nx, -1)
    maps[excluded] = np.nan
    return maps
