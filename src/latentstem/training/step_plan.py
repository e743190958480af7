"""Number of steps and validations of a run."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..config import TrainingConfig

__all__ = ["StepPlan", "plan_steps"]

_DEFAULT_PASSES = 50  # default number of passes over the scan; many more would fit noise
_DEFAULT_PATTERNS_RANGE = 60_000, 300_000  # minimum and maximum number of training patterns by default
_N_VALIDATIONS = 20  # in a run limited by max_patterns


class StepPlan(NamedTuple):
    """Number of steps and epochs.

    Parameters
    ----------
    steps_per_epoch : int
        Steps between two validations.
    epochs : int
        Number of validations.
    """

    steps_per_epoch: int
    epochs: int

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
