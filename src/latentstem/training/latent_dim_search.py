"""Choose latent_dim by the held-out loss of short trial trainings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["CANDIDATES", "choose_latent_dim"]

CANDIDATES = (2, 4, 8, 16, 32, 64)
_MIN_GAIN = 1.0  # decrease of the loss by which twice as many latents are better, in standard errors


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
