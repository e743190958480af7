"""The quality of a scan, found in one pass: values, empty and outlying patterns, hot and dead pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataValueError
from .scan import Scan
from .validation import check_range

if TYPE_CHECKING:
    from .series import Region

__all__ = ["Quality", "measure_quality"]

_BLOCK_VALUES = 2**21  # values per block: fits the processor's cache better than a large block
_OUTLYING = 8.0  # robust standard deviations from the neighbouring scan positions
_SIGNIFICANT = 6.0  # standard errors by which a hot or dead pixel has to differ from its neighbours
_HOT, _DEAD = 4.0, 0.1  # times the brighter, or the darker, of the neighbouring pixels
_MANY = 0.01  # a larger share of seemingly hot pixels are sharp diffraction spots
_COARSE = 16  # pixels: on smaller detectors a diffraction spot is a single pixel
_COUNTABLE = 2**24  # float32 counts one by one up to here
_MAD = 1.4826  # median absolute deviation to standard deviation
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Quality:
    """What a streamed pass over a scan found. Excluded positions and pixels are left out of everything.

    Attributes
    ----------
    scan_shape, pattern_shape : (int, int)
        Rows and columns of the scan and of the detector.
    dtype : str
        Data type of the stored patterns.
    n_positions : int
        Scan positions looked at.
    minimum, maximum : float
        Smallest and largest value.
    counts : bool
        Whether the values look like counts: whole numbers, none negative; where floating-point numbers, up to 2^24,
        beyond which single precision has no others.
    dose : float
        Mean intensity per pattern; electrons, if the values are electron counts.
    mean_pattern : ndarray, shape (H, W), float64
        Mean over the scan; 0 at excluded detector pixels.
    total_intensity : ndarray, shape (Ny, Nx), float64
        Sum of each pattern; NaN at excluded scan positions.
    empty : ndarray, shape (Ny, Nx), bool
        Patterns that are zero everywhere.
    outlying : ndarray, shape (Ny, Nx), bool
        Patterns whose total intensity stands out from their neighbours'. A small particle's may, too.
    hot, dead : ndarray, shape (H, W), bool
        Single detector pixels much brighter than their neighbours, or dark amid bright ones.
    saturated : int
        Values at the upper end of the detector's range, hot pixels left out.
    regions : tuple of Region
        Of a series: its scans, and where they lie in the maps.
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
            scan = f"Series of {len(scans)} scans ({_shown(scans)})"
        lines = [
            f"{scan} of {height} x {width} patterns, {self.dtype} from {self.minimum:g} to "
            f"{self.maximum:g}: values {kind}, {self.dose:.4g} per pattern on average."
        ]
        findings = (
            (self.empty, "empty pattern", "exclude with scan_mask"),
            (self.outlying, "pattern of outlying total intensity", "look at them; scan_mask excludes them"),
            (self.hot, "hot detector pixel", "exclude with pattern_mask"),
            (self.dead, "dead detector pixel", "exclude with pattern_mask"),
        )
        for where, what, advice in findings:
            if where.any():
                places = _places(where, self.regions if where.shape == self.scan_shape else ())
                plural = "" if where.sum() == 1 else "s"
                what = what.replace("pattern of", f"pattern{plural} of") if " of " in what else what + plural
                lines.append(f"{where.sum()} {what}, at {places}: {advice}.")
        if self.saturated:
            lines.append(
                f"{self.saturated} values are saturated at {self.maximum:g}: "
                "the brightest intensities are not to be trusted."
            )
        if len(lines) == 1:
            lines.append("No empty or outlying patterns, no hot or dead detector pixels, no saturation.")
        return lines


