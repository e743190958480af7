"""The Lightning trainer of a run, and its callbacks: history, early stopping, time limit, progress bar."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import EarlyStopping, Timer, TQDMProgressBar, WeightAveraging
from torch import Tensor

from ..nn.autoencoder import Autoencoder
from .checkpoint_callback import AtomicCheckpointIO, BestAndLastCheckpoint
from .process_group import ProcessGroup
from .tensorboard_logger import EventFileLogger
from .training_module import TrainingModule

__all__ = ["TimeLimit", "build_trainer"]

_EMA_DECAY = 0.995  # decay per step of the running average of the weights


def build_trainer(
    autoencoder: Autoencoder,
    checkpoints: BestAndLastCheckpoint,
    callbacks: Sequence[L.Callback],
    *,
    group: ProcessGroup,
    accelerator: str,
    max_epochs: int,
    output_dir: Path | None,
    progress: bool,
) -> L.Trainer:
    """Create the trainer of a run; `callbacks` are the user's, and logs go to `output_dir`."""
    config, network = autoencoder.config, autoencoder.network
    # after a validation, the user's callbacks must run before WeightAveraging replaces the averaged weights again
    all_callbacks: list[L.Callback] = [HistoryRecorder(), checkpoints, *callbacks]
    if network.optimiser == "muon":
        # Validate and save a running average of the weights: it has the effect of a small learning rate at every
        # validation. Otherwise long runs would fit noise before the learning rate has fallen.
        all_callbacks.append(WeightAveraging(multi_avg_fn=_update_average))
    if config.patience is not None:
        all_callbacks.append(ResumableEarlyStopping(config.patience))
    if config.max_time is not None:
        all_callbacks.append(TimeLimit(config.max_time, interval="step", verbose=False))
    if progress:
        all_callbacks.append(ProgressBar(leave=True))
    if group.world_size > 1:
        all_callbacks.append(SynchronisedStop())
    # without neighbours the ring weights get no gradient, without Poisson likelihood the background factor
    has_unused = network.n_components > 0 and (config.context == 0 or not autoencoder.likelihood.counts)
    writes_logs = output_dir is not None and group.is_rank_zero
    return L.Trainer(
        accelerator=accelerator,
        **group.trainer_arguments(find_unused_parameters=has_unused),
        precision=config.precision,
        max_epochs=max_epochs,
        gradient_clip_val=config.gradient_clip or None,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        callbacks=all_callbacks,
        plugins=[AtomicCheckpointIO()] if output_dir else [],
        logger=EventFileLogger(Path(output_dir or "") / "tb_logs") if writes_logs else False,
        log_every_n_steps=1,
        enable_progress_bar=progress,
        enable_model_summary=False,
    )


@torch.no_grad()
def _update_average(average: list[Tensor], weights: list[Tensor], number: Tensor) -> None:
    """Exponential moving average over about a tenth of the steps so far, but at most 1 / (1 - _EMA_DECAY) steps."""
    torch._foreach_lerp_(average, weights, 1 - min(_EMA_DECAY, (1 + float(number)) / (10 + float(number))))


class ResumableEarlyStopping(EarlyStopping):
    """Early stopping that stays stopped when the run is resumed."""

    #: key of this callback's state in checkpoints
    state_key = "Patience{'monitor': 'val/loss', 'mode': 'min'}"

    def __init__(self, patience: int) -> None:
        super().__init__("val/loss", patience=patience)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop if the run had been stopped before."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


class ProgressBar(TQDMProgressBar):
    """Lightning's progress bar, closed also after an error or interrupt."""

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Close open bars, so that later bars start on a new line."""
        for bar in (self._val_progress_bar, self._train_progress_bar):
            if bar is not None:
                bar.close()


class TimeLimit(Timer):
    """Stop after a time limit; a resumed run gets the full time again."""

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Pass the elapsed fraction to the learning-rate schedule."""
        if isinstance(pl_module, TrainingModule):
            elapsed, remaining = self.time_elapsed(), self.time_remaining() or 0.0
            fraction = elapsed / max(elapsed + remaining, 1e-9)
            pl_module.elapsed_fraction = trainer.strategy.broadcast(fraction)  # all ranks use rank 0's clock

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do not restore the elapsed time."""


class SynchronisedStop(L.Callback):
    """Stop all ranks as soon as one wants to stop; otherwise they would wait for each other forever.

    Must be the last callback.
    """

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Synchronise after each step."""
        trainer.should_stop = trainer.strategy.reduce_boolean_decision(trainer.should_stop, all=False)

    on_train_start = on_validation_end = on_train_epoch_end = on_train_batch_end


class HistoryRecorder(L.Callback):
    """Append each epoch's metrics to the model's history; log the learning rate and the penalty weights."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Append one value to each entry of the history."""
        if not isinstance(pl_module, TrainingModule):
            return
        pl_module.log_dict(pl_module.pop_epoch_means(), batch_size=1, sync_dist=True)
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        values["epoch"] = trainer.current_epoch
        values["patterns_seen"] = trainer.global_step * pl_module.config.batch_size
        values["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        for name, value in values.items():
            pl_module.autoencoder.history.setdefault(name, []).append(value)
        if trainer.logger is not None:
            weights = {
                f"weights/{name}": value for name, value in pl_module.autoencoder.penalty_weights.items()
            }
            trainer.logger.log_metrics(
                {"learning_rate": values["learning_rate"], **weights}, step=trainer.global_step
            )
