"""The Lightning trainer of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from ..nn.autoencoder import Autoencoder
from .callbacks import HistoryRecorder, ProgressBar, ResumableEarlyStopping, SynchronisedStop, TimeLimit
from .checkpoint_callback import AtomicCheckpointIO, BestAndLastCheckpoint
from .process_group import ProcessGroup
from .tensorboard_logger import EventFileLogger

__all__ = ["build_trainer"]

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
        all_callbacks.append(ProgressBar())
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
