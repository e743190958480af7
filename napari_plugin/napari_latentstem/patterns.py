"""What is shown of diffraction patterns: raw, reconstructed and what is missing, at one or many scan positions.

Nothing here knows of Qt or napari.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from latentstem.report.report.figures import residual
from latentstem.scan.scan.scan import Axis, Scan

if TYPE_CHECKING:
    from latentstem import LatentModel

__all__ = [
    "SCALES",
    "Patterns",
    "at_position",
    "brightness",
    "centre",
    "contrast",
    "describe_pixel",
    "describe_position",
    "limits",
    "mean_patterns",
    "pixel_aspect",
    "printed_units",
    "scale_bar",
]

#: how intensity becomes brightness
SCALES = ("linear", "square root", "log")
_BATCH = 64  # patterns read and reconstructed together
_OFTEN = 0.1  # seconds between means that are shown
_LOG_RANGE = 1000.0  # brightest over darkest intensity that the logarithmic scale tells apart
_SIGMA = 3.0  # residuals of counts are shown over this many standard deviations at least


@dataclass(frozen=True, eq=False)
class Patterns:
    """Mean diffraction patterns of groups of scan positions; a single position is a group of one.

    Parameters
    ----------
    raw : ndarray, shape (groups, H, W), float32
        As recorded; NaN for a group of which nothing is read yet.
    reconstruction : ndarray, shape (groups, H, W), float32, or None
        As the model has them (0 at excluded detector pixels); None without a model.
    n, size : ndarray of int, shape (groups,)
        How many patterns the means are over so far, and how many positions each group has.
    counts : bool
        Whether the model takes the values for electron counts.
    """

    raw: np.ndarray
    reconstruction: np.ndarray | None
    n: np.ndarray
    size: np.ndarray
    counts: bool = False

    @cached_property
    def residual(self) -> np.ndarray | None:
        """What the reconstruction leaves of the raw pattern, shape (groups, H, W); NaN where it says nothing.

        In counts, in standard deviations of the counting noise of the mean, as `latentstem.report.figures.residual`;
        else the difference in the data's own units.
        """
        if self.reconstruction is None:
            return None
        if self.counts:
            n = np.maximum(self.n, 1)[:, None, None]
            return residual(n * self.raw.astype(np.float64), n * self.reconstruction)
        return np.where(self.reconstruction == 0, np.nan, self.raw - self.reconstruction)


def at_position(scan: Scan, position: tuple[int, int], model: LatentModel | None = None) -> Patterns:
    """The pattern at one scan position, and its reconstruction as `LatentModel.reconstruct` has it.

    Parameters
    ----------
    scan : Scan
        Only this pattern and, for the model, its neighbours are read.
    position : (int, int)
        Scan row and column.
    model : LatentModel, optional
        Where the position is excluded by the scan's mask, there is no reconstruction.

    Raises
    ------
    ModelMismatchError
        If the model is for patterns of another shape.
    """
    group = np.zeros(scan.scan_shape, np.int64)
    group[position] = 1
    if scan.scan_mask is not None and scan.scan_mask[position]:
        model, scan = None, replace(scan, scan_mask=None)
    return next(mean_patterns(scan, group, model))


def mean_patterns(scan: Scan, groups: np.ndarray, model: LatentModel | None = None) -> Iterator[Patterns]:
    """Mean patterns of groups of scan positions, better and better while the scan is read.

    Positions are read in blocks as they are stored, the blocks in random order (always the same), so that means
    over a part stand for the whole. Excluded positions are left out.

    Parameters
    ----------
    scan : Scan
        Where from.
    groups : ndarray of int or bool, shape (Ny, Nx)
        Number of the group, from 1, that each position belongs to; 0 for none.
    model : LatentModel, optional
        Reconstructs them.

    Yields
    ------
    Patterns
        At first soon, then ten times a second; the last one is over all positions. Nothing, if no position is in a
        group.

    Raises
    ------
    ModelMismatchError
        If the model is for patterns of another shape.
    """
    if model is not None and model.pattern_shape != scan.pattern_shape:
        model.open_matching_scan(scan, None, None)  # says so
    member = np.asarray(groups).ravel().astype(np.int64)
    if scan.scan_mask is not None:
        member = np.where(scan.scan_mask.ravel(), 0, member)
    size = np.bincount(member, minlength=2)[1:]
    blocks = [chosen for block in scan.blocks(_BATCH) if len(chosen := block[member[block] > 0])]
    raw = np.zeros((len(size), *scan.pattern_shape))
    rec = None if model is None else np.zeros_like(raw)
    n = np.zeros_like(size)
    reader = None if model is None else model.reader(scan)
    order = np.random.default_rng(0).permutation(len(blocks))
    batches = [blocks[i][start : start + _BATCH] for i in order for start in range(0, len(blocks[i]), _BATCH)]
    told = -math.inf
    for index, positions in enumerate(batches):
        number = member[positions] - 1
        n += np.bincount(number, minlength=len(size))
        if model is None or reader is None or rec is None:
            _add(raw, number, scan.read(positions))
        else:
            batch = reader(positions)
            _add(raw, number, batch.patterns.numpy())
            _add(rec, number, model.reconstruct_batch(batch).numpy())
        if index < len(batches) - 1 and time.monotonic() < told + _OFTEN:
            continue
        told = time.monotonic()
        counts = model is not None and model.config.reconstruction == "poisson"
        yield Patterns(_over(raw, n), None if rec is None else _over(rec, n), n.copy(), size, counts)


def contrast(patterns: Patterns, *, shared: bool = True) -> tuple[tuple[float, float], ...]:
    """Limits (low, high) of what is shown of the first group: raw, reconstruction, residual.

    Those of a pattern reach from 0, or the least value below, to the 99.5th percentile, so that a hot pixel does
    not darken everything; shared ones are the reconstruction's, which has less noise. Those of the residual are
    symmetric, and three standard deviations at least where it is in these.
    """
    raw, left_over = limits(patterns.raw[0]), patterns.residual
    if patterns.reconstruction is None or left_over is None:
        return raw, raw, (-1.0, 1.0)
    reconstruction, values = limits(patterns.reconstruction[0]), np.abs(left_over[0])
    most = float(np.nanpercentile(values, 99.5)) if np.isfinite(values).any() else 0.0
    most = max(most, _SIGMA) if patterns.counts else most or 1.0
    return reconstruction if shared else raw, reconstruction, (-most, most)


def brightness(values: np.ndarray, ends: tuple[float, float], scale: str = "linear") -> np.ndarray:
    """Brightness of a picture, 0 to 1; NaN stays NaN.

    Parameters
    ----------
    values : ndarray, shape (H, W)
        Intensities.
    ends : (float, float)
        What is black and what is white.
    scale : {"linear", "square root", "log"}
        The logarithmic one spans three decades below the upper limit.
    """
    low, high = ends
    share = np.clip((np.asarray(values, dtype=np.float32) - low) / ((high - low) or 1.0), 0, 1)
    if scale == "square root":
        return np.sqrt(share)
    return np.log1p(_LOG_RANGE * share) / math.log1p(_LOG_RANGE) if scale == "log" else share


def centre(axes: tuple[Axis, Axis]) -> tuple[float, float]:
    """Detector row and column of the reciprocal origin: where both coordinates are 0, else the detector's middle."""
    zero = tuple(-axis.offset / axis.scale if axis.scale else 0.0 for axis in axes)
    calibrated = all(0 < at < axis.size - 1 for at, axis in zip(zero, axes, strict=True))
    return zero if calibrated else tuple((axis.size - 1) / 2 for axis in axes)  # type: ignore[return-value]


