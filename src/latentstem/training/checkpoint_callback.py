"""Checkpoints of a run: ``best.ckpt`` and ``last.ckpt``, written atomically."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as L
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor

from ..errors import ArgumentText, CheckpointError, StorageError
from ..io.checkpoint import read_checkpoint, write_checkpoint
from ..util.whole_file import atomic_write, remove_partial_files

__all__ = ["AtomicCheckpointIO", "BestAndLastCheckpoint"]

_CHECKPOINT_INTERVAL = 120.0  # seconds between checkpoints within an epoch


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning checkpoint IO with atomic writes and safe loading."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """See `write_checkpoint`."""
        write_checkpoint(checkpoint, path)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """See `read_checkpoint`."""
        return read_checkpoint(path)


class BestAndLastCheckpoint(Checkpoint):
    """Save ``best.ckpt`` (lowest validation loss) and ``last.ckpt`` (to resume from).

    ``last.ckpt`` is written after the first step, so that an unwritable folder fails early, at every validation, and
    every two minutes in between.

    Parameters
    ----------
    folder : Path
        Folder of the checkpoints.
    resumed : Path, optional
        Checkpoint of the run that is resumed. Its best checkpoint is expected in the same folder.
    save_last : bool
        Whether to write ``last.ckpt``.
    """

    #: key of this callback's state in checkpoints
    state_key = "Checkpoints"

    def __init__(self, folder: Path, resumed: Path | None = None, *, save_last: bool = True) -> None:
        self.best, self.last = folder / "best.ckpt", folder / "last.ckpt"
        self.best_score: float | None = None
        self._resume_path, self._save_last, self._is_rank_zero = resumed, save_last, True
        self._write_time, self._in_epoch, self._best_step = -float("inf"), False, -1
        self._last_is_best = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Remove partial files of a killed run. Only rank 0 writes files."""
        self._is_rank_zero = trainer.is_global_zero
        for path in (self.best, self.last) if self._is_rank_zero else ():
            remove_partial_files(path)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Save ``last.ckpt`` if the last one is older than two minutes."""
        elapsed = time.monotonic() - self._write_time
        is_due = self._save_last and elapsed > _CHECKPOINT_INTERVAL and not trainer.is_last_batch
        if trainer.strategy.broadcast(is_due):  # rank 0 decides
            self._in_epoch = True
            self._write(trainer, self.last)
            self._in_epoch = False

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save best, then last: if killed in between, a resumed run repeats the epoch."""
        loss = trainer.callback_metrics.get("val/loss")
        if loss is not None and (self.best_score is None or float(loss) < self.best_score):
            self.save_best(trainer, float(loss))
        if self._save_last:
            self._write(trainer, self.last)

    def save_best(self, trainer: L.Trainer, score: float) -> None:
        """Save the present weights as the best."""
        self.best_score = score
        self._write(trainer, self.best)
        self._best_step = trainer.global_step

    def save_latent_axes(self, axes: dict[str, Tensor]) -> None:
        """Add the latent axes to ``best.ckpt``; its weights stay in the training basis, so that it can be resumed."""
        if not self._save_last or self.best_score is None:
            return
        try:
            content = read_checkpoint(self.best)
        except CheckpointError:  # a warning has been given when the model was read from it
            return
        content["latentstem"]["axes"] = axes
        with self._explain_storage_errors():
            write_checkpoint(content, self.best)
            if self._last_is_best:
                _link_or_copy(self.best, self.last)

    def _write(self, trainer: L.Trainer, path: Path) -> None:
        with self._explain_storage_errors():
            best_is_current = self._best_step == trainer.global_step and self.best.is_file()
            is_best = trainer.strategy.broadcast(path == self.last and best_is_current)
            if not is_best:
                trainer.save_checkpoint(path)
            elif self._is_rank_zero:  # best and last are the same: write one file and link it
                _link_or_copy(self.best, path)
        self._last_is_best = is_best
        self._write_time = time.monotonic()

    @contextmanager
    def _explain_storage_errors(self) -> Iterator[None]:
        """Add to storage errors from which checkpoint the run can be resumed."""
        try:
            yield
        except StorageError as error:
            advice = "Make room, or choose another output_dir; there is no checkpoint to resume from."
            if self.last.is_file():
                advice = ArgumentText(
                    "Make room, then resume from the last good checkpoint: {resume_from}.",
                    resume_from=str(self.last),
                )
            raise StorageError(
                "training stopped, as its checkpoint cannot be written",
                expected=error.expected,
                received=error.received,
                advice=advice,
            ) from error

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Within an epoch, reset Lightning's batch counters in the checkpoint.

        After a resume the data module yields only the remaining batches of the epoch, so Lightning has to count them
        from 0.
        """
        if not self._in_epoch:
            return
        loops = checkpoint["loops"]["fit_loop"]
        for progress in (loops["epoch_progress"], loops["epoch_loop.batch_progress"]):
            for counts in (progress["total"], progress["current"]):
                counts.update(dict.fromkeys(counts, counts["processed"]))
        current = loops["epoch_loop.batch_progress"]["current"]
        current.update(dict.fromkeys(current, 0))
        loops["epoch_loop.state_dict"]["_batches_that_stepped"] += 1

    def state_dict(self) -> dict[str, Any]:
        """State for a resumed run."""
        return {"best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best checkpoint of the interrupted run, which may be in another folder."""
        earlier_best = self.best if self._resume_path is None else self._resume_path.with_name("best.ckpt")
        if not earlier_best.is_file():
            return
        # Read the score from the file: it may be newer than the checkpoint from which the run is resumed.
        self.best_score = read_checkpoint(earlier_best)["callbacks"][self.state_key]["best_score"]
        if earlier_best.resolve() != self.best.resolve() and self._is_rank_zero:
            _link_or_copy(earlier_best, self.best)


def _link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it if linking is not possible."""
    with atomic_write(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
