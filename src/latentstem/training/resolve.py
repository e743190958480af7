"""Resolve every ``auto`` of a configuration, with the reason."""

from __future__ import annotations

import numpy as np

from ..config import TrainingConfig
from ..errors import ArgumentError
from ..scan.quality import Quality
from ..scan.scan import Scan

__all__ = ["resolve"]

_MIN_STEPS_PER_PASS = 32
_MIN_BATCH_SIZE = 16


def resolve(
    config: TrainingConfig, scan: Scan, quality: Quality, n_training: int, processes: int = 1
) -> tuple[TrainingConfig, list[str]]:
    """Resolve every ``auto``, and reduce the batch size if the scan is small.

    Parameters
    ----------
    config : TrainingConfig
        The user's configuration.
    scan : Scan
        The data.
    quality : Quality
        Quality of the data.
    n_training : int
        Number of training positions.
    processes : int
        Number of processes that share a batch.

    Returns
    -------
    config : TrainingConfig
        Without ``auto``.
    choices : list of str
        One sentence for each choice.

    Raises
    ------
    ArgumentError
        If the request does not fit the data.
    """
    choices: list[str] = []
    updates: dict[str, object] = {}

    reconstruction = config.reconstruction
    if reconstruction == "auto":
        reconstruction = "poisson" if quality.counts else "mse"
        reason = (
            "the data are counts"
            if quality.counts
            else "the data are not counts (negative or fractional values)"
        )
        choices.append(f"reconstruction='{reconstruction}': {reason}")
    if reconstruction == "poisson" and quality.minimum < 0:
        raise ArgumentError(
            "the data have negative values",
            expected="non-negative intensities for reconstruction='poisson'",
            received=f"a minimum of {quality.minimum:g}",
            advice="Use reconstruction='mse' or 'auto', or subtract the detector's offset first.",
        )
    updates["reconstruction"] = reconstruction

    if config.preprocessing == "auto":
        kind, reason = _choose_preprocessing(quality)
        updates["preprocessing"] = kind
        choices.append(f"preprocessing='{kind}': {reason}")

    if config.split_counts is True and not quality.counts:
        raise ArgumentError(
            "the data are not counts",
            expected="non-negative integers for split_counts=True",
            received=f"values from {quality.minimum:g} to {quality.maximum:g}, dtype {scan.dtype}",
            advice="Use split_counts='auto'.",
        )
    if config.split_counts == "auto":
        is_split = quality.counts and reconstruction == "poisson"
        updates["split_counts"] = is_split
        reason = (
            "counts can be thinned into independent halves"
            if is_split
            else "needs counts and reconstruction='poisson'"
        )
        choices.append(f"split_counts={is_split}: {reason}")

    largest_batch = max(_MIN_BATCH_SIZE, n_training // _MIN_STEPS_PER_PASS // 8 * 8)
    batch_size = min(config.batch_size, n_training, largest_batch)
    batch_size = max(1, batch_size // processes) * processes
    if batch_size != config.batch_size:
        sharing = f", shared by {processes} processes" if processes > 1 else ""
        choices.append(
            f"batch_size={batch_size} instead of {config.batch_size}{sharing}: {n_training} training patterns, "
            f"{max(1, n_training // batch_size)} steps in each pass over them"
        )
    updates["batch_size"] = batch_size

    if config.context and config.network != "compact":
        updates["context"] = 0
        choices.append(f"context=0: network='{config.network}' takes single patterns as input")
    if scan.n_positions == 1:
        updates["context"] = 0
    return config.model_copy(update=updates), choices


def _choose_preprocessing(quality: Quality) -> tuple[str, str]:
    if quality.counts:
        return "minmax", "linear, so thinned patterns are unbiased"
    if quality.minimum >= 0:
        mean = float(np.mean(quality.mean_pattern))
        if mean > 0 and quality.maximum > 50 * mean:
            return "sqrt", "intensities span a wide range"
        return "minmax", "intensities are non-negative and of moderate range"
    return "zscore", "there are negative values"
