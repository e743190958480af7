"""Reads patterns together with what their neighbours on the scan show."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..context import Context
from ..networks.rings import neighbourhood
from ..preprocessing import Detector, as_tensor
from ..scan import Scan

__all__ = ["Batch", "PatternReader", "Scores", "sample_with_means"]

Scores = tuple[Tensor, Tensor]

_READ = 512  # patterns that are read together, at most ...
_READ_VALUES = 2**24  # ... and detector values
_SAMPLED = 2  # neighbours up to so many scan positions away smooth the sample


class Batch(NamedTuple):
    """Patterns of one step, and what is known of them and of their surroundings on the scan.

    Parameters
    ----------
    patterns : Tensor, shape (B, H, W), or None
        Detector values; None where only the scores are wanted.
    scores : Tensor, shape (B, q), float32, or None
        Of the patterns as recorded; see `Context`.
    rings : Tensor, shape (B, R, q), float32, or None
        Sums of the scores of those neighbours that show the same thing, by distance.
    members : Tensor, shape (B, R), float32, or None
        How many neighbours those are.
    """

    patterns: Tensor | None = None
    scores: Tensor | None = None
    rings: Tensor | None = None
    members: Tensor | None = None

    @property
    def recorded(self) -> Tensor:
        """The patterns, where they were read."""
        if self.patterns is None:
            raise RuntimeError("this batch was read without its patterns")
        return self.patterns

    def take(self, chosen: slice | Tensor) -> Batch:
        """Some of the patterns."""
        return Batch(*(None if part is None else part[chosen] for part in self))

    @classmethod
    def of(cls, patterns: np.ndarray) -> Batch:
        """A batch of patterns without their surroundings."""
        return cls(as_tensor(patterns))

    @classmethod
    def join(cls, parts: list[Batch]) -> Batch:
        """One batch of several."""
        columns = [[value for value in column if value is not None] for column in zip(*parts, strict=True)]
        return cls(*(torch.cat(column) if column else None for column in columns))


class PatternReader:
    """Reads patterns with the scores of the alike ones among their neighbours.

    Parameters
    ----------
    scan : Scan
        Where from. Excluded positions are nobody's neighbours.
    context : Context, optional
        Components, and which neighbours are alike; None, or no components, reads patterns alone.
    detector : Detector, optional
        Crop, mask and bin; needed with a context.
    whole : bool or scores
        Compute the scores of the whole scan once, in one pass over the storage, for reading all of it, or take these;
        else those of the patterns asked for and of their neighbours are computed at each call.
    """

    def __init__(
        self,
        scan: Scan,
        context: Context | None = None,
        detector: Detector | None = None,
        *,
        whole: bool | Scores = False,
    ) -> None:
        self.scan, self._detector = scan, detector
        self.excluded = np.zeros(scan.scan_shape, bool) if scan.scan_mask is None else scan.scan_mask
        self.context = context if context is not None and context.directions.shape[1] else None
        self._whole: Scores | None = None
        if self.context is None:
            return
        self._steps, ring = neighbourhood(self.context.radius)
        self._sizes = np.bincount(ring).tolist()  # neighbours on each ring
        if isinstance(whole, tuple):
            self._whole = whole
        elif whole:
            scores: Scores | None = None
            at_once = _at_once(scan)
            for block in scan.blocks(at_once):
                for at in range(0, len(block), at_once):  # a storage chunk may hold many
                    positions = block[at : at + at_once]
                    found = self._scored(positions)
                    if scores is None:
                        scores = tuple(part.new_zeros(scan.n_positions, part.shape[1]) for part in found)  # type: ignore[assignment]
                    for part, values in zip(scores, found, strict=True):  # type: ignore[arg-type]
                        part[torch.from_numpy(positions)] = values
            self._whole = scores

    def __call__(self, positions: np.ndarray, *, patterns: bool = True) -> Batch:
        """Patterns at flat scan positions, and their surroundings.

        Parameters
        ----------
        positions : ndarray of int
            Flat scan positions.
        patterns : bool
            Whether the patterns themselves are wanted, where their scores are known.
        """
        if self.context is None or self._whole is not None:
            scored = self.context is not None
            return self.batch(positions, self.scan.read(positions) if patterns or not scored else None)
        exists, neighbours = self._neighbours(positions)
        wanted = np.unique(np.concatenate([positions, neighbours[exists]]))
        stored = self.scan.read(wanted)
        own, at = (torch.from_numpy(np.searchsorted(wanted, p)) for p in (positions, neighbours))
        scores = self.context(self._values(stored))
        return Batch(as_tensor(stored[own.numpy()]), *self._around(own, torch.from_numpy(exists), at, scores))

    def batch(self, positions: np.ndarray, stored: np.ndarray | None) -> Batch:
        """Patterns (n, H, W) that were read at flat scan positions (n,), and their surroundings, with ``whole=True``."""
        patterns = None if stored is None else as_tensor(stored)
        if self.context is None:
            return Batch(patterns)
        if self._whole is None:
            raise RuntimeError("the surroundings of patterns are known where the whole scan was scored")
        exists, neighbours = self._neighbours(positions)
        own, at = (torch.from_numpy(p) for p in (positions, neighbours))
        return Batch(patterns, *self._around(own, torch.from_numpy(exists), at, self._whole))

    def _neighbours(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        exists, neighbours = _neighbours(self.scan.scan_shape, self.excluded, positions, self._steps)
        return exists, np.where(exists, neighbours, positions[:, None])  # what is excluded may be NaN

    def _around(
        self, own: Tensor, exists: Tensor, at: Tensor, scores: Scores
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Scores of patterns, ring sums over their alike neighbours, and the numbers of those."""
        if self.context is None:
            raise RuntimeError("neighbours need a context")
        values, variances = scores
        mine = values[own]
        if not self.context.radius:
            return mine, None, None
        others = values[at]
        same = self.context.alike((mine[:, None], variances[own][:, None]), (others, variances[at]))
        alike = (exists & same).float()

        def by_ring(each: Tensor) -> Tensor:
            return torch.stack([ring.sum(1) for ring in each.split(self._sizes, 1)], 1)

        # not as a product of matrices, which has threads of its own beside those of a training step; see `ahead`
        sums = by_ring(others * alike[:, :, None])
        if not torch.isfinite(sums).all():  # a pattern of NaN is nobody's like, but 0 times NaN is NaN
            sums = by_ring(others.nan_to_num(0.0, 0.0, 0.0) * alike[:, :, None])
        return mine, sums, by_ring(alike)

    def _scored(self, positions: np.ndarray) -> Scores:
        if self.context is None:
            raise RuntimeError("scores need a context")
        return self.context(self._values(self.scan.read(positions)))

    def _values(self, stored: np.ndarray) -> Tensor:
        if self._detector is None:
            raise RuntimeError("scores need a detector")
        return self._detector(as_tensor(stored))


