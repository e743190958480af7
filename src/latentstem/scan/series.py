"""A series of scans (in-situ, tilts, several files) as one scan, so that one model learns from all of them.

The scans lie one below the other on a canvas as wide as the widest. The gaps between and beside them count as excluded
scan positions, so code that works on a scan needs no special case.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..config import MAX_CONTEXT
from ..errors import ArgumentError, LatentSTEMError, MaskError, PatternShapeError, ScanDimensionError
from .scan import Axis, Scan

__all__ = [
    "CanvasSource",
    "Region",
    "Series",
    "located_errors",
    "make_series",
    "one_value_per_scan",
    "require_single_scan",
]


class Region(NamedTuple):
    """Position of a scan of a series on the canvas."""

    name: str
    first_row: int
    rows: int
    columns: int

    def crop(self, canvas: np.ndarray) -> np.ndarray:
        """The scan's part (rows, columns, ...) of an array (Ny, Nx, ...) over the canvas."""
        return canvas[self.first_row : self.first_row + self.rows, : self.columns]


class CanvasSource:
    """Pattern source of a series: the scans' patterns, all of one shape, at canvas positions; zeros in the gaps."""

    chunks = (1, 1)

    def __init__(self, scans: Sequence[Scan]) -> None:
        self._scans = tuple(scans)
        heights = [scan.scan_shape[0] for scan in scans]
        self.first_rows = np.cumsum([0, *(height + MAX_CONTEXT for height in heights[:-1])])
        height, width = int(self.first_rows[-1]) + heights[-1], max(scan.scan_shape[1] for scan in scans)
        self.shape: tuple[int, int, int, int] = (height, width, *scans[0].pattern_shape)
        self.dtype = np.result_type(*(scan.dtype for scan in scans))
        arrays = [scan.source.array for scan in scans]
        self.array = None if any(array is None for array in arrays) else arrays[0]

    @property
    def files(self) -> set[str]:
        """Paths of the files of all scans."""
        return set().union(*(scan.source.files for scan in self._scans))

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Patterns at flat positions of the canvas, shape (n, H, W)."""
        rows, columns = np.divmod(indices, self.shape[1])
        scan_index = np.searchsorted(self.first_rows, rows, side="right") - 1
        patterns = np.zeros((len(indices), *self.shape[2:]), self.dtype)
        for i in np.unique(scan_index):
            scan = self._scans[i]
            ny, nx = scan.scan_shape
            y = rows - self.first_rows[i]
            selected = np.flatnonzero((scan_index == i) & (y < ny) & (columns < nx))
            if len(selected):
                patterns[selected] = scan.read(y[selected] * nx + columns[selected])
        return patterns

    def to_canvas(self, scan_index: int, positions: np.ndarray) -> np.ndarray:
        """Flat positions of one of the scans as flat positions of the canvas."""
        rows, columns = np.divmod(positions, self._scans[scan_index].scan_shape[1])
        return (rows + self.first_rows[scan_index]) * self.shape[1] + columns


@dataclass(frozen=True)
class Series(Scan):
    """Several scans joined into one; made by `make_series`.

    Parameters
    ----------
    scans : tuple of Scan
        Each with its own scan mask and calibration.
    series_axis : Axis, optional
        Axis along the series (time, tilt), if the series is one 5-D array.
    """

    scans: tuple[Scan, ...] = ()
    series_axis: Axis | None = None

    @property
    def canvas(self) -> CanvasSource:
        """The pattern source, which knows the position of each scan."""
        return CanvasSource(self.scans)

    @property
    def regions(self) -> tuple[Region, ...]:
        """Position of each scan on the canvas, with its name."""
        first_rows = self.canvas.first_rows
        return tuple(
            Region(scan.name, int(row), *scan.scan_shape)
            for scan, row in zip(self.scans, first_rows, strict=True)
        )

    @property
    def nbytes(self) -> int:
        """Size of all patterns in bytes."""
        return sum(scan.nbytes for scan in self.scans)

    @property
    def files(self) -> set[str]:
        """Paths of the files that the scans are read from, or were loaded from."""
        return super().files.union(*(scan.loaded_from for scan in self.scans))

    def blocks(self, max_patterns: int = 1024) -> Iterator[np.ndarray]:
        """Flat positions that have patterns, in blocks, in the storage order of each scan."""
        canvas = self.canvas
        for scan_index, scan in enumerate(self.scans):
            for block in scan.blocks(max_patterns):
                yield canvas.to_canvas(scan_index, block)

    def with_masks(self, scan_mask: Any = None, pattern_mask: Any = None) -> Series:
        """A copy with one scan mask for each scan, and one pattern mask for all; None keeps the present masks."""
        masks = one_value_per_scan("scan_mask", scan_mask, len(self.scans))
        scans = []
        for scan_index, (scan, mask) in enumerate(zip(self.scans, masks, strict=True)):
            with located_errors(scan_index, len(masks), scan.name):
                scans.append(scan.with_masks(mask, pattern_mask))
        return self.with_scans(scans)

    def with_scans(self, scans: Sequence[Scan]) -> Series:
        """A copy of the series with other scans."""
        return make_series(scans, self.series_axis, self.name, self.metadata)

    def renamed(self, name: str, metadata: dict[str, Any], files: Iterable[str] = ()) -> Series:
        """A copy with another name; its scans are named NAME_0, NAME_1, ..."""
        digits = len(str(len(self.scans) - 1))
        scans = [scan.renamed(f"{name}_{i:0{digits}}", metadata, files) for i, scan in enumerate(self.scans)]
        return replace(self, name=name, metadata=metadata, scans=tuple(scans))

    def signature(self) -> dict[str, Any]:
        """Description for a checkpoint: shape of the canvas, and the signature of each scan."""
        return {**super().signature(), "scans": [scan.signature() for scan in self.scans]}


def make_series(
    scans: Sequence[Scan],
    series_axis: Axis | None = None,
    name: str = "",
    metadata: dict[str, Any] | None = None,
) -> Series:
    """Join several scans into one series.

    Parameters
    ----------
    scans : sequence of Scan
        They may differ in scan shape, dtype and calibration. Scans of the same name are numbered.
    series_axis : Axis, optional
        Axis along the series.
    name : str
        Title; by default ``series of N``.

    Raises
    ------
    ArgumentError, PatternShapeError
        If there is no scan, or the scans have different pattern shapes.
    """
    if not scans:
        raise ArgumentError(
            "an empty series",
            expected="at least one scan",
            received="none",
            advice="Give a list of scans, such as [scan_a, scan_b].",
        )
    for scan_index, scan in enumerate(scans):
        if scan.pattern_shape != scans[0].pattern_shape:
            raise PatternShapeError(
                "the scans of the series have different pattern shapes",
                expected="{} x {} pixels, as in scan 0 ({!r})".format(*scans[0].pattern_shape, scans[0].name),
                received="{} x {} pixels in scan {} ({!r})".format(
                    *scan.pattern_shape, scan_index, scan.name
                ),
                advice="Crop or bin the detector of all scans to one shape.",
            )
    names = [scan.name for scan in scans]
    scans = [
        replace(scan, name=f"{scan.name}_{scan_index}") if names.count(scan.name) > 1 else scan
        for scan_index, scan in enumerate(scans)
    ]
    canvas = CanvasSource(scans)
    excluded = np.ones(canvas.shape[:2], bool)  # the gaps stay excluded
    for scan_index, scan in enumerate(scans):
        excluded.ravel()[canvas.to_canvas(scan_index, np.arange(scan.n_positions))] = scan.excluded.ravel()
    pattern_masks = [scan.pattern_mask for scan in scans if scan.pattern_mask is not None]
    rows, columns = Axis("row", canvas.shape[0]), Axis("column", canvas.shape[1])
    diffraction_axes = [scan.axes[2:] for scan in scans]
    ky, kx = diffraction_axes[0]
    if diffraction_axes.count((ky, kx)) < len(scans):
        ky, kx = Axis("ky", canvas.shape[2]), Axis("kx", canvas.shape[3])
    return Series(
        source=canvas,
        axes=(rows, columns, ky, kx),
        scan_mask=excluded,
        pattern_mask=np.logical_or.reduce(pattern_masks) if pattern_masks else None,
        name=name or f"series of {len(scans)}",
        metadata=metadata or {},
        scans=tuple(scans),
        series_axis=series_axis,
    )


def require_single_scan(scan: Scan) -> Scan:
    """Return `scan` if it is a single scan; raise `ScanDimensionError` if it is a series."""
    if isinstance(scan, Series):
        raise ScanDimensionError(
            "a series where one scan is needed",
            expected="one scan",
            received=f"{scan.name!r} with {len(scan.scans)}",
            advice="Select one scan of the series, such as data[0].",
        )
    return scan


@contextmanager
def located_errors(scan_index: int, n_scans: int, name: str = "") -> Iterator[None]:
    """Context in which errors get the number of the scan added."""
    try:
        yield
    except LatentSTEMError as error:
        location = f"scan {scan_index} of {n_scans}" + (f" ({name!r})" if name else "")
        raise error.with_fields(what=f"{error.what}, in {location}") from None


def one_value_per_scan(name: str, values: Any, count: int) -> list[Any]:
    """A list with one value per scan; None means None for each. Raises if there are more or fewer values than scans."""
    if values is None:
        return [None] * count
    is_list = isinstance(values, Iterable) and not isinstance(values, (str, dict))
    results = list(values) if is_list else [values]
    if not is_list or getattr(values, "ndim", 3) < 3 or len(results) != count:
        error_class = MaskError if name.endswith("mask") else ArgumentError
        received = f"{len(results)} of them" if is_list else repr(values)
        if is_list and hasattr(values, "shape"):
            received = f"an array of shape {values.shape}"
        raise error_class(
            f"{name} does not fit the series",
            expected=f"a list of {count}, one for each scan",
            received=received,
            advice=f"Give {name}=[...] in the order of the scans; None for a scan that has none.",
            argument=name,
        )
    return results
