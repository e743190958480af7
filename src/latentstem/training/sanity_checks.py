"""What is looked at before and after a run, so that nobody gets a traceback or a model that is none."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as L
import torch

from ..config import TrainingConfig
from ..errors import ArgumentError, TrainingError
from ..nn.autoencoder import Autoencoder
from ..nn.batches import PatternBatch
from ..scan.quality import Quality

__all__ = ["check_callbacks", "refuse_diverged"]

_DIVERGED = 10.0  # times the size of the data by which reconstructions are off that are no such
_RARE = 0.01  # share of the range of the data that counts as their size, for the sake of rare large values


def check_callbacks(callbacks: Any) -> None:
    """Whether these are callbacks of Lightning.

    Raises
    ------
    ArgumentError
    """
    if not isinstance(callbacks, (list, tuple)) or not all(isinstance(one, L.Callback) for one in callbacks):
        raise ArgumentError(
            "callbacks are of another kind",
            expected="a list of pytorch_lightning.Callback",
            received=f"{type(callbacks).__name__} of {', '.join({type(one).__name__ for one in callbacks})}"
            if isinstance(callbacks, (list, tuple))
            else type(callbacks).__name__,
            advice="Give instances of classes that extend pytorch_lightning.Callback.",
        )


@torch.no_grad()
def refuse_diverged(
    module: Autoencoder, batch: PatternBatch, quality: Quality, config: TrainingConfig
) -> None:
    """Refuse a model whose losses are finite, but whose reconstructions are nowhere near the data.

    Raises
    ------
    TrainingError
    """
    values, restored = (
        module.values(batch.patterns).double(),
        module.decode(module.encode_batch(batch)).double(),
    )
    mean, found = float(values.mean()), float(restored.mean())
    size = abs(mean) + float(values.std()) + _RARE * (quality.maximum - quality.minimum)
    if not abs(found - mean) <= _DIVERGED * size:
        raise TrainingError(
            "training has diverged",
            expected=f"held-out reconstructions whose mean is near that of the data, {mean:.3g}",
            received=f"a mean of {found:.3g}",
            advice=f"Lower learning_rate (it is {config.learning_rate:g}; try a tenth) or weight_decay (it is "
            f"{config.weight_decay:g}).",
        )
