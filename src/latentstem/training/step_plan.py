"""Number of steps and validations of a run."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..config import TrainingConfig

__all__ = ["StepPlan", "plan_steps"]

_DEFAULT_PASSES = 50  # default number of passes over the scan; many more would fit noise
_MIN_MAX_PATTERNS = 60_000, 300_000  # minimum and maximum number of training patterns by default
_N_VALIDATIONS = 20  # in a run limited by max_patterns


class StepPlan(NamedTuple):
    """Steps between validations, and number of validations.

    Parameters
    ----------
    steps_per_epoch, epochs : int
        An epoch ends with a validation.
    """

    steps_per_epoch: int
    epochs: int

    @property
    def total_steps(self) -> int:
        """Number of steps of the run."""
        return self.steps_per_epoch * self.epochs

    def epochs_left(self, steps_done: int) -> int:
        """Number of validations after some steps."""
        return -(-max(0, self.total_steps - steps_done) // self.steps_per_epoch)


def plan_steps(config: TrainingConfig, n_training: int) -> StepPlan:
    """Plan a run with a number of training positions."""
    if config.epochs is not None:
        return StepPlan(max(1, n_training // config.batch_size), config.epochs)
    patterns = config.max_patterns or int(np.clip(_DEFAULT_PASSES * n_training, *_MIN_MAX_PATTERNS))
    steps = -(-patterns // config.batch_size)
    epochs = min(_N_VALIDATIONS, steps)
    return StepPlan(-(-steps // epochs), epochs)
