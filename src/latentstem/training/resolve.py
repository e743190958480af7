"""What a configuration leaves open: every ``auto``, with the reason, and the number of steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..config import TrainingConfig
from ..errors import ArgumentError
from ..scan.quality import Quality
from ..scan.scan import Scan

__all__ = ["CANDIDATES", "StepPlan", "choose_latent_dim", "plan_steps", "resolve"]

_MIN_STEPS_PER_PASS = 32
_MIN_BATCH_SIZE = 16
CANDIDATES = (2, 4, 8, 16, 32, 64)
_MIN_GAIN = 1.0  # decrease of the loss by which twice as many latents are better, in standard errors
_DEFAULT_PASSES = 50  # default number of passes over the scan; many more would fit noise
_DEFAULT_PATTERNS_RANGE = 60_000, 300_000  # minimum and maximum number of training patterns by default
_N_VALIDATIONS = 20  # in a run limited by max_patterns


def resolve(
    config: TrainingConfig, scan: Scan, quality: Quality, n_training: int, processes: int = 1
) -> tuple[TrainingConfig, list[str]]:
    """Resolve every ``auto``, and reduce the batch size if the scan is small or `processes` share a batch.

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
        reconstruction, reason = "mse", "the data are not counts (negative or fractional values)"
        if quality.counts:
            reconstruction, reason = "poisson", "the data are counts"
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
        reason = "needs counts and reconstruction='poisson'"
        if is_split:
            reason = "counts can be thinned into independent halves"
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


def choose_latent_dim(trial_losses: Callable[[int], np.ndarray]) -> tuple[int, str]:
    """Smallest number of latents that is not improved by doubling it.

    Parameters
    ----------
    trial_losses : callable
        From a number of latents to the losses (n,) after a short training, on the same n parts of the held-out patterns.

    Returns
    -------
    latent_dim : int
        One of `CANDIDATES`.
    reason : str
        Sentence with the losses of the trial trainings.
    """
    losses = {CANDIDATES[0]: trial_losses(CANDIDATES[0])}
    chosen = CANDIDATES[0]
    for size in CANDIDATES[1:]:
        losses[size] = trial_losses(size)
        gain = losses[chosen] - losses[size]
        # the standard error needs at least two parts
        standard_error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf
        if gain.mean() <= _MIN_GAIN * standard_error:
            break
        chosen = size
    summary = ", ".join(f"{size}: {loss.mean():.5g}" for size, loss in losses.items())
    return chosen, f"held-out losses after short trainings were {summary}"


class StepPlan(NamedTuple):
    """Number of steps and epochs."""

    steps_per_epoch: int  # between two validations
    epochs: int  # number of validations

    @property
    def total_steps(self) -> int:
        """Number of steps of the run."""
        return self.steps_per_epoch * self.epochs

    def epochs_left(self, steps_done: int) -> int:
        """Number of epochs that remain after so many steps; the first of them may be shortened."""
        return -(-max(0, self.total_steps - steps_done) // self.steps_per_epoch)


def plan_steps(config: TrainingConfig, n_training: int) -> StepPlan:
    """Plan the steps of a run with `n_training` training positions."""
    if config.epochs is not None:
        return StepPlan(max(1, n_training // config.batch_size), config.epochs)
    patterns = config.max_patterns or int(np.clip(_DEFAULT_PASSES * n_training, *_DEFAULT_PATTERNS_RANGE))
    steps = -(-patterns // config.batch_size)
    epochs = min(_N_VALIDATIONS, steps)
    return StepPlan(-(-steps // epochs), epochs)
