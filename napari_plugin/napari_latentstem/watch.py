"""What a run of training is watched with. Imports Lightning, so it is imported when training starts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from math import ceil
from typing import Any

import numpy as np
import pytorch_lightning as L

from latentstem import Autoencoder, Scan
from latentstem.training.callbacks import TimeLimit

from .worker import Progress, Validated

__all__ = ["Watch"]

_EVERY = 0.25  # seconds between two reports of progress
_SHARE = 2  # one position is embedded for so many patterns that were trained on: some percent of the time
_FEWEST, _MOST = 64, 4096  # positions that are embedded after a validation
_BATCH = 256


class Watch(L.Callback):
    """Tells how training goes on, and stops it.

    Parameters
    ----------
    tell : callable
        Takes `Progress` and `Validated`.
    stop : threading.Event
        Training ends after the step in which it is set.
    began : callable
        Called when everything is prepared.
    """

    def __init__(
        self,
        tell: Callable[[Progress | Validated], None],
        stop: threading.Event,
        began: Callable[[], None],
    ) -> None:
        self._tell, self._stop, self._began = tell, stop, began
        self.stepped = False
        self._maps: np.ndarray | None = None
        self._first = self._embedded = 0
        self._start = self._told = 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Training begins, unless it was stopped meanwhile."""
        self._began()
        trainer.should_stop = trainer.should_stop or self._stop.is_set()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the time."""
        self._first = self._embedded = trainer.global_step
        self._start = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop when asked to, and tell how far it is, but not more often than anybody can read it."""
        self.stepped = True
        if self._stop.is_set():
            trainer.should_stop = True
        step, steps, now = trainer.global_step, pl_module.total_steps, time.monotonic()
        validates = trainer.is_last_batch or trainer.should_stop
        if now - self._told < _EVERY and not validates:
            return
        self._told = now
        left = (now - self._start) / max(1, step - self._first) * (steps - step)
        limits = [callback for callback in trainer.callbacks if isinstance(callback, TimeLimit)]
        left = min([left, *(limit.time_remaining() or 0.0 for limit in limits)])
        self._tell(Progress(step, steps, max(0.0, left), float(outputs["loss"])))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Embed some of the scan with the weights that were validated."""
        patterns = (trainer.global_step - self._embedded) * pl_module.config.batch_size
        self._embedded = trainer.global_step
        reader = trainer.datamodule.reader
        wanted = int(np.clip(patterns // _SHARE, _FEWEST, _MOST))
        self._maps = _forming(pl_module, reader, wanted)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell of the validation, whose figures are in the history now."""
        if self._maps is not None:
            history = {name: list(values) for name, values in pl_module.history.items()}
            self._tell(Validated(trainer.current_epoch, history, self._maps))
            self._maps = None


def _forming(module: Autoencoder, reader: Any, wanted: int) -> np.ndarray:
    """Latents (Ny, Nx, k) of about so many positions, each for its surroundings where it is on a coarse grid."""
    scan: Scan = reader.scan
    (ny, nx), excluded = scan.scan_shape, reader.excluded
    if scan.source.array is None:  # whole storage chunks of a scan that does not fit into memory
        step = 1
        blocks = list(scan.blocks(1024))
        number = min(len(blocks), max(1, wanted // len(blocks[0])))
        chosen = np.linspace(0, len(blocks) - 1, number).astype(int)
        positions = np.concatenate([blocks[n] for n in chosen])
    else:
        step = max(1, ceil((ny * nx / wanted) ** 0.5))
        rows, columns = (np.minimum(np.arange(0, n, step) + step // 2, n - 1) for n in (ny, nx))
        positions = (rows[:, None] * nx + columns).ravel()
    latents = np.full((len(positions), int(module.config.latent_dim)), np.nan, np.float32)
    included = np.flatnonzero(~excluded.ravel()[positions])
    for part in np.array_split(included, ceil(len(included) / _BATCH) or 1):
        if len(part):
            batch = module.transfer_batch_to_device(reader(positions[part]), module.device, 0)
            latents[part] = module.encode_batch(batch).float().cpu().numpy()
    if step > 1:
        coarse = latents.reshape(len(rows), len(columns), -1)
        maps = np.repeat(np.repeat(coarse, step, 0), step, 1)[:ny, :nx]
    else:
        maps = np.full((ny * nx, latents.shape[1]), np.nan, np.float32)
        maps[positions] = latents
        maps = maps.reshape(ny, nx, -1)
    maps[excluded] = np.nan
    return maps
