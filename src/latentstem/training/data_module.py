"""The data module: batches of patterns, read at random or chunk by chunk through a shuffle buffer, with prefetch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import psutil
import pytorch_lightning as L

from ..config import TrainingConfig
from ..errors import MaskError
from ..io.arrays import as_pattern_source
from ..nn.batches import PatternBatch
from ..nn.preprocessing import patterns_to_tensor
from ..nn.scan_scores import ScanScores
from ..scan.passes import read_blocks
from ..scan.scan import Scan
from ..scan.series import Series
from .prefetch import pattern_stream, prefetch
from .process_group import ProcessGroup
from .sampler import ChunkedSampler, PassSampler

__all__ = ["MAX_VALIDATION_BYTES", "ScanDataModule", "fits_in_memory", "in_memory", "split_positions"]

MAX_VALIDATION_BYTES = 128 * 2**20  # of the validation patterns, which stay in memory
_MAX_VALIDATION_PATTERNS = 2048
_READ_BYTES = 24 * 2**20  # bytes per read, if storage chunks are smaller
_PREFETCH_BYTES = 64 * 2**20  # of batches, but at least two
_Parts = Generator[tuple[np.ndarray, np.ndarray], None, None]  # positions, and patterns read there


def split_positions(scan: Scan, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation positions; the validation positions are square blocks of the scan.

    Neighbouring positions are correlated, so single held-out positions among training positions would not be an
    independent test.

    Parameters
    ----------
    scan : Scan
        Its excluded positions are in neither set.
    fraction : float
        Fraction of the positions that is held out.
    seed : int
        Seed of the choice of blocks.

    Returns
    -------
    training, validation : ndarray of int
        Flat scan positions, at least one in each.

    Raises
    ------
    MaskError
        If fewer than two scan positions are left.
    """
    if isinstance(scan, Series):
        return _split_series(scan, fraction, seed)
    (ny, nx), included = scan.scan_shape, ~scan.excluded
    total = int(included.sum())
    if total < 2:
        raise MaskError(
            "too few scan positions are left",
            expected="at least 2 positions that are not excluded",
            received=f"{total} of {included.size}",
            advice="Exclude less in the scan mask.",
        )
    block_side = int(np.clip(round((total * fraction / 10) ** 0.5), 1, 8))
    block_number = (np.arange(ny)[:, None] // block_side) * -(-nx // block_side) + np.arange(nx) // block_side
    n_validation = min(max(1, round(total * fraction)), total - 1)
    held_out = np.zeros(scan.scan_shape, bool)
    for number in np.random.default_rng([seed, 1]).permutation(block_number.max() + 1):
        block = (block_number == number) & included
        if block.any() and held_out.sum() + block.sum() < total:
            held_out |= block
        if held_out.sum() >= n_validation:
            break
    return np.flatnonzero(included & ~held_out), np.flatnonzero(held_out)


def _split_series(series: Series, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split each scan separately, so that every scan with two or more positions is in both sets."""
    training: list[np.ndarray] = []
    validation: list[np.ndarray] = []
    for number, scan in enumerate(series.scans):
        included = np.flatnonzero(~scan.excluded)
        parts = included, included[:0]
        if len(included) > 1 or len(series.scans) == 1:
            parts = split_positions(scan, fraction, seed + number)
        for positions, positions_in_scan in zip((training, validation), parts, strict=True):
            positions.append(series.canvas.to_canvas(number, positions_in_scan))
    if not any(map(len, validation)):
        validation.append(training.pop())
    return np.concatenate(training), np.concatenate(validation)


def fits_in_memory(scan: Scan, copies: int = 1) -> bool:
    """Whether `copies` of the scan's patterns fit into a third of the free memory."""
    return scan.nbytes * copies <= psutil.virtual_memory().available / 3


def in_memory(scan: Scan) -> Scan:
    """Load a scan that is stored in chunks into memory; return other scans unchanged."""
    if isinstance(scan, Series):
        return scan.with_scans([in_memory(part) for part in scan.scans])
    if scan.source.array is not None:
        return scan
    patterns = np.empty((scan.n_positions, *scan.pattern_shape), scan.dtype)
    for positions, block in read_blocks(scan, np.arange(scan.n_positions)):
        patterns[positions] = block
    return replace(scan, source=as_pattern_source(patterns.reshape(*scan.scan_shape, *scan.pattern_shape)))


class ScanDataModule(L.LightningDataModule):
    """Training and validation batches of a scan, with prefetch.

    An epoch of the trainer is `steps_per_epoch` steps; a pass over the scan may extend over several epochs. The patterns
    of a step depend only on its number and the seed, so that a resumed run gets the same batches.

    Parameters
    ----------
    scan : Scan
        The scan.
    scores : ScanScores
        Scores of all of its patterns.
    training, validation : ndarray of int
        Flat scan positions of each set.
    config : TrainingConfig
        Gives the batch size (of all processes together), the loader processes and the seed of the sampler.
    group : ProcessGroup
        Together, its processes see each training pattern once per pass; all take the same number of steps.
    steps_per_epoch : int
        Steps between validations.
    """

    def __init__(
        self,
        scan: Scan,
        scores: ScanScores,
        training: np.ndarray,
        validation: np.ndarray,
        config: TrainingConfig,
        group: ProcessGroup,
        steps_per_epoch: int,
    ) -> None:
        super().__init__()
        self.scan, self.scores = scan, scores
        self.steps_per_epoch, self.workers = steps_per_epoch, config.workers
        pattern_bytes = int(np.prod(scan.pattern_shape)) * scan.dtype.itemsize
        self.streamed = scan.source.array is None
        order = training, config.batch_size, config.seed, group.rank, group.world_size
        self.sampler = PassSampler(*order)
        if self.streamed:
            blocks = scan.blocks(max(1, _READ_BYTES // pattern_bytes))
            self.sampler = ChunkedSampler(*order, blocks=blocks, pattern_bytes=pattern_bytes)
        self._prefetch_depth = int(
            np.clip(_PREFETCH_BYTES // (self.sampler.batch_size * pattern_bytes), 2, 16)
        )
        self._stream: tuple[int, Generator[PatternBatch, None, None]] | None = None
        n_patterns = max(1, min(_MAX_VALIDATION_PATTERNS, MAX_VALIDATION_BYTES // pattern_bytes))
        self._held_out = np.sort(np.random.default_rng([config.seed, 4]).permutation(validation)[:n_patterns])
        self._held_out_patterns = scan.read(self._held_out)  # in their stored dtype
        starts = range(0, len(self._held_out), config.batch_size)
        slices = [slice(start, start + config.batch_size) for start in starts]
        self.validation = _Batches(self._validation_batch, slices)

    def train_dataloader(self) -> _Batches:
        """Batches of the trainer's current epoch."""
        start = self.trainer.global_step if self.trainer else 0
        # fewer steps if resumed within an epoch
        stop = start + self.steps_per_epoch - start % self.steps_per_epoch
        return _Batches(self._next_batch, range(start, stop))

    def val_dataloader(self) -> _Batches:
        """The validation patterns, the same each time."""
        return self.validation

    def stop_prefetch(self) -> None:
        """Stop prefetching and end its thread and processes."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream[1].close()

    def free(self) -> None:
        """Free the patterns now: Lightning keeps reference cycles to this object."""
        self.stop_prefetch()
        del self.scan, self.scores, self._held_out_patterns

    def _validation_batch(self, part: slice) -> PatternBatch:
        patterns = patterns_to_tensor(self._held_out_patterns[part])
        return PatternBatch(patterns, self.scores(self._held_out[part]))

    def _next_batch(self, step: int) -> PatternBatch:
        """Batch of a step; prefetching continues from step to step."""
        if self._stream is None or self._stream[0] != step:
            self.stop_prefetch()
            self._stream = step, prefetch(self._stream_batches(step), self._prefetch_depth)
        batches = self._stream[1]
        batch = next(batches)
        self._stream = step + 1, batches
        return batch

    def _stream_batches(self, start: int) -> Generator[PatternBatch, None, None]:
        """Endless batches from a step on.

        Loader processes are started here, in the calling thread, not in the prefetch thread.
        """
        sampler, scan = self.sampler, self.scan
        if isinstance(sampler, ChunkedSampler):
            blocks = (block for reads, _ in sampler.plan_from(start) for block in reads)
            parts = pattern_stream(scan, blocks, self.workers, sampler.max_block_size)
            return self._shuffled_batches(sampler, start, parts)
        steps = (sampler[step] for step in itertools.count(start))
        return self._random_batches(pattern_stream(scan, steps, self.workers, sampler.batch_size))

    def _random_batches(self, parts: _Parts) -> Generator[PatternBatch, None, None]:
        with closing(parts):
            for positions, patterns in parts:
                yield PatternBatch(patterns_to_tensor(patterns), self.scores(positions))

    def _shuffled_batches(
        self, sampler: ChunkedSampler, start: int, parts: _Parts
    ) -> Generator[PatternBatch, None, None]:
        """Batches from a shuffle buffer that is filled block by block; the next block is read in the background."""
        with closing(prefetch(parts, 1)) as blocks:
            buffer = _ShuffleBuffer(self.scan, sampler.buffer_size)
            for _, steps in sampler.plan_from(start):
                for step in steps:
                    while not buffer.contains(step):
                        buffer.add(*next(blocks))
                    yield PatternBatch(patterns_to_tensor(buffer.pop(step)), self.scores(step))


class _ShuffleBuffer:
    """Shuffle buffer of at most `capacity` patterns."""

    def __init__(self, scan: Scan, capacity: int) -> None:
        self._patterns = np.empty((capacity, *scan.pattern_shape), scan.dtype)
        self._slot = np.full(scan.n_positions, -1)
        self._free = list(range(capacity))

    def contains(self, positions: np.ndarray) -> bool:
        return bool((self._slot[positions] >= 0).all())

    def add(self, positions: np.ndarray, patterns: np.ndarray) -> None:
        self._slot[positions] = self._free[-len(positions) :]
        del self._free[-len(positions) :]
        self._patterns[self._slot[positions]] = patterns

    def pop(self, positions: np.ndarray) -> np.ndarray:
        slots = self._slot[positions]
        self._free += slots.tolist()
        self._slot[positions] = -1
        return self._patterns[slots]


class _Batches:
    """Batches that are made when they are asked for."""

    def __init__(self, make: Callable[[Any], PatternBatch], requests: Sequence[Any]) -> None:
        self._make, self._requests = make, requests

    def __len__(self) -> int:
        return len(self._requests)

    def __getitem__(self, number: int) -> PatternBatch:
        return self._make(self._requests[number])

    def __iter__(self) -> Iterator[PatternBatch]:
        return map(self._make, self._requests)
