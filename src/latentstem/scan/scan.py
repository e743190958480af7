"""The scan: a read-only view of a 4D-STEM dataset, and the one place that knows its axis order.

A scan has two scan axes followed by two diffraction axes, in the order in which the host stores them. Patterns are
addressed by their flat scan position, row-major over ``scan_shape``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from ..errors import MaskError

__all__ = ["Axis", "Block", "PatternSource", "Scan", "default_axes"]


class Block(NamedTuple):
    """A rectangle of scan positions, which indexes arrays that have the scan axes first."""

    rows: slice
    columns: slice

    @property
    def size(self) -> int:
        """Number of scan positions."""
        return int((self.rows.stop - self.rows.start) * (self.columns.stop - self.columns.start))


@dataclass(frozen=True)
class Axis:
    """One calibrated axis.

    Parameters
    ----------
    name : str
        Name that the host gives to the axis.
    size : int
        Number of positions or pixels.
    scale, offset : float
        Calibration: coordinate = offset + scale * index. If either is not finite, the axis counts as
        uncalibrated.
    units : str
        Units as a plain string (``"nm"``, ``"1/angstrom"``, ``"mrad"``); empty when uncalibrated.
    """

    name: str
    size: int
    scale: float = 1.0
    offset: float = 0.0
    units: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and math.isfinite(self.offset)):
            for name, value in (("scale", 1.0), ("offset", 0.0), ("units", "")):
                object.__setattr__(self, name, value)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)


@runtime_checkable
class PatternSource(Protocol):
    """An object that reads the patterns of a scan: from an array in memory, a memory map, or chunks in a file."""

    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    #: the array, if it is in memory or memory-mapped, so that random access is cheap; else None
    array: np.ndarray | None
    #: scan rows and columns of one storage chunk; (1, 1) if patterns are stored one by one
    chunks: tuple[int, int]

    @property
    def files(self) -> set[str]:
        """Paths of the files that patterns are read from; empty for data in memory."""
        ...

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Patterns at flat scan positions, shape (n, H, W), the source's dtype in native byte order."""
        ...


