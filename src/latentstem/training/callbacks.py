"""What is recorded and kept while a run goes on, and what stops it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as L
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping, Timer, TQDMProgressBar
from torch import Tensor

from ..errors import ArgumentText, CheckpointError, StorageError
from ..io.checkpoint import read_checkpoint, write_checkpoint
from ..util.whole_file import atomic_write, remove_partial_files
from .training_module import TrainingModule

__all__ = ["Bar", "Checkpoints", "HistoryRecorder", "Patience", "StopTogether", "TimeLimit", "WholeFiles"]

_EVERY = 120.0  # seconds after which a run is worth keeping between two validations


class WholeFiles(CheckpointIO):
    """Lightning's checkpoints through our functions: a file is whole or not there, and nothing in it is executed."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """See `write_checkpoint`."""
        write_checkpoint(checkpoint, path)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """See `read_checkpoint`."""
        return read_checkpoint(path)

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a file, if it is there."""
        Path(path).unlink(missing_ok=True)


class Checkpoints(Checkpoint):
    """Keeps ``best.ckpt``, of the lowest validation loss, and ``last.ckpt``, from which a run can go on.

    ``last.ckpt`` is written after the first step (so that a folder that cannot be written to is told at once), at
    every validation, and every two minutes between validations.

    Parameters
    ----------
    folder : Path
        Where they go.
    resumed : Path, optional
        Checkpoint of the run that is continued. The best one is looked for beside it.
    writes : bool
        Whether this is the process that writes files.
    resumable : bool
        Whether ``last.ckpt`` is wanted.
    """

    def __init__(
        self, folder: Path, resumed: Path | None = None, writes: bool = True, *, resumable: bool = True
    ) -> None:
        self.best, self.last = folder / "best.ckpt", folder / "last.ckpt"
        self.best_score: float | None = None
        self._resumed, self._writes, self._resumable = resumed, writes, resumable
        self._written, self._in_epoch, self._best_step = -float("inf"), False, -1
        self._shared = False  # whether the last file is the best one

    @property
    def state_key(self) -> str:
        """Under this name the state is kept."""
        return "Checkpoints"

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Remove what a killed run has left half-written."""
        for path in (self.best, self.last) if self._writes else ():
            remove_partial_files(path)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Keep what has been done since the last validation, if that is much."""
        due = self._resumable and time.monotonic() - self._written > _EVERY and not trainer.is_last_batch
        if trainer.strategy.broadcast(due):  # one process decides for all
            self._in_epoch = True
            try:
                self._write(trainer, self.last)
            finally:
                self._in_epoch = False

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the best and the last weights, in this order: after a kill between them, the epoch is done again."""
        loss = trainer.callback_metrics.get("val/loss")
        if loss is not None and (self.best_score is None or float(loss) < self.best_score):
            self.keep_best(trainer, float(loss))
        if self._resumable:
            self._write(trainer, self.last)

    def keep_best(self, trainer: L.Trainer, score: float) -> None:
        """Write the present weights as the best."""
        self.best_score = score
        self._write(trainer, self.best)
        self._best_step = trainer.global_step

    def keep_axes(self, axes: dict[str, Tensor]) -> None:
        """Write the axes of the latents beside the best weights, which stay such that a run can go on from them."""
        if not self._resumable or self.best_score is None:
            return
        try:
            content = read_checkpoint(self.best)
        except CheckpointError:  # which has been told
            return
        content["latentstem"]["axes"] = axes
        with self._told():
            write_checkpoint(content, self.best)
            if self._shared:
                _share(self.best, self.last)

    def _write(self, trainer: L.Trainer, path: Path) -> None:
        with self._told():
            same = path == self.last and self._best_step == trainer.global_step and self.best.is_file()
            if trainer.strategy.broadcast(same):  # the two are written once
                if self._writes:
                    _share(self.best, path)
            else:
                trainer.save_checkpoint(path)
        self._shared = same
        self._written = time.monotonic()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say what to do, where a checkpoint cannot be written."""
        try:
            yield
        except StorageError as error:
            raise StorageError(
                "training stopped, as its checkpoint cannot be written",
                expected=error.expected,
                received=error.received,
                advice=self._advice(),
            ) from error

    def _advice(self) -> str:
        if not self.last.is_file():
            return "Make room, or choose another output_dir; there is no checkpoint to go on from."
        return ArgumentText(
            "Make room, then go on from the last good checkpoint with {resume_from}.",
            resume_from=str(self.last),
        )

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say that the epoch has not begun, where it is not over: what follows is the rest of its steps.

        The data module gives what is left of an epoch by the number of the step; Lightning has to count from 0.
        """
        if not self._in_epoch:
            return
        loops = checkpoint["loops"]["fit_loop"]
        for progress in (loops["epoch_progress"], loops["epoch_loop.batch_progress"]):
            for counts in (progress["total"], progress["current"]):
                counts.update(dict.fromkeys(counts, counts["processed"]))
        loops["epoch_loop.batch_progress"]["current"] = dict.fromkeys(
            loops["epoch_loop.batch_progress"]["current"], 0
        )
        loops["epoch_loop.state_dict"]["_batches_that_stepped"] += 1

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know."""
        return {"best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the best checkpoint of the interrupted run, wherever that was."""
        before = self.best if self._resumed is None else self._resumed.with_name("best.ckpt")
        if not before.is_file():
            return
        # It may be of a later epoch than the one that is resumed, so it is asked itself.
        self.best_score = read_checkpoint(before)["callbacks"][self.state_key]["best_score"]
        if before.resolve() != self.best.resolve() and self._writes:
            _share(before, self.best)