def describe_pixel(axes: tuple[Axis, Axis], row: int, column: int, value: float) -> str:
    """What is under the mouse: pixel, value, distance from the origin, and lattice spacing where that is its inverse."""
    text = f"row {row}, column {column}: " + ("excluded" if math.isnan(value) else f"{value:.4g}")
    y, x = axes
    if not x.units or x.units != y.units:
        return text
    cy, cx = centre(axes)
    k = math.hypot((row - cy) * y.scale, (column - cx) * x.scale)
    text += f"; |k| = {k:.3g} {printed_units(x.units)}"
    return text + (f", d = {1 / k:.3g} {_direct(x.units[2:])}" if x.units.startswith("1/") and k else "")


def describe_position(axes: tuple[Axis, Axis], position: tuple[int, int]) -> str:
    """Scan row and column, and where that is on the specimen."""
    text = "row {}, column {}".format(*position)
    y, x = axes
    if not x.units or x.units != y.units:
        return text
    down, across = (axis.offset + n * axis.scale for axis, n in zip(axes, position, strict=True))
    return f"{text} (y = {down:.4g}, x = {across:.4g} {printed_units(x.units)})"


def pixel_aspect(axes: tuple[Axis, Axis]) -> float:
    """Height over width of a detector pixel, where both axes are calibrated alike; else 1."""
    y, x = axes
    return abs(y.scale / x.scale) if x.units == y.units != "" and x.scale and y.scale else 1.0


def scale_bar(axis: Axis) -> tuple[float, str]:
    """A round length of about a quarter of a pattern: in detector pixels, and as text with units."""
    step = abs(axis.scale) if axis.units and axis.scale else 1.0
    quarter = step * axis.size / 4
    power = 10.0 ** math.floor(math.log10(quarter))
    length = max(n * power for n in (1, 2, 5) if n * power <= quarter * (1 + 1e-9))
    return length / step, f"{length:g} {printed_units(axis.units) or 'px'}"


def printed_units(units: str) -> str:
    """Units as they are printed: ``"1/angstrom"`` is Å⁻¹."""
    return _direct(units[2:]) + "⁻¹" if units.startswith("1/") else _direct(units)


def _direct(units: str) -> str:
    return units.replace("angstrom", "Å").replace("um", "µm")


def limits(values: np.ndarray) -> tuple[float, float]:
    """What is black and what is white in a pattern (H, W): see `contrast`."""
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = min(0.0, float(values.min())), float(np.percentile(values, 99.5))
    high = high if high > low else float(values.max())  # a few electrons on an empty detector
    return low, high if high > low else low + 1.0


def _add(sums: np.ndarray, number: np.ndarray, patterns: np.ndarray) -> None:
    """Add patterns (n, H, W) to the sums of the groups that they belong to."""
    for group in np.unique(number):
        sums[group] += patterns[number == group].sum(0, dtype=np.float64)


def _over(sums: np.ndarray, n: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (sums / n[:, None, None]).astype(np.float32)