class _Pass:
    """Running statistics of the patterns of one scan, per detector pixel and per scan position."""

    def __init__(self, scan: Scan) -> None:
        n = int(np.prod(scan.pattern_shape))
        self.excluded = None if scan.pattern_mask is None else np.flatnonzero(scan.pattern_mask)
        self.n = 0
        self.lowest, self.highest = np.full(n, np.inf), np.full(n, -np.inf)
        self.sum, self.squares, self.at_maximum = np.zeros(n), np.zeros(n), np.zeros(n, dtype=np.int64)
        self.maximum, self.whole = -np.inf, True
        self.bad_pixels = np.zeros(n, dtype=bool)
        self.bad_patterns: list[int] = []
        self.n_bad = 0
        self.total = np.full(scan.n_positions, np.nan)
        self.empty = np.zeros(scan.n_positions, dtype=bool)

    def add(self, positions: np.ndarray, patterns: np.ndarray) -> None:
        """Take in patterns (n, H, W) at flat scan positions (n,)."""
        values = patterns.reshape(len(patterns), -1)
        narrow = values.dtype.itemsize <= 2 or values.dtype == np.float32
        work: Any = values.astype(np.float32 if narrow else np.float64, copy=self.excluded is not None)
        if self.excluded is not None:
            work[:, self.excluded] = 0
        with np.errstate(over="ignore", invalid="ignore"):
            total = work.sum(axis=1)
        if not np.isfinite(total).all() and self._corrupted(positions, work):
            return
        self.n += len(work)
        self.total[positions] = total
        dark = np.flatnonzero(total == 0)
        self.empty[positions[dark]] = ~work[dark].any(axis=1)
        self.sum += np.ones(len(work), work.dtype) @ work
        self.squares += np.einsum("ij,ij->j", work, work)
        with np.errstate(invalid="ignore"):  # excluded pixels may be NaN
            lowest, highest = values.min(axis=0).astype(float), values.max(axis=0).astype(float)
        if self.excluded is not None:
            lowest[self.excluded], highest[self.excluded] = np.inf, -np.inf
        self.lowest, self.highest = np.minimum(self.lowest, lowest), np.maximum(self.highest, highest)
        if highest.max() > self.maximum:
            self.maximum = float(highest.max())
            self.at_maximum[:] = 0
        for pixel in np.flatnonzero(highest == self.maximum):
            self.at_maximum[pixel] += np.count_nonzero(values[:, pixel] == self.maximum)
        if self.whole and values.dtype.kind == "f":
            self.whole = bool((work == np.rint(work)).all())

    def _corrupted(self, positions: np.ndarray, values: np.ndarray) -> bool:
        """Note NaN and infinite values; whether there are any."""
        bad = ~np.isfinite(values)
        self.bad_pixels |= bad.any(axis=0)
        self.bad_patterns += positions[bad.any(axis=1)].tolist()
        self.n_bad += int(bad.sum())
        return bool(bad.any())


