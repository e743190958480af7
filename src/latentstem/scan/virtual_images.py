"""Virtual images of a scan, streamed: the whole detector, the direct beam, and all but the direct beam."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from .scan import Scan

__all__ = ["DISK_REACH", "VIRTUAL_IMAGES", "direct_beam", "virtual_images"]

#: radii of the direct beam to which bright field reaches
DISK_REACH = 1.3
#: kinds of virtual image
VIRTUAL_IMAGES = ("sum", "bright field", "dark field")

_BATCH = 128  # patterns that are summed together
_SAMPLED_BLOCKS = 8  # storage blocks whose mean pattern shows where the direct beam is


def virtual_images(scan: Scan, interval: float = 0.3) -> Iterator[tuple[float, dict[str, np.ndarray]]]:
    """Virtual images as they form, in one pass over the scan in the order of its storage.

    Parameters
    ----------
    scan : Scan
        Excluded detector pixels do not count.
    interval : float
        Least time between two results, in seconds.

    Yields
    ------
    (float, dict of str to ndarray, shape (Ny, Nx), float32)
        The share of the scan that has been read, and an image for each of `VIRTUAL_IMAGES`, NaN where it has not been
        computed yet and at excluded scan positions. ``bright field`` is the sum within `DISK_REACH` radii of the
        direct beam, ``dark field`` the rest. The last share is 1.
    """
    weights = _apertures(scan)
    images = np.full((len(VIRTUAL_IMAGES), scan.n_positions), np.nan, np.float32)
    excluded = None if scan.scan_mask is None else scan.scan_mask.ravel()
    shown, done = time.monotonic(), 0

    def snapshot() -> tuple[float, dict[str, np.ndarray]]:
        maps = images.reshape(-1, *scan.scan_shape).copy()
        return done / scan.n_positions, dict(zip(VIRTUAL_IMAGES, maps, strict=True))

    for block in scan.blocks(_BATCH):
        for positions in np.array_split(block, -(-len(block) // _BATCH)):
            done += len(positions)
            if excluded is not None:
                positions = positions[~excluded[positions]]
            if len(positions):
                patterns = scan.read(positions).reshape(len(positions), -1)
                images[:, positions] = weights @ patterns.T.astype(np.float32)
            if time.monotonic() - shown > interval and done < scan.n_positions:
                yield snapshot()
                shown = time.monotonic()
    yield snapshot()


def _apertures(scan: Scan) -> np.ndarray:
    """Weights (kinds, H * W) of the detector pixels in each image."""
    blocks = list(scan.blocks(_BATCH))
    chosen = np.unique(np.linspace(0, len(blocks) - 1, _SAMPLED_BLOCKS).astype(int))
    mean = np.mean([scan.read(blocks[at]).mean(0, dtype=np.float64) for at in chosen], axis=0)
    used = np.ones(mean.shape, bool) if scan.pattern_mask is None else ~scan.pattern_mask
    row, column, radius = direct_beam(mean, used)
    y, x = np.ogrid[: mean.shape[0], : mean.shape[1]]
    disk = np.hypot(y - row, x - column) <= DISK_REACH * radius
    return np.stack([used, used & disk, used & ~disk]).reshape(len(VIRTUAL_IMAGES), -1).astype(np.float32)


def direct_beam(mean: np.ndarray, used: np.ndarray) -> tuple[float, float, float]:
    """Row, column and radius of the direct beam in a mean pattern (h, w), `used` being True for used pixels.

    The pixels above half of the brightest are taken as its disk.
    """
    bright = used & (mean > 0.5 * np.quantile(mean[used], 1 - 4 / max(used.sum(), 5)))
    if not bright.any():
        bright = used
    rows, columns = np.nonzero(bright)
    return float(rows.mean()), float(columns.mean()), float(max(np.sqrt(bright.sum() / np.pi), 1.0))
