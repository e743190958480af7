"""How many latents a scan needs, by what short trainings predict of held-out electrons."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["SIZES", "choose_latent_dim"]

SIZES = (2, 4, 8, 16, 32, 64)
_BETTER = 1.0  # standard errors by which twice as many latents have to be better


def choose_latent_dim(losses_of: Callable[[int], np.ndarray]) -> tuple[int, str]:
    """The smallest number of latents that is as good as twice as many.

    Parameters
    ----------
    losses_of : callable
        Number of latents -> losses (n,) of a short training on the same n parts of the held-out patterns.

    Returns
    -------
    latent_dim : int
        One of `SIZES`.
    why : str
        The losses found.
    """
    losses = {SIZES[0]: losses_of(SIZES[0])}
    chosen = SIZES[0]
    for size in SIZES[1:]:
        losses[size] = losses_of(size)
        gain = losses[chosen] - losses[size]
        # one part alone does not tell how sure its gain is
        error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf
        if gain.mean() <= _BETTER * error:
            break
        chosen = size
    told = ", ".join(f"{size}: {loss.mean():.5g}" for size, loss in losses.items())
    return chosen, f"held-out losses after short trainings were {told}"
