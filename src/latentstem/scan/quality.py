"""Quality measures of a scan, from one pass: values, empty and outlying patterns, hot and dead pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataValueError
from .outliers import hot_and_dead_pixels, outlying_patterns
from .passes import ScanPass, run_passes
from .scan import Scan
from .validation import check_range

if TYPE_CHECKING:
    from .series import Region

__all__ = ["Quality", "measure_quality"]

_MAX_FLOAT32_INTEGER = 2**24  # float32 counts one by one up to here
_MAX_LISTED = 5


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
    saturated: int
    regions: tuple[Region, ...] = ()

    def suggested_pattern_mask(self) -> np.ndarray:
        """Hot and dead detector pixels, shape (H, W), bool: a `pattern_mask` that excludes them."""
        return self.hot | self.dead

    def lines(self) -> list[str]:
        """The findings as text, the data themselves first."""
        (ny, nx), (height, width) = self.scan_shape, self.pattern_shape
        kind = "look like counts" if self.counts else "do not look like counts"
        scan = f"{ny} x {nx} scan"
        if self.regions:
            scans = [f"{region.rows} x {region.columns}" for region in self.regions]
            scan = f"Series of {len(scans)} scans ({_abbreviated(scans)})"
        lines = [
            f"{scan} of {height} x {width} patterns, {self.dtype} from {self.minimum:g} to "
            f"{self.maximum:g}: values {kind}, {self.dose:.4g} per pattern on average."
        ]
        for finding in self.findings():
            singular, plural, advice = _FINDINGS[finding.kind]
            name = f"{finding.count} {singular if finding.count == 1 else plural}"
            regions = self.regions if finding.mask.shape == self.scan_shape else ()
            lines.append(f"{name}, at {_position_list(finding.mask, regions)}: {advice}.")
        if self.saturated:
            lines.append(
                f"{self.saturated} values are saturated at {self.maximum:g}: "
                "the brightest intensities are unreliable."
            )
        if len(lines) == 1:
            lines.append("No empty or outlying patterns, no hot or dead detector pixels, no saturation.")
        return lines

    def findings(self) -> list[Finding]:
        """Empty and outlying patterns, hot and dead pixels, if there are any."""
        masks = {"empty": self.empty, "outlying": self.outlying, "hot": self.hot, "dead": self.dead}
        return [Finding(kind, mask) for kind, mask in masks.items() if mask.any()]


@dataclass(frozen=True, eq=False)
class Finding:
    """Patterns or detector pixels that may be defective."""

    kind: str  #: key of `_FINDINGS`
    mask: np.ndarray  #: True for these patterns (Ny, Nx) or pixels (H, W)

    @property
    def count(self) -> int:
        """Number of patterns or pixels."""
        return int(self.mask.sum())


#: singular, plural and advice for each kind of finding
_FINDINGS = {
    "empty": ("empty pattern", "empty patterns", "exclude with scan_mask"),
    "outlying": (
        "pattern of outlying total intensity",
        "patterns of outlying total intensity",
        "look at them; scan_mask excludes them",
    ),
    "hot": ("hot detector pixel", "hot detector pixels", "exclude with pattern_mask"),
    "dead": ("dead detector pixel", "dead detector pixels", "exclude with pattern_mask"),
}


class QualityPass(ScanPass):
    """Running statistics of the patterns of a scan, per detector pixel and per scan position."""

    def __init__(self, scan: Scan) -> None:
        n = int(np.prod(scan.pattern_shape))
        self.scan = scan
        self.excluded = None if scan.pattern_mask is None else np.flatnonzero(scan.pattern_mask)
        self.n = 0
        self.pixel_minimum, self.pixel_maximum = np.full(n, np.inf), np.full(n, -np.inf)
        self.sum, self.sum_of_squares = np.zeros(n), np.zeros(n)
        self.maximum, self.n_at_maximum = -np.inf, np.zeros(n, dtype=np.int64)
        self.all_integers = True
        self.bad_pixels = np.zeros(n, dtype=bool)
        self.bad_patterns = np.zeros(scan.n_positions, dtype=bool)
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
        self.n += len(values)
        self.total[positions] = total
        dark = np.flatnonzero(total == 0)
        self.empty[positions[dark]] = ~values[dark].any(axis=1)
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
        """Count NaN and infinite values; whether there are any."""
        bad = ~np.isfinite(values)
        self.bad_pixels |= bad.any(axis=0)
        self.bad_patterns[positions] = bad.any(axis=1)
        self.n_not_finite += int(bad.sum())
        return bool(bad.any())

    def result(self) -> Quality:
        """The quality of the scan; see `measure_quality`."""
        scan = self.scan
        if self.n_not_finite:
            raise _not_finite(self)
        minimum, maximum = float(self.pixel_minimum.min()), float(self.pixel_maximum.max())
        if minimum == maximum:
            raise DataValueError(
                "data are constant",
                expected="diffraction patterns that differ",
                received=f"{self.n} patterns that are {minimum:g} everywhere",
                advice="Check that this is the right dataset, and that the masks do not exclude the signal.",
            )
        check_range(minimum, maximum)
        counts = (
            minimum >= 0 and self.all_integers and (scan.dtype.kind != "f" or maximum <= _MAX_FLOAT32_INTEGER)
        )
        total, empty = self.total.reshape(scan.scan_shape), self.empty.reshape(scan.scan_shape)
        mean, squares = (
            sums.reshape(scan.pattern_shape) / self.n for sums in (self.sum, self.sum_of_squares)
        )
        error = np.sqrt(np.maximum(squares - mean**2, 0.0) / self.n)
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
            n_positions=self.n,
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
            saturated=_saturated(self, hot),
            regions=scan.regions,
        )


def measure_quality(scan: Scan) -> Quality:
    """Measure the quality of a scan in one pass; masks are respected.

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
    quality: Quality
    (quality,) = run_passes(scan, QualityPass(scan))
    return quality


def _saturated(statistics: QualityPass, hot: np.ndarray) -> int:
    """How many values are clipped: at the end of the dtype's range, or many exactly at the maximum.

    At very low counts many values equal the maximum without being clipped; then no pixel's maximum lies just below it.
    """
    n = int(statistics.n_at_maximum[~hot.ravel()].sum())
    maximum, dtype = statistics.maximum, statistics.scan.dtype
    full = dtype.kind in "iu" and maximum == np.iinfo(dtype).max
    close = (statistics.pixel_maximum >= 0.9 * maximum) & (statistics.pixel_maximum < maximum)
    return n if full or (n >= 20 and bool(close.any())) else 0


def _not_finite(statistics: QualityPass) -> DataValueError:
    scan = statistics.scan
    pixels = statistics.bad_pixels.reshape(scan.pattern_shape)
    positions = statistics.bad_patterns.reshape(scan.scan_shape)
    at_pixels = "pattern_mask = ~np.isfinite(data).all(axis=(0, 1))"
    at_positions = "scan_mask = ~np.isfinite(data).all(axis=(2, 3))"
    rather_pixels = pixels.mean() < positions.mean()
    return DataValueError(
        "NaN or infinite values",
        expected="finite values",
        received=f"{statistics.n_not_finite} that are not, in {positions.sum()} patterns at scan positions "
        f"{_position_list(positions, scan.regions)}, in {pixels.sum()} detector pixels {_position_list(pixels)}",
        advice=f"Exclude them with {at_pixels if rather_pixels else at_positions}, or replace them.",
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
