"""Scan passes: patterns are read block by block, and several results are computed from one reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from .scan import Scan

__all__ = ["ScanPass", "iterate_passes", "read_blocks", "run_passes"]

_BLOCK_PATTERNS = 512  # per block, at most ...
_BLOCK_VALUES = 2**21  # ... and detector values: these fit the processor's cache


class ScanPass(Protocol):
    """A computation on the patterns of a scan, one block after the other."""

    def process(self, positions: np.ndarray, patterns: np.ndarray) -> None:
        """Take in patterns (n, H, W) at flat scan positions (n,). Other passes get the same arrays, so do not change them."""
        ...

    def result(self) -> Any:
        """The result, once all blocks have been processed."""
        ...


def read_blocks(
    scan: Scan, positions: np.ndarray | None = None, max_patterns: int = _BLOCK_PATTERNS
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read a scan once, in storage order.

    Parameters
    ----------
    scan : Scan
        The scan to read.
    positions : ndarray of int, optional
        Flat scan positions to read; by default all that are not excluded.
    max_patterns : int
        Patterns per block, at most; large patterns make smaller blocks.

    Yields
    ------
    positions : ndarray of int, shape (n,)
        Flat scan positions.
    patterns : ndarray, shape (n, H, W)
        Their patterns, in the dtype of the scan.
    """
    positions = scan.included if positions is None else positions
    max_patterns = max(1, min(max_patterns, _BLOCK_VALUES // int(np.prod(scan.pattern_shape))))
    for block in scan.blocks_of(positions, max_patterns):
        yield block, scan.read(block)


def iterate_passes(
    scan: Scan, passes: Sequence[ScanPass], max_patterns: int = _BLOCK_PATTERNS
) -> Iterator[float]:
    """Let several passes process the included positions of a scan, which is read once; see `read_blocks`.

    Yields
    ------
    float
        Fraction of the positions that has been processed, after each block.
    """
    n_processed, n_positions = 0, len(scan.included)
    for positions, patterns in read_blocks(scan, max_patterns=max_patterns):
        for scan_pass in passes:
            scan_pass.process(positions, patterns)
        n_processed += len(positions)
        yield n_processed / n_positions


def run_passes(scan: Scan, *passes: ScanPass) -> list[Any]:
    """Results of several passes over a scan, which is read once."""
    for _ in iterate_passes(scan, passes):
        pass
    return [scan_pass.result() for scan_pass in passes]
