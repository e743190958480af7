"""A series of scans (in-situ, tilts, several files) as one scan, so that one model learns from all of them.

The scans lie one below the other on a canvas as wide as the widest. Between and beside them are positions without
patterns, which are excluded like any excluded position: nothing that works on a scan has to know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..config import MAX_CONTEXT
from ..errors import ArgumentError, LatentSTEMError, MaskError, PatternShapeError, ScanDimensionError
from .scan import Axis, Scan

__all__ = [
    "Canvas",
    "Region",
    "Series",
    "located_errors",
    "make_series",
    "one_value_per_scan",
    "require_single_scan",
]


class Region(NamedTuple):
    """Where a scan of a series lies on the canvas."""

    name: str
    top: int
    rows: int
    columns: int

    def crop(self, canvas: np.ndarray) -> np.ndarray:
        """The part (rows, columns, ...) of an array (Ny, Nx, ...) over the canvas."""
        return canvas[self.top : self.top + self.rows, : self.columns]


class Canvas:
    """Patterns of several scans at positions of one canvas; zeros where there is none.

    Parameters
    ----------
    scans : sequence of Scan
        With patterns of one shape.
    """

    chunks = (1, 1)

    def __init__(self, scans: Sequence[Scan]) -> None:
        self._scans = tuple(scans)
        heights = [scan.scan_shape[0] for scan in scans]
        self.tops = np.cumsum([0, *(height + MAX_CONTEXT for height in heights[:-1])])
        height, width = int(self.tops[-1]) + heights[-1], max(scan.scan_shape[1] for scan in scans)
        self.shape: tuple[int, int, int, int] = (height, width, *scans[0].pattern_shape)
        self.dtype = np.result_type(*(scan.dtype for scan in scans))
        arrays = [scan.source.array for scan in scans]
        self.array = None if any(array is None for array in arrays) else arrays[0]

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Patterns at flat positions of the canvas, shape (n, H, W)."""
        rows, columns = np.divmod(indices, self.shape[1])
        number = np.searchsorted(self.tops, rows, side="right") - 1
        out = np.zeros((len(indices), *self.shape[2:]), self.dtype)
        for i in np.unique(number):
            scan = self._scans[i]
            ny, nx = scan.scan_shape
            y = rows - self.tops[i]
            there = np.flatnonzero((number == i) & (y < ny) & (columns < nx))
            if len(there):
                out[there] = scan.read(y[there] * nx + columns[there])
        return out

    def positions(self, number: int, positions: np.ndarray) -> np.ndarray:
        """Flat positions of one of the scans as flat positions of the canvas."""
        rows, columns = np.divmod(positions, self._scans[number].scan_shape[1])
        return (rows + self.tops[number]) * self.shape[1] + columns


@dataclass(frozen=True)
class Series(Scan):
    """Several scans as one; made by `make_series`.

    Parameters
    ----------
    scans : tuple of Scan
        Each with its own scan mask and calibration.
    step : Axis, optional
        Axis along the series, where it is one array: time, tilt.
    """

    scans: tuple[Scan, ...] = ()
    step: Axis | None = None

    @property
    def canvas(self) -> Canvas:
        """Where each scan lies."""
        return Canvas(self.scans)

    @property
    def regions(self) -> tuple[Region, ...]:
        """Where each scan lies, with its name."""
        tops = self.canvas.tops
        return tuple(
            Region(scan.name, int(top), *scan.scan_shape) for scan, top in zip(self.scans, tops, strict=True)
        )

    @property
    def nbytes(self) -> int:
        """Size of all patterns in bytes."""
        return sum(scan.nbytes for scan in self.scans)

    def blocks(self, max_patterns: int = 1024) -> Iterator[np.ndarray]:
        """Flat positions that have patterns, in blocks that follow the storage of each scan."""
        canvas = self.canvas
        for number, scan in enumerate(self.scans):
            for block in scan.blocks(max_patterns):
                yield canvas.positions(number, block)

    def with_masks(self, scan_mask: Any = None, pattern_mask: Any = None) -> Series:
        """The same series with one scan mask for each scan, and one pattern mask for all; None keeps what is there."""
        masks = one_value_per_scan("scan_mask", scan_mask, len(self.scans))
        scans = []
        for number, (scan, mask) in enumerate(zip(self.scans, masks, strict=True)):
            with located_errors(number, len(masks), scan.name):
                scans.append(scan.with_masks(mask, pattern_mask))
        return self.with_scans(scans)

    def with_scans(self, scans: Sequence[Scan]) -> Series:
        """The same series with these scans in place of its own."""
        return replace(make_series(scans, self.step, self.name, self.metadata), host=self.host)

    def renamed(self, name: str, host: str, metadata: dict[str, Any]) -> Series:
        """The same series under another name, by which its scans are numbered."""
        digits = len(str(len(self.scans) - 1))
        scans = [
            scan.renamed(f"{name}_{number:0{digits}}", host, metadata)
            for number, scan in enumerate(self.scans)
        ]
        return replace(self, name=name, host=host, metadata=metadata, scans=tuple(scans))

    def signature(self) -> dict[str, Any]:
        """What identifies the series in a checkpoint: shape of the canvas, and the signature of each scan."""
        return {**super().signature(), "scans": [scan.signature() for scan in self.scans]}


