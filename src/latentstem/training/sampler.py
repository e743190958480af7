"""Samplers: the patterns of each training step, as a function of seed and step number."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["SHUFFLE_BUFFER_BYTES", "ChunkedSampler", "PassSampler"]

SHUFFLE_BUFFER_BYTES = 192 * 2**20  # bytes of patterns in the shuffle buffer


class PassSampler:
    """A new random permutation of the training positions for each pass.

    Parameters
    ----------
    positions : ndarray of int
        Flat training positions.
    batch_size : int
        Patterns per step, of all processes together.
    seed : int
        Seed of the order.
    rank, world_size : int
        Rank of this process and number of processes. Together they see each position once per pass.
    """

    def __init__(
        self, positions: np.ndarray, batch_size: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.positions, self.seed, self.rank, self.world_size = positions, seed, rank, world_size
        self.batch_size = max(1, batch_size // world_size)  # of this process
        #: equal on all ranks; otherwise they would wait for each other forever
        self.steps_per_pass = max(1, len(positions) // (self.batch_size * world_size))
        self._pass: tuple[int, np.ndarray] = (-1, positions)

    def __getitem__(self, step: int) -> np.ndarray:
        """Flat scan positions of a step."""
        pass_index, step_in_pass = divmod(step, self.steps_per_pass)
        if self._pass[0] != pass_index:
            rng = np.random.default_rng([self.seed, 2, pass_index])
            self._pass = pass_index, rng.permutation(self.positions)
        size = self.batch_size * self.world_size
        global_batch = self._pass[1][step_in_pass * size : (step_in_pass + 1) * size]
        return np.sort(global_batch[self.rank % len(global_batch) :: self.world_size])


class ChunkedSampler(PassSampler):
    """Each pass reads blocks of the storage in random order and mixes their patterns in a shuffle buffer.

    Parameters
    ----------
    positions, batch_size, seed, rank, world_size
        See `PassSampler`. Each rank reads a contiguous part of the block sequence.
    blocks : iterable of ndarray
        All scan positions, in the blocks that are read together.
    pattern_bytes : int
        Size of one stored pattern.
    """

    def __init__(self, *arguments: Any, blocks: Iterator[np.ndarray], pattern_bytes: int) -> None:
        super().__init__(*arguments)
        is_training = np.zeros(self.positions.max() + 1, bool)
        is_training[self.positions] = True
        in_range = (block[block < len(is_training)] for block in blocks)
        training_blocks = (block[is_training[block]] for block in in_range)
        self.blocks = [block for block in training_blocks if len(block)]
        self.max_block_size = max(map(len, self.blocks))
        self.target_size = max(self.batch_size, SHUFFLE_BUFFER_BYTES // pattern_bytes)
        #: maximum number of buffered patterns
        self.buffer_size = min(len(self.positions), self.target_size + self.max_block_size)

    def plan_from(self, start: int) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
        """Plans of all passes from step `start` on; see `plan_pass`."""
        pass_index, first_step = divmod(start, self.steps_per_pass)
        yield self.plan_pass(pass_index, first_step)
        yield from map(self.plan_pass, itertools.count(pass_index + 1))

    def plan_pass(self, pass_index: int, first_step: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Blocks to read in a pass, and positions of its steps from `first_step` on.

        Returns
        -------
        reads, steps : list of ndarray
            Flat scan positions. Patterns used before `first_step` are skipped.
        """
        total = len(self.positions)
        block_order = np.random.default_rng([self.seed, 3, pass_index]).permutation(len(self.blocks))
        first, last = self.rank * total // self.world_size, (self.rank + 1) * total // self.world_size
        blocks, start = [], 0
        for index in block_order:  # a block that falls on the border between two ranks is split
            block = self.blocks[index]
            blocks.append(block[max(0, first - start) : max(0, last - start)])
            start += len(block)
        blocks = [block for block in blocks if len(block)]
        step_of = self._assign_steps([len(block) for block in blocks], [self.seed, 3, pass_index, self.rank])
        sequence = np.concatenate(blocks)
        ends = np.cumsum([len(block) for block in blocks])[:-1]
        reads = [
            block[steps >= first_step] for block, steps in zip(blocks, np.split(step_of, ends), strict=True)
        ]
        order = np.argsort(step_of, kind="stable")
        borders = np.searchsorted(step_of[order], np.arange(first_step, self.steps_per_pass + 1))
        steps = [np.sort(sequence[order[first:stop]]) for first, stop in itertools.pairwise(borders)]
        return [read for read in reads if len(read)], steps

    def _assign_steps(self, lengths: list[int], seed: list[int]) -> np.ndarray:
        """Step of each pattern in read order; -1 for the remainder that fills no batch."""
        rng = np.random.default_rng(seed)
        step_of = np.full(sum(lengths), -1)
        buffer, n, read, block = np.empty(len(step_of), int), 0, 0, 0
        for step in range(self.steps_per_pass):
            while n < self.target_size and block < len(lengths):
                buffer[n : n + lengths[block]] = np.arange(read, read + lengths[block])
                n, read, block = n + lengths[block], read + lengths[block], block + 1
            size = min(self.batch_size, n)
            chosen = rng.choice(n, size, replace=False)
            step_of[buffer[chosen]] = step
            n -= size
            unused_tail = np.setdiff1d(np.arange(n, n + size), chosen, assume_unique=True)
            buffer[chosen[chosen < n]] = buffer[unused_tail]  # move patterns from the end into the gaps
        return step_of
