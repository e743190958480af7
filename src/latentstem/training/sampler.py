"""Which patterns each training step sees. All of it follows from the seed and the number of the step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

__all__ = ["BUFFER_BYTES", "RandomOrder", "StreamedOrder", "block_size"]

BUFFER_BYTES = 192 * 2**20  # patterns of a streamed run that are shuffled among each other
_READ_BYTES = 24 * 2**20  # of one read, where storage chunks are smaller than that


class RandomOrder:
    """Each pass over the training positions in an order of its own.

    Parameters
    ----------
    positions : ndarray of int
        Flat training positions.
    batch_size : int
        Patterns per step, of all processes together.
    seed : int
        Seed of the order.
    share : (int, int)
        Rank of this process, and the number of processes. Together they see each position once in a pass.
    """

    def __init__(
        self, positions: np.ndarray, batch_size: int, seed: int, share: tuple[int, int] = (0, 1)
    ) -> None:
        self.positions, self.seed, self.share = positions, seed, share
        self.batch_size = max(1, batch_size // share[1])  # of this process
        #: the same for every process: one that took fewer steps would keep the others waiting for ever
        self.steps_per_pass = max(1, len(positions) // (self.batch_size * share[1]))
        self._pass: tuple[int, np.ndarray] = (-1, positions)

    def __getitem__(self, step: int) -> np.ndarray:
        """Flat scan positions of a step."""
        (rank, processes), (number, at) = self.share, divmod(step, self.steps_per_pass)
        if self._pass[0] != number:
            rng = np.random.default_rng([self.seed, 2, number])
            self._pass = number, rng.permutation(self.positions)
        together = self.batch_size * processes
        batch = self._pass[1][at * together : (at + 1) * together]
        return np.sort(batch[rank % len(batch) :: processes])


class StreamedOrder(RandomOrder):
    """Each pass reads blocks of storage in an order of its own, and mixes their patterns in a bounded buffer.

    Parameters
    ----------
    positions, batch_size, seed, share
        See `RandomOrder`. Of each pass, a process reads one part of the sequence of blocks.
    blocks : iterable of ndarray
        All scan positions, in the parts that are read together.
    pattern_bytes : int
        Size of one stored pattern.
    """

    def __init__(
        self,
        positions: np.ndarray,
        batch_size: int,
        seed: int,
        share: tuple[int, int] = (0, 1),
        *,
        blocks: Iterator[np.ndarray],
        pattern_bytes: int,
    ) -> None:
        super().__init__(positions, batch_size, seed, share)
        trained = np.zeros(positions.max() + 1, bool)
        trained[positions] = True
        found = (block[block < len(trained)] for block in blocks)
        self.blocks = [block for block in (block[trained[block]] for block in found) if len(block)]
        self.largest = max(map(len, self.blocks))
        self.room = max(self.batch_size, BUFFER_BYTES // pattern_bytes)
        #: patterns that wait for their step, at most
        self.capacity = min(len(positions), self.room + self.largest)

    def passes(self, start: int) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
        """What is read, and what each step sees, pass by pass from step `start` on; see `of_pass`."""
        first, done = divmod(start, self.steps_per_pass)
        yield self.of_pass(first, done)
        yield from map(self.of_pass, itertools.count(first + 1))

    def of_pass(self, number: int, first: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """What is read in a pass, and what its steps from the `first` on see.

        Returns
        -------
        reads, steps : list of ndarray
            Flat scan positions. What earlier steps have seen is not read.
        """
        (rank, processes), total = self.share, len(self.positions)
        turns = np.random.default_rng([self.seed, 3, number]).permutation(len(self.blocks))
        low, high = rank * total // processes, (rank + 1) * total // processes
        blocks, start = [], 0
        for turn in turns:  # a block on the border between two processes is read by both, each its part
            block = self.blocks[turn]
            blocks.append(block[max(0, low - start) : max(0, high - start)])
            start += len(block)
        blocks = [block for block in blocks if len(block)]
        step_of = self._steps([len(block) for block in blocks], [self.seed, 3, number, rank])
        sequence = np.concatenate(blocks)
        ends = np.cumsum([len(block) for block in blocks])[:-1]
        reads = [block[at >= first] for block, at in zip(blocks, np.split(step_of, ends), strict=True)]
        by_step = np.argsort(step_of, kind="stable")
        begins = np.searchsorted(step_of[by_step], np.arange(first, self.steps_per_pass + 1))
        steps = [np.sort(sequence[by_step[a:b]]) for a, b in itertools.pairwise(begins)]
        return [read for read in reads if len(read)], steps

    def _steps(self, lengths: list[int], seed: list[int]) -> np.ndarray:
        """The step that sees each pattern, in the order of reading; -1 for the few that are left over."""
        rng = np.random.default_rng(seed)
        step_of = np.full(sum(lengths), -1)
        waiting, n, read, block = np.empty(len(step_of), int), 0, 0, 0
        for step in range(self.steps_per_pass):
            while n < self.room and block < len(lengths):
                waiting[n : n + lengths[block]] = np.arange(read, read + lengths[block])
                n, read, block = n + lengths[block], read + lengths[block], block + 1
            size = min(self.batch_size, n)
            chosen = rng.choice(n, size, replace=False)
            step_of[waiting[chosen]] = step
            n -= size
            kept = np.setdiff1d(np.arange(n, n + size), chosen, assume_unique=True)
            waiting[chosen[chosen < n]] = waiting[kept]  # the last ones fill the gaps
        return step_of


def block_size(pattern_bytes: int) -> int:
    """Patterns that are read together, where storage chunks are no larger."""
    return max(1, _READ_BYTES // pattern_bytes)