def make_series(
    scans: Sequence[Scan], step: Axis | None = None, name: str = "", metadata: dict[str, Any] | None = None
) -> Series:
    """Several scans as one.

    Parameters
    ----------
    scans : sequence of Scan
        They may differ in scan shape, dtype and calibration. Scans of the same name are numbered.
    step : Axis, optional
        Axis along the series.
    name : str
        Title; by default, how many scans there are.
    metadata : dict, optional
        Of the series.

    Raises
    ------
    ArgumentError
        If there is no scan.
    PatternShapeError
        If their patterns are not of one shape.
    """
    if not scans:
        raise ArgumentError(
            "an empty series",
            expected="at least one scan",
            received="none",
            advice="Give a list of scans, such as [scan_a, scan_b].",
        )
    for number, scan in enumerate(scans):
        if scan.pattern_shape != scans[0].pattern_shape:
            raise PatternShapeError(
                "the patterns of the series are not of one shape",
                expected="{} x {} pixels, as in scan 0 ({!r})".format(*scans[0].pattern_shape, scans[0].name),
                received="{} x {} pixels in scan {} ({!r})".format(*scan.pattern_shape, number, scan.name),
                advice="Crop or bin the detector of all scans to one shape.",
            )
    names = [scan.name for scan in scans]
    scans = [
        replace(scan, name=f"{scan.name}_{number}") if names.count(scan.name) > 1 else scan
        for number, scan in enumerate(scans)
    ]
    canvas = Canvas(scans)
    excluded = np.ones(canvas.shape[:2], bool)
    for number, scan in enumerate(scans):
        mask = np.zeros(scan.scan_shape, bool) if scan.scan_mask is None else scan.scan_mask
        excluded.ravel()[canvas.positions(number, np.arange(scan.n_positions))] = mask.ravel()
    pattern_masks = [scan.pattern_mask for scan in scans if scan.pattern_mask is not None]
    rows, columns = Axis("row", canvas.shape[0]), Axis("column", canvas.shape[1])
    detector = [scan.axes[2:] for scan in scans]
    ky, kx = (
        detector[0]
        if detector.count(detector[0]) == len(scans)
        else (Axis("ky", canvas.shape[2]), Axis("kx", canvas.shape[3]))
    )
    return Series(
        canvas,
        (rows, columns, ky, kx),
        excluded,
        np.logical_or.reduce(pattern_masks) if pattern_masks else None,
        name or f"series of {len(scans)}",
        scans[0].host,
        metadata or {},
        scans=tuple(scans),
        step=step,
    )


def require_single_scan(scan: Scan) -> Scan:
    """The scan, if it is no series.

    Raises
    ------
    ScanDimensionError
    """
    if isinstance(scan, Series):
        raise ScanDimensionError(
            "a series of scans",
            expected="one scan",
            received=f"{scan.name!r} with {len(scan.scans)}",
            advice="Select one scan of the series, such as data[0].",
        )
    return scan


class located_errors:
    """Errors within the block say in which scan of a series."""

    def __init__(self, number: int, count: int, name: str = "") -> None:
        self._where = f"scan {number} of {count}" + (f" ({name!r})" if name else "")

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, LatentSTEMError):
            raise error.replaced(what=f"{error.what}, in {self._where}") from None


def one_value_per_scan(what: str, values: Any, count: int) -> list[Any]:
    """One value for each of `count` scans; None stands for none of them.

    Raises
    ------
    MaskError, ArgumentError
        If there are more or fewer.
    """
    if values is None:
        return [None] * count
    fits = isinstance(values, Iterable) and not isinstance(values, (str, dict))
    found = list(values) if fits else [values]
    if not fits or getattr(values, "ndim", 3) < 3 or len(found) != count:
        kind = MaskError if what.endswith("mask") else ArgumentError
        shown = f"an array of shape {values.shape}" if hasattr(values, "shape") else f"{len(found)} of them"
        raise kind(
            f"{what} does not fit the series",
            expected=f"a list of {count}, one for each scan",
            received=shown if fits else repr(values),
            advice=f"Give {what}=[...] in the order of the scans; None for a scan that has none.",
        )
    return found
