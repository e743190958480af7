"""Checks before and after training: invalid callbacks, diverged models."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as L
import torch

from ..config import TrainingConfig
from ..errors import ArgumentError, TrainingError
from ..nn.autoencoder import Autoencoder
from ..nn.batches import PatternBatch
from ..scan.quality import Quality

__all__ = ["check_callbacks", "check_not_diverged"]

_MAX_RELATIVE_MEAN_ERROR = 10.0  # error of the mean, relative to the scale of the data, of a diverged run
_RANGE_FRACTION = 0.01  # of the data's range added to its scale, for data with rare large values


def check_callbacks(callbacks: Any) -> None:
    """Check that all callbacks are Lightning callbacks.

    Raises
    ------
    ArgumentError
        If there are others.
    """
    is_list = isinstance(callbacks, (list, tuple))
    if not is_list or not all(isinstance(callback, L.Callback) for callback in callbacks):
        kinds = sorted({type(callback).__name__ for callback in callbacks}) if is_list else []
        raise ArgumentError(
            "invalid callbacks",
            expected="a list of pytorch_lightning.Callback",
            received=type(callbacks).__name__ + (f" of {', '.join(kinds)}" if is_list else ""),
            advice="Give instances of classes that extend pytorch_lightning.Callback.",
        )


@torch.no_grad()
def check_not_diverged(
    autoencoder: Autoencoder, batch: PatternBatch, quality: Quality, config: TrainingConfig
) -> None:
    """Check that the mean of the reconstructions is near that of the data.

    Raises
    ------
    TrainingError
        If training has diverged, although its losses were finite.
    """
    values = autoencoder.values(batch.patterns).double()
    mean = float(values.mean())
    reconstructed_mean = float(autoencoder.decode(autoencoder.encode_batch(batch)).double().mean())
    scale = abs(mean) + float(values.std()) + _RANGE_FRACTION * (quality.maximum - quality.minimum)
    if not abs(reconstructed_mean - mean) <= _MAX_RELATIVE_MEAN_ERROR * scale:
        raise TrainingError(
            "training has diverged",
            expected=f"held-out reconstructions whose mean is near that of the data, {mean:.3g}",
            received=f"a mean of {reconstructed_mean:.3g}",
            advice=f"Lower learning_rate (it is {config.learning_rate:g}; try a tenth) or weight_decay (it is "
            f"{config.weight_decay:g}).",
        )