def sample_with_means(scan: Scan, positions: np.ndarray, detector: Detector) -> tuple[Tensor, Tensor]:
    """Detector values of a sample of patterns, and of each averaged with its neighbours.

    Parameters
    ----------
    scan : Scan
        Where from. Excluded positions are nobody's neighbours.
    positions : ndarray of int
        Flat scan positions, sorted.
    detector : Detector
        Crop, mask and bin.

    Returns
    -------
    single, mean : Tensor, shape (n, h, w), float32
    """
    excluded = np.zeros(scan.scan_shape, bool) if scan.scan_mask is None else scan.scan_mask
    single, mean = (torch.empty(len(positions), *detector.shape, dtype=torch.float32) for _ in range(2))
    steps = neighbourhood(_SAMPLED)[0]
    for part in scan.parts(positions, max(1, 2 * _at_once(scan) // (1 + len(steps)))):
        exists, neighbours = _neighbours(scan.scan_shape, excluded, part, steps)
        wanted = np.unique(np.concatenate([part, neighbours[exists]]))
        values = detector(as_tensor(scan.read(wanted)))
        own = values[torch.from_numpy(np.searchsorted(wanted, part))]
        total = own.clone()
        for there, at in zip(exists.T, neighbours.T, strict=True):
            total[torch.from_numpy(there)] += values[torch.from_numpy(np.searchsorted(wanted, at[there]))]
        place = torch.from_numpy(np.searchsorted(positions, part))
        single[place] = own
        mean[place] = total / torch.from_numpy(1 + exists.sum(1))[:, None, None]
    return single, mean


def _at_once(scan: Scan) -> int:
    """Patterns that are read and looked at together, so that they take no more than some 0.2 GB."""
    return max(1, min(_READ, _READ_VALUES // int(np.prod(scan.pattern_shape))))


def _neighbours(
    scan_shape: tuple[int, int], excluded: np.ndarray, positions: np.ndarray, steps: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each neighbour is on the scan and included, and its flat position; shape (n, neighbours)."""
    (ny, nx), (y, x) = scan_shape, np.divmod(positions, scan_shape[1])
    y, x = y[:, None] + steps[:, 0], x[:, None] + steps[:, 1]
    exists = (y >= 0) & (y < ny) & (x >= 0) & (x < nx)
    flat = np.where(exists, y * nx + x, 0)
    return exists & ~excluded.ravel()[flat], flat
