"""Scan passes: patterns are read block by block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .scan import Scan

__all__ = ["read_blocks"]

_BLOCK_PATTERNS = 512  # per block, at most ...
_BLOCK_VALUES = 2**21  # ... and detector values: these fit the processor's cache


def read_blocks(
    scan: Scan, positions: np.ndarray | None = None, max_patterns: int = _BLOCK_PATTERNS
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read a scan once, in storage order: yield flat scan positions (n,) and their patterns (n, H, W), block by block.

    Parameters
    ----------
    positions : ndarray of int, optional
        Flat scan positions to read; by default all that are not excluded.
    max_patterns : int
        Patterns per block, at most; large patterns make smaller blocks.
    """
    positions = scan.included if positions is None else positions
    max_patterns = max(1, min(max_patterns, _BLOCK_VALUES // int(np.prod(scan.pattern_shape))))
    for block in scan.blocks_of(positions, max_patterns):
        yield block, scan.read(block)
