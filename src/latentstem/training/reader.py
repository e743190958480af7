"""Reads patterns together with what their neighbours on the scan show."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import psutil
import torch
from torch import Tensor

from ..context import Context
from ..preprocessing import as_tensor
from ..scan import Scan

__all__ = ["Batch", "PatternReader"]

Scores = tuple[Tensor, Tensor]


class Batch(NamedTuple):
    """Patterns of one step.

    Parameters
    ----------
    patterns : Tensor, shape (B, H, W)
        Detector values.
    neighbours : Tensor, shape (B, H, W), float32, or None
        Sum of the patterns at the neighbouring scan positions that show the same thing.
    members : Tensor, shape (B,), float32, or None
        How many neighbours that are.
    """

    patterns: Tensor
    neighbours: Tensor | None = None
    members: Tensor | None = None

    def take(self, chosen: slice | Tensor) -> Batch:
        """Some of the patterns."""
        if self.neighbours is None or self.members is None:
            return Batch(self.patterns[chosen])
        return Batch(self.patterns[chosen], self.neighbours[chosen], self.members[chosen])

    @classmethod
    def of(cls, patterns: np.ndarray) -> Batch:
        """A batch of patterns without neighbours."""
        return cls(as_tensor(patterns))

    @classmethod
    def join(cls, parts: list[Batch]) -> Batch:
        """One batch of several."""
        patterns = torch.cat([part.patterns for part in parts])
        neighbours = [part.neighbours for part in parts if part.neighbours is not None]
        members = [part.members for part in parts if part.members is not None]
        return cls(patterns, torch.cat(neighbours), torch.cat(members)) if neighbours else cls(patterns)


class PatternReader:
    """Reads patterns with the sum of the alike ones among their neighbours.

    Where patterns are read at random (memory, memory map), the scores that likeness is judged by are computed once for
    the whole scan; from chunked storage, each block is read once, with its surroundings.

    Parameters
    ----------
    scan : Scan
        Where from. Excluded positions are nobody's neighbours.
    context : Context, optional
        Which neighbours are alike; None, or a radius of 0, reads no neighbours.
    keep : bool
        Keep the sums of the whole scan in memory if they fit into a quarter of what is free, for repeated passes.
    """

    def __init__(self, scan: Scan, context: Context | None = None, *, keep: bool = False) -> None:
        self.scan = scan
        self.excluded = np.zeros(scan.scan_shape, bool) if scan.scan_mask is None else scan.scan_mask
        self.context = context if context is not None and context.radius else None
        self._scores: Scores | None = None
        self._kept: Batch | None = None
        if self.context is None:
            return
        around = range(-self.context.radius, self.context.radius + 1)
        self._steps = np.array([(dy, dx) for dy in around for dx in around if (dy, dx) != (0, 0)])
        if scan.source.array is not None:
            everything = [self.context(as_tensor(scan.read(block))) for block in scan.blocks(512)]
            self._scores = torch.cat([s for s, _ in everything]), torch.cat([v for _, v in everything])
            size = 4 * scan.n_positions * int(np.prod(scan.pattern_shape))
            if keep and size < psutil.virtual_memory().available / 4:
                sums = [self._summed(block) for block in scan.blocks(512)]
                self._kept = Batch.join([Batch(s, s, m) for s, m in sums])

    def __call__(self, positions: np.ndarray) -> Batch:
        """Patterns at flat scan positions, and their neighbours."""
        if self.context is None:
            return Batch.of(self.scan.read(positions))
        if self._kept is not None:
            at = torch.from_numpy(positions)
            kept = self._kept.take(at)
            return Batch(as_tensor(self.scan.read(positions)), kept.neighbours, kept.members)
        if self._scores is not None:
            return Batch(as_tensor(self.scan.read(positions)), *self._summed(positions))
        exists, neighbours = self._neighbours(positions)
        wanted = np.unique(np.concatenate([positions, neighbours[exists]]))
        patterns = self.scan.read(wanted)
        scores = self.context(as_tensor(patterns))

        def place(at: np.ndarray) -> np.ndarray:
            return np.searchsorted(wanted, at)

        sums = self._sum(positions, exists, neighbours, lambda at: patterns[place(at)], scores, place)
        return Batch(as_tensor(patterns[place(positions)]), *sums)

    def _summed(self, positions: np.ndarray) -> tuple[Tensor, Tensor]:
        exists, neighbours = self._neighbours(positions)
        if self._scores is None:
            raise RuntimeError("scores are computed at construction")
        return self._sum(positions, exists, neighbours, self.scan.read, self._scores, lambda at: at)

    def _sum(
        self,
        positions: np.ndarray,
        exists: np.ndarray,
        neighbours: np.ndarray,
        read: Callable[[np.ndarray], np.ndarray],
        scores: Scores,
        place: Callable[[np.ndarray], np.ndarray],
    ) -> tuple[Tensor, Tensor]:
        """Sum of the alike neighbours, and their number; `place` finds a position among the scores."""
        if self.context is None:
            raise RuntimeError("neighbours need a context")
        total = np.zeros((len(positions), *self.scan.pattern_shape), np.float32)
        members = np.zeros(len(positions), np.float32)
        own = torch.from_numpy(place(positions))
        mine = scores[0][own], scores[1][own]
        for there, at in zip(exists, neighbours, strict=True):
            other = torch.from_numpy(place(np.where(there, at, positions)))
            alike = there & self.context.alike(mine, (scores[0][other], scores[1][other])).numpy()
            if alike.any():
                total[alike] += read(at[alike])
                members += alike
        return torch.from_numpy(total), torch.from_numpy(members)

    def _neighbours(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whether each neighbour is on the scan and included, and its flat position; shape (neighbours, n)."""
        (ny, nx), (y, x) = self.scan.scan_shape, np.divmod(positions, self.scan.scan_shape[1])
        dy, dx = self._steps.T[:, :, None]
        y, x = y + dy, x + dx
        exists = (y >= 0) & (y < ny) & (x >= 0) & (x < nx)
        flat = np.where(exists, y * nx + x, 0)
        return exists & ~self.excluded.ravel()[flat], flat
