"""Edge-preserving smoothing of latent maps."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError

__all__ = ["MAX_RADIUS", "check_radius", "smooth_maps"]

MAX_RADIUS = 10  # scan positions

_WINDOW_SIGMA = 0.75  # standard deviation of the Gaussian window, relative to the radius
_SLOPE_REGULARISATION = 0.5  # pull of the slope to 0, as at corners few neighbours determine it
# median squared distance of random pairs to that of neighbours; below it the scan has no spatial order
_MIN_DISTANCE_RATIO = 4.0
_N_RANDOM_PAIRS = 20_000
_POSITIONS_PER_BLOCK = 2**15


def smooth_maps(maps: np.ndarray, radius: int) -> np.ndarray:
    r"""Fit a plane to the latents of each scan position and its similar neighbours, and return its value there.

    .. math:: \min_{a, G} \sum_j w_{ij} \lVert z_j - a - G (r_j - r_i) \rVert^2, \quad
        w_{ij} = e^{-|r_j - r_i|^2 / 2 s^2} \, [\lVert z_j - z_i \rVert^2 < d^2],

    with s = 0.75 `radius`; the latents at position i become a. A plane, unlike a mean, preserves slopes
    (Cleveland, J. Am. Stat. Assoc. 74, 829, 1979). Neighbours farther than d are ignored (the sigma filter of Lee,
    Comput. Vis. Graph. Image Process. 24, 255, 1983), so grain boundaries and single-position defects are preserved.
    d is the geometric mean of the median distance of neighbours and that of random pairs. If these are nearly equal
    (no spatial order), nothing is smoothed.

    Parameters
    ----------
    maps : ndarray, shape (Ny, Nx, k), float32
        NaN at excluded positions, which stay NaN and are not used as neighbours.
    radius : int
        Largest offset of a neighbour along each axis, in scan positions; 0 changes nothing.

    Returns
    -------
    ndarray, shape (Ny, Nx, k), float32
    """
    limit = _similarity_limit(maps) if radius else 0.0
    if limit == 0:
        return maps
    smoothed = np.empty_like(maps)
    rows = max(1, _POSITIONS_PER_BLOCK // maps.shape[1])
    for top in range(0, len(maps), rows):
        halo_rows = min(radius, top)
        block = maps[top - halo_rows : top + rows + radius]
        smoothed[top : top + rows] = _fit_planes(block, radius, limit)[halo_rows : halo_rows + rows]
    return smoothed


def check_radius(radius: Any) -> int:
    """The argument `smooth` as an integer; an `ArgumentError` if it is not a radius from 0 to `MAX_RADIUS`."""
    is_integer = isinstance(radius, (int, np.integer)) and not isinstance(radius, bool)
    if not is_integer or not 0 <= radius <= MAX_RADIUS:
        raise ArgumentError(
            "smooth is not a radius",
            expected=f"an integer from 0 to {MAX_RADIUS}, in scan positions",
            received=repr(radius),
            advice="Leave it out for the radius of the context, or give 0 for no smoothing.",
        )
    return int(radius)


def _similarity_limit(maps: np.ndarray) -> float:
    """Squared distance d^2 below which positions are similar; 0 if neighbours are not closer than random pairs."""
    vertical = _squared_distance(maps[1:], maps[:-1])
    horizontal = _squared_distance(maps[:, 1:], maps[:, :-1])
    neighbour_distance = _finite_median(np.concatenate([vertical.ravel(), horizontal.ravel()]))
    latents = maps.reshape(-1, maps.shape[-1])
    first, second = np.random.default_rng(0).integers(len(latents), size=(2, _N_RANDOM_PAIRS))
    random_distance = _finite_median(_squared_distance(latents[first], latents[second]))
    has_order = random_distance > _MIN_DISTANCE_RATIO * neighbour_distance
    return (neighbour_distance * random_distance) ** 0.5 if has_order else 0.0


def _finite_median(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else 0.0


def _squared_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared distances of latents (..., k)."""
    squared: np.ndarray = ((first - second) ** 2).sum(-1)
    return squared


def _fit_planes(maps: np.ndarray, radius: int, limit: float) -> np.ndarray:
    """The smoothed latents of a block of the scan."""
    values = np.nan_to_num(maps)
    # normal equations of the weighted fit, with the regressors 1, row offset and column offset
    normal_matrix = np.zeros((*maps.shape[:2], 3, 3), np.float32)
    right_hand_side = np.zeros((*maps.shape[:2], 3, maps.shape[2]), np.float32)
    normal_matrix[..., 0, 0], right_hand_side[..., 0, :] = 1, values
    normal_matrix[..., 1, 1] = normal_matrix[..., 2, 2] = _SLOPE_REGULARISATION
    offsets = range(-radius, radius + 1)
    for dy, dx in ((dy, dx) for dy in offsets for dx in offsets if (dy, dx) > (0, 0)):
        first, second = _shifted_slices(dy, dx)
        weight = np.exp(np.float32(-(dy**2 + dx**2) / (2 * (_WINDOW_SIGMA * radius) ** 2)))
        weight = weight * (_squared_distance(maps[first], maps[second]) < limit)  # False for NaN
        # each pair in both directions
        for centre, neighbour, sign in ((first, second, 1), (second, first, -1)):
            regressors = np.array([1, sign * dy, sign * dx], np.float32)
            normal_matrix[centre] += weight[..., None, None] * np.outer(regressors, regressors)
            weighted_values = weight[..., None] * values[neighbour]
            for i, regressor in enumerate(regressors):
                if regressor:
                    right_hand_side[centre][..., i, :] += regressor * weighted_values
    smoothed = np.linalg.solve(normal_matrix, right_hand_side)[..., 0, :]
    return np.where(np.isfinite(maps), smoothed, np.nan)


def _shifted_slices(dy: int, dx: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of positions and of their neighbours at offset (dy, dx), dy >= 0."""
    left, right = slice(max(0, -dx), -dx if dx > 0 else None), slice(max(0, dx), dx if dx < 0 else None)
    return (slice(None, -dy or None), left), (slice(dy, None), right)