def _share(file: Path, path: Path) -> None:
    """Give a file a second name, or copy it where that cannot be."""
    with atomic_write(path) as beside:
        try:
            os.link(file, beside)
        except OSError:
            shutil.copyfile(file, beside)


class Patience(EarlyStopping):
    """Stops after some validations without improvement; a run that it has stopped stays so when it is resumed."""

    def __init__(self, patience: int) -> None:
        super().__init__("val/loss", patience=patience)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop if the run had been stopped before."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


class Bar(TQDMProgressBar):
    """Lightning's progress bar, which ends its line also when training ends with an error or an interrupt."""

    def __init__(self) -> None:
        super().__init__(leave=True)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Close what is open, else later bars are shown below it."""
        for bar in (self._val_progress_bar, self._train_progress_bar):
            if bar is not None:
                bar.close()


class TimeLimit(Timer):
    """Stops training after some time, which a resumed run has anew."""

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Tell the learning-rate schedule how much of the time is over."""
        remaining = self.time_remaining() or 0.0
        if isinstance(pl_module, TrainingModule):
            elapsed = self.time_elapsed()
            share = elapsed / max(elapsed + remaining, 1e-9)
            pl_module.time_share = trainer.strategy.broadcast(share)  # one clock for all processes

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Forget the time that is over."""


class StopTogether(L.Callback):
    """Stops all processes when one of them has been told to stop: it would wait for the others for ever. The last one."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Ask after each step, which other callbacks may have ended."""
        trainer.should_stop = trainer.strategy.reduce_boolean_decision(trainer.should_stop, all=False)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Ask before the first step."""
        self.on_train_batch_end(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Ask after each validation."""
        self.on_train_batch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Ask after each epoch."""
        self.on_train_batch_end(trainer, pl_module)


class HistoryRecorder(L.Callback):
    """Keeps the metrics of every epoch in the model's history, and the weights of the terms in the logger."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Append one value to each series."""
        if not isinstance(pl_module, TrainingModule):
            return
        config = pl_module.config
        pl_module.log_dict(pl_module.take_means(), batch_size=1, sync_dist=True)
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        values["epoch"] = trainer.current_epoch
        values["patterns_seen"] = trainer.global_step * config.batch_size
        values["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        for name, value in values.items():
            pl_module.autoencoder.history.setdefault(name, []).append(value)
        if trainer.logger is not None:
            weights = {
                f"weights/{name}": getattr(config, name)
                for name in ("lambda_act", "lambda_sim", "lambda_div")
            }
            trainer.logger.log_metrics(
                {"learning_rate": values["learning_rate"], **weights}, step=trainer.global_step
            )
