"""Quality measures of a scan, from one pass: values, empty and outlying patterns, hot and dead pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataValueError
from .outliers import gap_pixels, hot_and_dead_pixels, outlying_patterns
from .passes import ScanPass, iterate_passes, run_passes
from .scan import Scan
from .validation import check_range

if TYPE_CHECKING:
    from .series import Region

__all__ = ["Quality", "measure_quality"]

_MAX_FLOAT32_INTEGER = 2**24  # float32 counts one by one up to here
_MAX_LISTED = 5  # positions, or scans of a series, in a message

#: by attribute of `Quality`: what messages call one and several, and advice
_TEXTS = {
    "empty": ("empty pattern", "empty patterns", "exclude with scan_mask"),
    "outlying": (
        "pattern of outlying total intensity",
        "patterns of outlying total intensity",
        "look at them; scan_mask excludes them",
    ),
    "hot": ("hot detector pixel", "hot detector pixels", "exclude with pattern_mask"),
    "dead": ("dead detector pixel", "dead detector pixels", "exclude with pattern_mask"),
}


@dataclass(frozen=True, eq=False)
class Quality:
    """Quality measures of a scan, from one pass over it. Excluded positions and pixels do not count.

    Attributes
    ----------
    scan_shape, pattern_shape : (int, int)
        Rows and columns of the scan and of the detector.
    dtype : str
        Data type of the stored patterns.
    n_positions : int
        Number of scan positions that are not excluded.
    minimum, maximum : float
        Smallest and largest value.
    counts : bool
        Whether the values look like counts: non-negative integers, and at most 2^24 if stored as floating-point
        numbers (above that, float32 holds only even integers).
    dose : float
        Mean intensity per pattern; electrons, if the values are electron counts.
    mean_pattern : ndarray, shape (H, W), float64
        Mean over the scan; 0 at excluded detector pixels.
    total_intensity : ndarray, shape (Ny, Nx), float64
        Sum of each pattern; NaN at excluded scan positions.
    empty : ndarray, shape (Ny, Nx), bool
        Patterns that are zero everywhere.
    outlying : ndarray, shape (Ny, Nx), bool
        Patterns whose total intensity differs strongly from that of their neighbours. A small particle can cause this
        too.
    hot, dead : ndarray, shape (H, W), bool
        Single detector pixels that are much brighter, or much darker, than their neighbours.
    gaps : ndarray, shape (H, W), bool
        Detector pixels without a measurement: gaps between modules and dead modules, with the same value in all patterns.
        The measures above leave them out.
    saturated : int
        Number of values at the upper limit of the detector's range, without hot pixels.
    regions : tuple of Region
        Position of each scan of a series in the maps.
    """

    scan_shape: tuple[int, int]
    pattern_shape: tuple[int, int]
    dtype: str
    n_positions: int
    minimum: float
    maximum: float
    counts: bool
    dose: float
    mean_pattern: np.ndarray
    total_intensity: np.ndarray
    empty: np.ndarray
    outlying: np.ndarray
    hot: np.ndarray
    dead: np.ndarray
    gaps: np.ndarray
    saturated: int
    regions: tuple[Region, ...] = ()

    def suggested_pattern_mask(self) -> np.ndarray:
        """Pattern mask (H, W), bool, that excludes gaps, and hot and dead detector pixels."""
        return self.gaps | self.hot | self.dead

    def without_gaps(self, scan: Scan) -> Scan:
        """The scan with the gaps excluded."""
        return _with_pattern_mask(scan, self.gaps) if self.gaps.any() else scan

    def lines(self) -> list[str]:
        """The quality as text: first the data, then what may have to be excluded."""
        (ny, nx), (height, width) = self.scan_shape, self.pattern_shape
        verb = "look like counts" if self.counts else "do not look like counts"
        scan = f"{ny} x {nx} scan"
        if self.regions:
            scans = [f"{region.rows} x {region.columns}" for region in self.regions]
            scan = f"Series of {len(scans)} scans ({_abbreviated(scans)})"
        lines = [
            f"{scan} of {height} x {width} patterns, {self.dtype} from {self.minimum:g} to "
            f"{self.maximum:g}: values {verb}, {self.dose:.4g} per pattern on average."
        ]
        if self.gaps.any():
            lines.append(
                f"{int(self.gaps.sum())} detector pixels without a measurement (the same value in all patterns, in lines "
                f"or blocks), at {_position_list(self.gaps)}: excluded."
            )
        for attribute, (singular, plural, advice) in _TEXTS.items():
            mask = getattr(self, attribute)
            n_found = int(mask.sum())
            if n_found:
                regions = self.regions if attribute in ("empty", "outlying") else ()
                name = singular if n_found == 1 else plural
                lines.append(f"{n_found} {name}, at {_position_list(mask, regions)}: {advice}.")
        if self.saturated:
            lines.append(
                f"{self.saturated} values are saturated at {self.maximum:g}: "
                "the brightest intensities are unreliable."
            )
        if len(lines) == 1:
            lines.append("No empty or outlying patterns, no hot or dead detector pixels, no saturation.")
        return lines


class QualityPass(ScanPass):
    """Running statistics of the patterns of a scan, per detector pixel and per scan position."""

    def __init__(self, scan: Scan) -> None:
        n_pixels = int(np.prod(scan.pattern_shape))
        self.scan = scan
        self.excluded = None if scan.pattern_mask is None else np.flatnonzero(scan.pattern_mask)
        self.n_patterns = 0
        self.pixel_minimum, self.pixel_maximum = np.full(n_pixels, np.inf), np.full(n_pixels, -np.inf)
        self.sum, self.sum_of_squares = np.zeros(n_pixels), np.zeros(n_pixels)
        self.maximum, self.n_at_maximum = -np.inf, np.zeros(n_pixels, dtype=np.int64)
        self.all_integers = True
        self.not_finite_pixels = np.zeros(n_pixels, dtype=bool)
        self.not_finite_patterns = np.zeros(scan.n_positions, dtype=bool)
        self.n_not_finite = 0
        self.total = np.full(scan.n_positions, np.nan)
        self.empty = np.zeros(scan.n_positions, dtype=bool)

    def process(self, positions: np.ndarray, patterns: np.ndarray) -> None:
        """Take in patterns."""
        stored = patterns.reshape(len(patterns), -1)
        fits_float32 = stored.dtype.itemsize <= 2 or stored.dtype == np.float32
        values: Any = stored.astype(
            np.float32 if fits_float32 else np.float64, copy=self.excluded is not None
        )
        if self.excluded is not None:
            values[:, self.excluded] = 0
        with np.errstate(over="ignore", invalid="ignore"):
            total = values.sum(axis=1)
        if not np.isfinite(total).all() and self._record_not_finite(positions, values):
            return
        self.n_patterns += len(values)
        self.total[positions] = total
        sums_to_zero = np.flatnonzero(total == 0)  # negative values may cancel positive ones
        self.empty[positions[sums_to_zero]] = ~values[sums_to_zero].any(axis=1)
        self.sum += np.ones(len(values), values.dtype) @ values
        self.sum_of_squares += np.einsum("ij,ij->j", values, values)
        with np.errstate(invalid="ignore"):  # excluded pixels may be NaN
            low, high = stored.min(axis=0).astype(float), stored.max(axis=0).astype(float)
        if self.excluded is not None:
            low[self.excluded], high[self.excluded] = np.inf, -np.inf
        self.pixel_minimum = np.minimum(self.pixel_minimum, low)
        self.pixel_maximum = np.maximum(self.pixel_maximum, high)
        if high.max() > self.maximum:
            self.maximum = float(high.max())
            self.n_at_maximum[:] = 0
        for pixel in np.flatnonzero(high == self.maximum):
            self.n_at_maximum[pixel] += np.count_nonzero(stored[:, pixel] == self.maximum)
        if self.all_integers and stored.dtype.kind == "f":
            self.all_integers = bool((values == np.rint(values)).all())

    def _record_not_finite(self, positions: np.ndarray, values: np.ndarray) -> bool:
        """Count NaN and infinite values; return whether there are any, False if only the sum overflowed."""
        not_finite = ~np.isfinite(values)
        self.not_finite_pixels |= not_finite.any(axis=0)
        self.not_finite_patterns[positions] = not_finite.any(axis=1)
        self.n_not_finite += int(not_finite.sum())
        return bool(not_finite.any())

    def gaps(self) -> np.ndarray:
        """Detector pixels without a measurement (H, W); see `gap_pixels`."""
        shape = self.scan.pattern_shape
        is_constant = self.pixel_minimum == self.pixel_maximum
        value = np.where(is_constant, self.pixel_minimum, np.nan).reshape(shape)
        used = np.ones(shape, bool) if self.scan.pattern_mask is None else ~self.scan.pattern_mask
        return gap_pixels(value, used, self.sum.reshape(shape), self.sum_of_squares.reshape(shape))

    def result(self) -> Quality:
        """The quality of the scan; see `measure_quality`."""
        scan = self.scan
        if self.n_not_finite:
            raise _not_finite_error(self)
        minimum, maximum = float(self.pixel_minimum.min()), float(self.pixel_maximum.max())
        if minimum == maximum:
            raise DataValueError(
                "data are constant",
                expected="diffraction patterns that differ",
                received=f"{self.n_patterns} patterns that are {minimum:g} everywhere",
                advice="Check that this is the right dataset, and that the masks do not exclude the signal.",
            )
        check_range(minimum, maximum)
        counts = (
            minimum >= 0 and self.all_integers and (scan.dtype.kind != "f" or maximum <= _MAX_FLOAT32_INTEGER)
        )
        total, empty = self.total.reshape(scan.scan_shape), self.empty.reshape(scan.scan_shape)
        mean, squares = (
            sums.reshape(scan.pattern_shape) / self.n_patterns for sums in (self.sum, self.sum_of_squares)
        )
        error = np.sqrt(np.maximum(squares - mean**2, 0.0) / self.n_patterns)
        is_used = True if scan.pattern_mask is None else ~scan.pattern_mask
        hot, dead = hot_and_dead_pixels(
            np.where(is_used, mean, np.nan),
            np.where(is_used, error, np.nan),
            (self.pixel_minimum == self.pixel_maximum).reshape(scan.pattern_shape),
        )
        return Quality(
            scan_shape=scan.scan_shape,
            pattern_shape=scan.pattern_shape,
            dtype=str(scan.dtype),
            n_positions=self.n_patterns,
            minimum=minimum,
            maximum=maximum,
            counts=counts,
            dose=float(np.nanmean(total)),
            mean_pattern=mean,
            total_intensity=total,
            empty=empty,
            outlying=outlying_patterns(np.where(empty, np.nan, total), counts),
            hot=hot,
            dead=dead,
            gaps=np.zeros(scan.pattern_shape, bool),
            saturated=_count_saturated(self, hot),
            regions=scan.regions,
        )


def measure_quality(scan: Scan) -> Quality:
    """Measure the quality of a scan in one pass; masks are respected. Where it has gaps, a second pass leaves them out.

    Parameters
    ----------
    scan : Scan

    Returns
    -------
    Quality

    Raises
    ------
    DataValueError
        If there are NaN or infinite values, if all values are equal, or if single precision cannot represent them.
    """
    first = QualityPass(scan)
    for _ in iterate_passes(scan, [first]):
        pass
    gaps = first.gaps()
    if not gaps.any() or gaps.all():
        return first.result()
    masked = _with_pattern_mask(scan, gaps)
    quality: Quality
    (quality,) = run_passes(masked, QualityPass(masked))
    return replace(quality, gaps=gaps)


def _with_pattern_mask(scan: Scan, pixels: np.ndarray) -> Scan:
    return scan.with_masks(pattern_mask=pixels if scan.pattern_mask is None else pixels | scan.pattern_mask)


def _count_saturated(statistics: QualityPass, hot: np.ndarray) -> int:
    """Number of saturated values: at the end of the dtype's range, or many exactly at the maximum.

    In patterns of few electrons many values equal the maximum without being saturated; then no pixel has a maximum just
    below it.
    """
    n_at_maximum = int(statistics.n_at_maximum[~hot.ravel()].sum())
    maximum, dtype = statistics.maximum, statistics.scan.dtype
    is_dtype_limit = dtype.kind in "iu" and maximum == np.iinfo(dtype).max
    is_just_below = (statistics.pixel_maximum >= 0.9 * maximum) & (statistics.pixel_maximum < maximum)
    is_saturated = is_dtype_limit or (n_at_maximum >= 20 and bool(is_just_below.any()))
    return n_at_maximum if is_saturated else 0


def _not_finite_error(statistics: QualityPass) -> DataValueError:
    scan = statistics.scan
    pixels = statistics.not_finite_pixels.reshape(scan.pattern_shape)
    positions = statistics.not_finite_patterns.reshape(scan.scan_shape)
    pattern_mask_code = "pattern_mask = ~np.isfinite(data).all(axis=(0, 1))"
    scan_mask_code = "scan_mask = ~np.isfinite(data).all(axis=(2, 3))"
    excludes_less = pattern_mask_code if pixels.mean() < positions.mean() else scan_mask_code
    return DataValueError(
        "NaN or infinite values",
        expected="finite values",
        received=f"{statistics.n_not_finite} that are not, in {positions.sum()} patterns at scan positions "
        f"{_position_list(positions, scan.regions)}, in {pixels.sum()} detector pixels {_position_list(pixels)}",
        advice=f"Exclude them with {excludes_less}, or replace them.",
    )


def _position_list(mask: np.ndarray, regions: tuple[Region, ...] = ()) -> str:
    """The first few positions, as (row, column); in a series, of each scan."""
    if regions:
        masks = {region.name: region.crop(mask) for region in regions}
        texts = [f"{_position_list(part)} of {name!r}" for name, part in masks.items() if part.any()]
        return _abbreviated(texts, "; ")
    return _abbreviated([f"({row}, {column})" for row, column in np.argwhere(mask)[: _MAX_LISTED + 1]])


def _abbreviated(texts: list[str], separator: str = ", ") -> str:
    return separator.join(texts[:_MAX_LISTED]) + (" ..." if len(texts) > _MAX_LISTED else "")