@dataclass(frozen=True)
class Scan:
    """A read-only view of a 4D dataset.

    Parameters
    ----------
    source : PatternSource
        Reads the patterns.
    axes : tuple of Axis
        The two scan axes, then the two diffraction axes.
    scan_mask : ndarray, shape (Ny, Nx), bool, optional
        True where a scan position is excluded.
    pattern_mask : ndarray, shape (H, W), bool, optional
        True where a detector pixel is excluded.
    name : str
        Title for messages and reports.
    metadata : dict
        Plain values that go into the summary of a run.
    loaded_from : frozenset of str
        Paths of the files that the data in memory were loaded from.
    """

    source: PatternSource
    axes: tuple[Axis, Axis, Axis, Axis]
    scan_mask: np.ndarray | None = None
    pattern_mask: np.ndarray | None = None
    name: str = "scan"
    metadata: dict[str, Any] = field(default_factory=dict)
    loaded_from: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        _check_mask(self.scan_mask, self.scan_shape, "scan_mask", "scan position")
        _check_mask(self.pattern_mask, self.pattern_shape, "pattern_mask", "detector pixel")

    @property
    def scan_shape(self) -> tuple[int, int]:
        """(Ny, Nx): scan rows and columns."""
        return self.source.shape[0], self.source.shape[1]

    @property
    def pattern_shape(self) -> tuple[int, int]:
        """(H, W): detector rows and columns."""
        return self.source.shape[2], self.source.shape[3]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the stored patterns."""
        return np.dtype(self.source.dtype)

    @property
    def n_positions(self) -> int:
        """Number of scan positions, Ny * Nx."""
        return self.scan_shape[0] * self.scan_shape[1]

    @property
    def excluded(self) -> np.ndarray:
        """Excluded scan positions, shape (Ny, Nx), bool: the scan mask, or all False."""
        return np.zeros(self.scan_shape, bool) if self.scan_mask is None else self.scan_mask

    @property
    def nbytes(self) -> int:
        """Size of all patterns in bytes."""
        return self.n_positions * int(np.prod(self.pattern_shape)) * self.dtype.itemsize

    @property
    def files(self) -> set[str]:
        """Paths of the files that the patterns are read from, or were loaded from; see `loaded_from`."""
        return self.source.files | self.loaded_from

    @property
    def included(self) -> np.ndarray:
        """Flat scan positions that are not excluded, shape (n,), int64."""
        return np.flatnonzero(~self.excluded)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Patterns (n, H, W) in the scan's dtype, at flat scan positions (n,) in any order."""
        return self.source.read(np.asarray(indices, dtype=np.int64))

    def blocks(self, max_patterns: int = 1024) -> Iterator[np.ndarray]:
        """Flat scan positions in blocks, in storage order; each position once.

        Whole storage chunks are kept together, so that a streamed pass decompresses each chunk once. A block has at most
        the larger of `max_patterns` and one storage chunk.
        """
        (ny, nx), (cy, cx) = self.scan_shape, self.source.chunks
        grid = np.arange(ny * nx).reshape(ny, nx)
        if (cy, cx) == (1, 1):
            for start in range(0, ny * nx, max_patterns):
                yield grid.ravel()[start : start + max_patterns]
            return
        block_width = max(1, max_patterns // (cy * cx)) * cx
        for y in range(0, ny, cy):
            for x in range(0, nx, block_width):
                yield grid[y : y + cy, x : x + block_width].ravel()

    def blocks_of(self, positions: np.ndarray, max_patterns: int) -> Iterator[np.ndarray]:
        """The given flat scan positions in blocks of at most `max_patterns`, in storage order.

        Reading them block by block decompresses hardly any chunk twice.
        """
        is_selected = np.zeros(self.n_positions, bool)
        is_selected[positions] = True
        pending = positions[:0]
        for block in self.blocks(max_patterns):
            pending = np.concatenate([pending, block[is_selected[block]]])
            while len(pending) >= max_patterns:
                yield pending[:max_patterns]
                pending = pending[max_patterns:]
        if len(pending):
            yield pending

    def with_masks(self, scan_mask: Any = None, pattern_mask: Any = None) -> Scan:
        """A copy of the scan with these masks; None keeps the present mask."""
        return replace(
            self,
            scan_mask=_new_mask(scan_mask, "scan_mask", self.scan_mask),
            pattern_mask=_new_mask(pattern_mask, "pattern_mask", self.pattern_mask),
        )

    def renamed(self, name: str, metadata: dict[str, Any], files: Iterable[str] = ()) -> Scan:
        """A copy of the scan with another name and metadata, which was loaded from these files."""
        return replace(self, name=name, metadata=metadata, loaded_from=self.loaded_from.union(files))

    @property
    def regions(self) -> tuple[Any, ...]:
        """Position of each scan on the canvas of a series, see `Region`; empty for a single scan."""
        return ()

    def signature(self) -> dict[str, Any]:
        """Description of the scan for a checkpoint, as plain values."""
        return {
            "name": self.name,
            "scan_shape": list(self.scan_shape),
            "pattern_shape": list(self.pattern_shape),
            "dtype": str(self.dtype),
            "axes": [axis.as_dict() for axis in self.axes],
        }


def _check_mask(mask: np.ndarray | None, shape: tuple[int, int], name: str, element: str) -> None:
    if mask is None:
        return
    is_array = isinstance(mask, np.ndarray)
    if not is_array or mask.dtype != bool or mask.shape != shape:
        raise MaskError(
            f"{name} does not fit",
            expected=f"a boolean array of shape {shape}",
            received=f"{mask.dtype} {mask.shape}" if is_array else type(mask).__name__,
            advice=f"Give one value per {element}; True excludes it.",
            argument=name,
        )
    if mask.all():
        raise MaskError(
            f"{name} excludes everything",
            expected="at least one False",
            received=f"{mask.size} times True",
            advice="True means excluded: invert the mask with ~ if True marks what to use.",
            argument=name,
        )


def _new_mask(mask: Any, name: str, present_mask: np.ndarray | None) -> np.ndarray | None:
    if mask is None:
        return present_mask
    try:
        return np.asarray(mask)
    except (TypeError, ValueError, RuntimeError):
        raise MaskError(
            f"{name} is not an array",
            expected="a boolean array",
            received=f"{type(mask).__module__}.{type(mask).__qualname__}, which cannot be converted to an array",
            advice="Give rows of equal length, of True and False; True excludes.",
            argument=name,
        ) from None


def default_axes(shape: tuple[int, int, int, int]) -> tuple[Axis, Axis, Axis, Axis]:
    """Axes of uncalibrated data: scan rows and columns, detector rows and columns."""
    y, x, ky, kx = (Axis(name, size) for name, size in zip(("y", "x", "ky", "kx"), shape, strict=True))
    return y, x, ky, kx
