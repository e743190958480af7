"""Latent maps made smooth where the specimen is smooth, and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError

__all__ = ["MAX_SMOOTH", "check_radius", "smoothed"]

MAX_SMOOTH = 10  # scan positions: the largest radius

_WIDTH = 0.75  # standard deviation of the window, of its radius
_FLAT = 0.5  # weight, in scan positions, of the fit's slope being 0: at corners a few positions would fix it
_APART = 4.0  # how much further apart than neighbours two positions at random are, at least, in a scan that has an order
_PAIRS = 20_000  # random pairs of positions that are compared
_AT_ONCE = 2**15  # scan positions that are smoothed together


def smoothed(maps: np.ndarray, radius: int) -> np.ndarray:
    r"""Latents of a plane that is fitted to each scan position and its alike neighbours.

    .. math:: \min_{a, G} \sum_j w_{ij} \lVert z_j - a - G (r_j - r_i) \rVert^2, \quad
        w_{ij} = e^{-|r_j - r_i|^2 / 2 s^2} \, [\lVert z_j - z_i \rVert^2 < d^2],

    with s = 0.75 `radius`; the latents at position i become a. A plane, unlike a mean, leaves slopes as they are
    (Cleveland, J. Am. Stat. Assoc. 74, 829, 1979), and neighbours beyond d do not count (the sigma filter of Lee,
    Comput. Vis. Graph. Image Process. 24, 255, 1983), so that grain boundaries stay sharp and a single position that
    deviates stays itself. d is halfway, in logarithms, between the median distance of two neighbours and that of two
    positions at random. Where these are nearly the same, as in a scan whose positions have no order, nothing is
    smoothed.

    Parameters
    ----------
    maps : ndarray, shape (Ny, Nx, k), float32
        NaN where a position is excluded; such stay NaN, and are nobody's neighbours.
    radius : int
        Neighbours up to so many scan positions away along each axis; 0 changes nothing.

    Returns
    -------
    ndarray, shape (Ny, Nx, k), float32
    """
    limit = _limit(maps) if radius else 0.0
    if limit == 0:
        return maps
    found = np.empty_like(maps)
    rows = max(1, _AT_ONCE // maps.shape[1])
    for top in range(0, len(maps), rows):
        above = min(radius, top)
        part = maps[top - above : top + rows + radius]
        found[top : top + rows] = _planes(part, radius, limit)[above : above + rows]
    return found


def check_radius(radius: Any) -> int:
    """The radius of a neighbourhood to smooth over.

    Raises
    ------
    ArgumentError
        If it is not an integer from 0 to `MAX_SMOOTH`.
    """
    whole = isinstance(radius, (int, np.integer)) and not isinstance(radius, bool)
    if not whole or not 0 <= radius <= MAX_SMOOTH:
        raise ArgumentError(
            "smooth is not a radius",
            expected=f"an integer from 0 to {MAX_SMOOTH}, in scan positions",
            received=repr(radius),
            advice="Leave it out for the radius of the context, or give 0 for each position's own latents.",
        )
    return int(radius)


def _limit(maps: np.ndarray) -> float:
    """Squared distance up to which two positions are alike; 0 where neighbours are not nearer than others."""
    near = np.concatenate([_apart(maps[1:], maps[:-1]).ravel(), _apart(maps[:, 1:], maps[:, :-1]).ravel()])
    flat = maps.reshape(-1, maps.shape[-1])
    pairs = np.random.default_rng(0).integers(len(flat), size=(2, _PAIRS))
    medians = []
    for apart in (near, _apart(flat[pairs[0]], flat[pairs[1]])):
        apart = apart[np.isfinite(apart)]
        medians.append(float(np.median(apart)) if apart.size else 0.0)
    neighbours, others = medians
    return (neighbours * others) ** 0.5 if others > _APART * neighbours else 0.0


def _apart(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared distances of latents (..., k)."""
    squared: np.ndarray = ((first - second) ** 2).sum(-1)
    return squared


def _planes(maps: np.ndarray, radius: int, limit: float) -> np.ndarray:
    """The smoothed latents of a part of the scan."""
    values = np.nan_to_num(maps)
    known = np.zeros((*maps.shape[:2], 3, 3), np.float32)  # weights, and their moments with the steps
    wanted = np.zeros((*maps.shape[:2], 3, maps.shape[2]), np.float32)
    known[..., 0, 0], wanted[..., 0, :] = 1, values
    known[..., 1, 1] = known[..., 2, 2] = _FLAT
    around = range(-radius, radius + 1)
    for dy, dx in ((dy, dx) for dy in around for dx in around if (dy, dx) > (0, 0)):
        here, there = _shifted(dy, dx)
        weight = np.exp(np.float32(-(dy**2 + dx**2) / (2 * (_WIDTH * radius) ** 2)))
        weight = weight * (_apart(maps[here], maps[there]) < limit)  # not those of NaN
        for (own, other), sign in (((here, there), 1), ((there, here), -1)):  # each is the other's neighbour
            step = np.array([1, sign * dy, sign * dx], np.float32)
            known[own] += weight[..., None, None] * np.outer(step, step)
            neighbour = weight[..., None] * values[other]
            for i, length in enumerate(step):
                if length:
                    wanted[own][..., i, :] += length * neighbour
    found = np.linalg.solve(known, wanted)[..., 0, :]
    return np.where(np.isfinite(maps), found, np.nan)


def _shifted(dy: int, dx: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Positions that have a neighbour so many rows below and columns beside, and those neighbours; dy is not negative."""
    left, right = slice(max(0, -dx), -dx if dx > 0 else None), slice(max(0, dx), dx if dx < 0 else None)
    return (slice(None, -dy or None), left), (slice(dy, None), right)
