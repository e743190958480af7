"""Virtual images from one scan pass: sum (whole detector), bright field (direct beam), dark field (the rest)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from .passes import ScanPass, iterate_passes
from .scan import Scan

__all__ = ["BRIGHT_FIELD_RADII", "VIRTUAL_IMAGES", "detector_masks", "direct_beam", "virtual_images"]

#: radius of the bright-field mask, in radii of the direct beam
BRIGHT_FIELD_RADII = 1.3
#: kinds of virtual image
VIRTUAL_IMAGES = ("sum", "bright field", "dark field")

_PATTERNS_PER_BLOCK = 128
_N_SAMPLE_BLOCKS = 8  # blocks whose mean pattern locates the direct beam


class VirtualImages(ScanPass):
    """Sums of each pattern over detector masks.

    Parameters
    ----------
    scan : Scan
    masks : dict of str to ndarray, shape (H, W), bool
        True where a detector pixel counts.
    """

    def __init__(self, scan: Scan, masks: dict[str, np.ndarray]) -> None:
        self._names, self._shape = tuple(masks), scan.scan_shape
        self._weights = np.stack(list(masks.values())).reshape(len(masks), -1).astype(np.float32)
        self._images = np.full((len(masks), scan.n_positions), np.nan, np.float32)

    def process(self, positions: np.ndarray, patterns: np.ndarray) -> None:
        """Sum the patterns over each mask."""
        values = patterns.reshape(len(patterns), -1).astype(np.float32)
        self._images[:, positions] = self._weights @ values.T

    def result(self) -> dict[str, np.ndarray]:
        """A copy of the images, shape (Ny, Nx), float32, NaN where nothing has been computed."""
        images = self._images.reshape(-1, *self._shape).copy()
        return dict(zip(self._names, images, strict=True))


def virtual_images(scan: Scan, interval: float = 0.3) -> Iterator[tuple[float, dict[str, np.ndarray]]]:
    """Compute virtual images in one pass in storage order, yielding partial results.

    Parameters
    ----------
    scan : Scan
        Excluded detector pixels do not count.
    interval : float
        Least time between two results, in seconds.

    Yields
    ------
    (float, dict of str to ndarray, shape (Ny, Nx), float32)
        Fraction of the scan read so far, and an image for each of `VIRTUAL_IMAGES`, NaN where it has not been computed
        yet and at excluded scan positions. ``bright field`` is the sum within `BRIGHT_FIELD_RADII` radii of the direct
        beam, ``dark field`` the rest. The last fraction is 1.
    """
    blocks = list(scan.blocks(_PATTERNS_PER_BLOCK))
    sample_blocks = np.unique(np.linspace(0, len(blocks) - 1, _N_SAMPLE_BLOCKS).astype(int))
    mean = np.mean([scan.read(blocks[i]).mean(0, dtype=np.float64) for i in sample_blocks], axis=0)
    is_used = np.ones(mean.shape, bool) if scan.pattern_mask is None else ~scan.pattern_mask
    images = VirtualImages(scan, detector_masks(is_used, direct_beam(mean, is_used)))
    last_yield = time.monotonic()
    for fraction in iterate_passes(scan, [images], max_patterns=_PATTERNS_PER_BLOCK):
        if time.monotonic() - last_yield > interval and fraction < 1:
            yield fraction, images.result()
            last_yield = time.monotonic()
    yield 1.0, images.result()


def detector_masks(is_used: np.ndarray, beam: tuple[float, float, float]) -> dict[str, np.ndarray]:
    """The detector masks of `VIRTUAL_IMAGES`.

    Parameters
    ----------
    is_used : ndarray, shape (h, w), bool
        True for pixels that are not excluded.
    beam : (float, float, float)
        Row, column and radius of the direct beam, as `direct_beam` gives them.

    Returns
    -------
    dict of str to ndarray, shape (h, w), bool
    """
    y, x = np.ogrid[: is_used.shape[0], : is_used.shape[1]]
    disk = np.hypot(y - beam[0], x - beam[1]) <= BRIGHT_FIELD_RADII * beam[2]
    return dict(zip(VIRTUAL_IMAGES, (is_used, is_used & disk, is_used & ~disk), strict=True))


def direct_beam(mean: np.ndarray, is_used: np.ndarray) -> tuple[float, float, float]:
    """Row, column and radius of the direct beam in a mean pattern (h, w); `is_used`: False for excluded pixels.

    The pixels above half of the brightest are taken as its disk.
    """
    bright = is_used & (mean > 0.5 * np.quantile(mean[is_used], 1 - 4 / max(is_used.sum(), 5)))
    if not bright.any():
        bright = is_used
    rows, columns = np.nonzero(bright)
    return float(rows.mean()), float(columns.mean()), float(max(np.sqrt(bright.sum() / np.pi), 1.0))