def measure_quality(scan: Scan) -> Quality:
    """Look at every pattern of a scan once, honouring its masks.

    Parameters
    ----------
    scan : Scan

    Returns
    -------
    Quality

    Raises
    ------
    DataValueError
        If there are NaN or infinite values, if all values are equal, or if single precision cannot hold them.
    """
    seen = _Pass(scan)
    skip = None if scan.scan_mask is None else scan.scan_mask.ravel()
    for block in scan.blocks(max(1, _BLOCK_VALUES // int(np.prod(scan.pattern_shape)))):
        positions = block if skip is None else block[~skip[block]]
        if len(positions):
            seen.add(positions, scan.read(positions))
    if seen.n_bad:
        raise _not_finite(scan, seen)
    minimum, maximum = float(seen.lowest.min()), float(seen.highest.max())
    if minimum == maximum:
        raise DataValueError(
            "data are constant",
            expected="diffraction patterns that differ",
            received=f"{seen.n} patterns that are {minimum:g} everywhere",
            advice="Check that this is the right dataset, and that the masks do not exclude the signal.",
        )
    check_range(minimum, maximum)
    counts = minimum >= 0 and seen.whole and (scan.dtype.kind != "f" or maximum <= _COUNTABLE)
    total = seen.total.reshape(scan.scan_shape)
    empty = seen.empty.reshape(scan.scan_shape)
    mean, squares = (values.reshape(scan.pattern_shape) / seen.n for values in (seen.sum, seen.squares))
    variance = np.maximum(squares - mean**2, 0.0)
    excluded = np.zeros(scan.pattern_shape, dtype=bool) if scan.pattern_mask is None else scan.pattern_mask
    hot, dead = _hot_and_dead(
        np.where(excluded, np.nan, mean),
        np.where(excluded, np.nan, np.sqrt(variance / seen.n)),
        (seen.lowest == seen.highest).reshape(scan.pattern_shape),
    )
    return Quality(
        scan_shape=scan.scan_shape,
        pattern_shape=scan.pattern_shape,
        dtype=str(scan.dtype),
        n_positions=seen.n,
        minimum=minimum,
        maximum=maximum,
        counts=counts,
        dose=float(np.nanmean(total)),
        mean_pattern=mean,
        total_intensity=total,
        empty=empty,
        outlying=_outlying(np.where(empty, np.nan, total), counts),
        hot=hot,
        dead=dead,
        saturated=_saturated(seen, hot, scan.dtype),
        regions=scan.regions,
    )


def _neighbours(image: np.ndarray, radius: int = 1) -> np.ndarray:
    """The pixels around each pixel at this distance, sorted, NaN last: shape (8 * radius, H, W)."""
    padded = np.pad(image, radius, constant_values=np.nan)
    (height, width), side = image.shape, 2 * radius + 1
    ring = [
        padded[i : i + height, j : j + width]
        for i in range(side)
        for j in range(side)
        if max(abs(i - radius), abs(j - radius)) == radius
    ]
    return np.sort(np.stack(ring), axis=0)


def _quantile(ordered: np.ndarray, q: float) -> np.ndarray:
    """A quantile along the first axis, NaN left out; NaN where there is nothing else."""
    last = np.maximum(np.isfinite(ordered).sum(axis=0) - 1, 0)
    return np.take_along_axis(ordered, np.rint(q * last).astype(int)[None], axis=0)[0]


def _hot_and_dead(mean: np.ndarray, error: np.ndarray, constant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Single pixels that stand out from the pixels around them, (H, W) bool each.

    `mean` and its standard `error` are NaN at excluded pixels. The shoulders of a sharp diffraction spot are
    brighter than its surroundings, those of a hot pixel are not.
    """
    level = mean - np.nanquantile(mean, 0.05)  # a camera's offset says nothing
    around, ring = _neighbours(level), _neighbours(level, 2)
    noise = _SIGNIFICANT * np.maximum(error, _quantile(_neighbours(error), 0.5))
    bright, dark, typical = (_quantile(around, q) for q in (0.75, 0.25, 0.5))
    residual = np.abs(level - typical)
    rough = _MAD * _SIGNIFICANT * np.nanmedian(residual)
    alone = typical <= 2 * np.maximum(_quantile(ring, 0.5), 0) + noise
    hot = (level > _HOT * np.maximum(bright, 0) + noise + rough) & (alone | constant)
    if hot.sum() > max(_MANY * hot.size, 8) or min(hot.shape) < _COARSE:
        hot &= constant
    dead = (level < _DEAD * dark) & (dark - level > noise + rough)
    return hot, dead


def _outlying(total: np.ndarray, counts: bool) -> np.ndarray:
    """Patterns with a total far from that of all but two of their scan neighbours, (Ny, Nx) bool.

    Neighbours, and not the whole scan, are compared with: vacuum and thickness are no defects of a pattern.
    Two neighbours may be alike, so that a bad scan line is found, but not the corner of a grain.
    """
    around = _neighbours(total)
    typical = _quantile(around, 0.5)
    difference = np.abs(total - typical)
    if not np.isfinite(difference).any():
        return np.zeros(total.shape, dtype=bool)
    usual = _MAD * np.nanmedian(difference)
    shot_noise = np.sqrt(np.maximum(typical, 1.0)) if counts else 1e-6 * np.abs(typical)
    differences = np.sort(np.abs(total - around), axis=0)
    alike = np.clip((np.isfinite(differences).sum(axis=0) - 1) // 2, 0, 2)  # fewer at the edges
    apart = np.take_along_axis(differences, alike[None], axis=0)[0]
    return apart > _OUTLYING * np.maximum(usual, shot_noise)


def _saturated(seen: _Pass, hot: np.ndarray, dtype: np.dtype[Any]) -> int:
    """How many values are clipped: at the end of the dtype's range, or many exactly at the maximum.

    Few counts share few numbers without being clipped; there, nothing comes close below the maximum.
    """
    n = int(seen.at_maximum[~hot.ravel()].sum())
    full = dtype.kind in "iu" and seen.maximum == np.iinfo(dtype).max
    close = (seen.highest >= 0.9 * seen.maximum) & (seen.highest < seen.maximum)
    return n if full or (n >= 20 and bool(close.any())) else 0


def _not_finite(scan: Scan, seen: _Pass) -> DataValueError:
    pixels = seen.bad_pixels.reshape(scan.pattern_shape)
    positions = np.zeros(scan.n_positions, dtype=bool)
    positions[seen.bad_patterns] = True
    positions = positions.reshape(scan.scan_shape)
    at_pixels = "pattern_mask = ~np.isfinite(data).all(axis=(0, 1))"
    at_positions = "scan_mask = ~np.isfinite(data).all(axis=(2, 3))"
    rather_pixels = pixels.mean() < positions.mean()
    return DataValueError(
        "NaN or infinite values",
        expected="finite values",
        received=f"{seen.n_bad} that are not, in {positions.sum()} patterns at scan positions "
        f"{_places(positions, scan.regions)}, in {pixels.sum()} detector pixels {_places(pixels)}",
        advice=f"Exclude them with {at_pixels if rather_pixels else at_positions}, or replace them.",
    )


def _places(where: np.ndarray, regions: tuple[Region, ...] = ()) -> str:
    """The first few positions, as (row, column); in a series, of each scan."""
    if regions:
        found = [(_places(region.crop(where)), region.name) for region in regions if region.crop(where).any()]
        return _shown([f"{places} of {name!r}" for places, name in found], "; ")
    return _shown([f"({row}, {column})" for row, column in np.argwhere(where)[: _SHOWN + 1]])


def _shown(texts: list[str], between: str = ", ") -> str:
    return between.join(texts[:_SHOWN]) + (" ..." if len(texts) > _SHOWN else "")
