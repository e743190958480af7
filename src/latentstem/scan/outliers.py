"""Detector pixels and patterns that deviate from their neighbours."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

__all__ = ["gap_pixels", "hot_and_dead_pixels", "outlying_patterns"]

_OUTLIER_SIGMA = 8.0  # robust standard deviations from the neighbouring scan positions
_PIXEL_SIGMA = 6.0  # standard errors by which a hot or dead pixel has to differ from its neighbours
_HOT_RATIO, _DEAD_RATIO = 4.0, 0.1  # times the brighter, or the darker, of the neighbouring pixels
_MAX_HOT_FRACTION = 0.01  # of the pixels; if more look hot, they are sharp diffraction spots
_SMALL_DETECTOR = 16  # rows or columns; on a smaller detector a diffraction spot may be one pixel
# what detectors write where there is no measurement
_LARGEST_VALUES = tuple(2.0**bits - 1 for bits in (16, 31, 32, 63, 64))
_MIN_EVENTS_BESIDE_GAP = 100  # beside a line of zeros, so that it cannot be zero by chance
_BLOCK_FILL = 0.98  # fraction of its bounding box that a block of pixels fills
_MAD_TO_STD = 1.4826  # median absolute deviation to standard deviation


def _ring(image: np.ndarray, radius: int = 1) -> np.ndarray:
    """The pixels around each pixel at this distance, sorted, NaN last: shape (8 * radius, H, W)."""
    padded = np.pad(image, radius, constant_values=np.nan)
    (height, width), side = image.shape, 2 * radius + 1
    pixels = [
        padded[i : i + height, j : j + width]
        for i in range(side)
        for j in range(side)
        if max(abs(i - radius), abs(j - radius)) == radius
    ]
    return np.sort(np.stack(pixels), axis=0)


def _quantile(ordered: np.ndarray, q: float) -> np.ndarray:
    """A quantile along the first, sorted axis, without its NaN; NaN where there is nothing else."""
    last = np.maximum(np.isfinite(ordered).sum(axis=0) - 1, 0)
    return np.take_along_axis(ordered, np.rint(q * last).astype(int)[None], axis=0)[0]


def hot_and_dead_pixels(
    mean: np.ndarray, error: np.ndarray, constant: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Single pixels that stand out from the pixels around them, (H, W) bool each.

    `mean` is the mean pattern, `error` its standard error, both NaN at excluded pixels; `constant` marks the pixels with
    the same value in all patterns. The pixels around a sharp diffraction spot are bright too; those around a hot pixel
    are not.
    """
    level = mean - np.nanquantile(mean, 0.05)  # without the detector's offset
    neighbours, second_ring = _ring(level), _ring(level, 2)
    noise = _PIXEL_SIGMA * np.maximum(error, _quantile(_ring(error), 0.5))
    bright, dark, median = (_quantile(neighbours, q) for q in (0.75, 0.25, 0.5))
    roughness = _MAD_TO_STD * _PIXEL_SIGMA * np.nanmedian(np.abs(level - median))
    is_isolated = median <= 2 * np.maximum(_quantile(second_ring, 0.5), 0) + noise
    hot = (level > _HOT_RATIO * np.maximum(bright, 0) + noise + roughness) & (is_isolated | constant)
    if hot.sum() > max(_MAX_HOT_FRACTION * hot.size, 8) or min(hot.shape) < _SMALL_DETECTOR:
        hot &= constant
    dead = (level < _DEAD_RATIO * dark) & (dark - level > noise + roughness)
    return hot, dead


def gap_pixels(
    value: np.ndarray, used: np.ndarray, sums: np.ndarray, sums_of_squares: np.ndarray
) -> np.ndarray:
    """Pixels without a measurement, (H, W) bool: the gaps between modules of a detector, and dead modules.

    They have the same value in all patterns: zero, -1 or the largest of an integer type; and they form whole lines of the
    detector, or blocks at its edge. Single bright pixels and a saturated direct beam do neither. Zeros count only if
    there are many events beside them: with few electrons, whole lines are zero by chance.

    Parameters
    ----------
    value : ndarray, shape (H, W)
        The value of a pixel that is the same in all patterns, else NaN.
    used : ndarray, shape (H, W), bool
        Pixels that are not excluded; lines go on under those that are.
    sums, sums_of_squares : ndarray, shape (H, W)
        Sums over the patterns. (sum)^2 / (sum of squares) is about the number of events, whatever the unit of the values.
    """
    is_largest = np.isclose(value[..., None], _LARGEST_VALUES, rtol=1e-6).any(-1)  # also as float32
    gaps = _lines_and_blocks(is_largest | (value == -1), used)
    zeros = _lines_and_blocks((value == 0) & ~gaps, used)
    labels, _ = ndimage.label(zeros, np.ones((3, 3)))
    for part, box in enumerate(ndimage.find_objects(labels), 1):
        around = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
        inside = labels[around] == part
        beside = ndimage.binary_dilation(inside, np.ones((3, 3))) & ~zeros[around] & ~gaps[around]
        total, squares = sums[around][beside].sum(), sums_of_squares[around][beside].sum()
        if total > 0 and total**2 > _MIN_EVENTS_BESIDE_GAP * squares:
            gaps[around] |= inside
    return gaps


def _lines_and_blocks(pixels: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Those of the pixels that form whole rows or columns, or filled rectangles at the edge."""
    along = pixels | ~used
    lines = pixels & (along.all(axis=1, keepdims=True) | along.all(axis=0, keepdims=True))
    labels, _ = ndimage.label(pixels & ~lines)
    found = lines.copy()
    for part, box in enumerate(ndimage.find_objects(labels), 1):
        is_at_edge = any(side.start == 0 or side.stop == n for side, n in zip(box, pixels.shape, strict=True))
        block = labels[box] == part
        if is_at_edge and min(block.shape) > 1 and block.mean() > _BLOCK_FILL:
            found[box] |= block
    return found


def outlying_patterns(total: np.ndarray, counts: bool) -> np.ndarray:
    """Outlying patterns, (Ny, Nx) bool: their total intensity is far from that of their scan neighbours.

    A pattern is compared with its neighbours, not with the whole scan, so that vacuum and thickness changes are not
    reported. Up to two neighbours may be as outlying: this finds bad scan lines, but reports no corners of grains.
    """
    neighbours = _ring(total)
    median = _quantile(neighbours, 0.5)
    difference = np.abs(total - median)
    if not np.isfinite(difference).any():
        return np.zeros(total.shape, dtype=bool)
    typical_difference = _MAD_TO_STD * np.nanmedian(difference)
    shot_noise = np.sqrt(np.maximum(median, 1.0)) if counts else 1e-6 * np.abs(median)
    differences = np.sort(np.abs(total - neighbours), axis=0)
    n_similar = np.clip((np.isfinite(differences).sum(axis=0) - 1) // 2, 0, 2)  # fewer at the edges
    deviation = np.take_along_axis(differences, n_similar[None], axis=0)[0]
    return deviation > _OUTLIER_SIGMA * np.maximum(typical_difference, shot_noise)
