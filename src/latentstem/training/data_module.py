"""Batches of diffraction patterns from a scan: read at random or in blocks of storage, ahead of the steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
import psutil
import pytorch_lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import MaskError
from ..io.arrays import as_pattern_source
from ..nn.batches import PatternBatch
from ..nn.preprocessing import patterns_to_tensor
from ..nn.scan_scores import ScanScores
from ..scan.passes import read_blocks
from ..scan.scan import Scan
from ..scan.series import Series
from .prefetch import PatternStream, ahead
from .sampler import RandomOrder, StreamedOrder, block_size

__all__ = ["ScanDataModule", "fits_in_memory", "in_memory", "split_positions"]

_AHEAD_BYTES = 64 * 2**20  # batches that are made ahead of the steps, but at least two
_VALIDATION_LIMIT = 2048  # held-out patterns that a validation looks at ...
_VALIDATION_BYTES = 128 * 2**20  # ... and that are kept in memory


def split_positions(scan: Scan, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation positions; the validation positions are square blocks of the scan.

    Neighbouring positions are alike, so held-out positions in the midst of training ones would be no test.

    Parameters
    ----------
    scan : Scan
        Its excluded positions are in neither part.
    fraction : float
        Share that is held out.
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
    (ny, nx), included = scan.scan_shape, np.ones(scan.scan_shape, bool)
    if scan.scan_mask is not None:
        included = ~scan.scan_mask
    total = int(included.sum())
    if total < 2:
        raise MaskError(
            "too few scan positions are left",
            expected="at least 2 positions that are not excluded",
            received=f"{total} of {included.size}",
            advice="Exclude less in the scan mask.",
        )
    side = int(np.clip(round((total * fraction / 10) ** 0.5), 1, 8))
    tile = (np.arange(ny)[:, None] // side) * -(-nx // side) + np.arange(nx) // side
    wanted = min(max(1, round(total * fraction)), total - 1)
    held_out = np.zeros(scan.scan_shape, bool)
    for number in np.random.default_rng([seed, 1]).permutation(tile.max() + 1):
        block = (tile == number) & included
        if block.any() and held_out.sum() + block.sum() < total:
            held_out |= block
        if held_out.sum() >= wanted:
            break
    return np.flatnonzero(included & ~held_out), np.flatnonzero(held_out)


def _split_series(series: Series, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The split of each scan, together: every scan of two positions or more has some of both."""
    training: list[np.ndarray] = []
    validation: list[np.ndarray] = []
    for number, scan in enumerate(series.scans):
        included = np.arange(scan.n_positions)
        if scan.scan_mask is not None:
            included = np.flatnonzero(~scan.scan_mask)
        parts = included, included[:0]
        if len(included) > 1 or len(series.scans) == 1:
            parts = split_positions(scan, fraction, seed + number)
        for positions, own in zip((training, validation), parts, strict=True):
            positions.append(series.canvas.to_canvas(number, own))
    if not any(map(len, validation)):
        validation.append(training.pop())
    return np.concatenate(training), np.concatenate(validation)


def fits_in_memory(scan: Scan, copies: int = 1) -> bool:
    """Whether the patterns of a scan, so many times, fit into a third of the memory that is free."""
    return scan.nbytes * copies <= psutil.virtual_memory().available / 3


def in_memory(scan: Scan) -> Scan:
    """The scan with its patterns in memory, if they are in chunks now."""
    if isinstance(scan, Series):
        return scan.with_scans([in_memory(part) for part in scan.scans])
    if scan.source.array is not None:
        return scan
    patterns = np.empty((scan.n_positions, *scan.pattern_shape), scan.dtype)
    for positions, block in read_blocks(scan, np.arange(scan.n_positions)):
        patterns[positions] = block
    return replace(scan, source=as_pattern_source(patterns.reshape(*scan.scan_shape, *scan.pattern_shape)))


class ScanDataModule(L.LightningDataModule):
    """Batches of a scan for training and validation, made ahead of the steps that see them.

    An epoch of the trainer is `steps_per_epoch` steps; passes over the scan run on across epochs. Which patterns a
    step sees depends on its number and the seed alone, not on the workers, so that a resumed run sees what an
    uninterrupted one would.

    Parameters
    ----------
    scan : Scan
        Where patterns are read from.
    scores : ScanScores
        Those of all of its patterns.
    training, validation : ndarray of int
        Flat scan positions of each part.
    batch_size : int
        Patterns per step, of all processes together.
    steps_per_epoch : int
        Steps between validations.
    workers : int
        Processes that read and decompress; 0 reads in a thread of this one.
    seed : int
        Seed of the order.
    share : (int, int)
        Rank of this process, and the number of processes that train together. They see each training pattern once
        in a pass, all of them together, and take the same number of steps.
    """

    def __init__(
        self,
        scan: Scan,
        scores: ScanScores,
        training: np.ndarray,
        validation: np.ndarray,
        *,
        batch_size: int,
        steps_per_epoch: int,
        workers: int = 0,
        seed: int = 0,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__()
        self.scan, self.scores = scan, scores
        self.steps_per_epoch, self.workers = steps_per_epoch, workers
        pattern_bytes = int(np.prod(scan.pattern_shape)) * scan.dtype.itemsize
        self.streamed = scan.source.array is None
        self.order = RandomOrder(training, batch_size, seed, share)
        if self.streamed:
            blocks = scan.blocks(block_size(pattern_bytes))
            self.order = StreamedOrder(
                training, batch_size, seed, share, blocks=blocks, pattern_bytes=pattern_bytes
            )
        self._ahead = int(np.clip(_AHEAD_BYTES // (self.order.batch_size * pattern_bytes), 2, 16))
        self._running: tuple[int, Generator[PatternBatch, None, None]] | None = None
        kept = max(1, min(_VALIDATION_LIMIT, _VALIDATION_BYTES // pattern_bytes))
        keep = np.sort(np.random.default_rng([seed, 4]).permutation(validation)[:kept])
        self.validation = _HeldOut(scan, scores, keep, batch_size)

    def train_dataloader(self) -> Iterable[PatternBatch]:
        """Batches of the trainer's current epoch."""
        start = self.trainer.global_step if self.trainer else 0
        # fewer after a stop in the midst of an epoch
        return _Steps(self._batch, start, self.steps_per_epoch - start % self.steps_per_epoch)

    def val_dataloader(self) -> DataLoader[PatternBatch]:
        """The held-out patterns; every validation sees the same."""
        generator = torch.Generator()  # not PyTorch's own, which is the user's
        return DataLoader(self.validation, batch_size=None, generator=generator)

    def close(self) -> None:
        """Stop reading ahead: no thread or process is left behind."""
        running, self._running = self._running, None
        if running is not None:
            running[1].close()

    def release(self) -> None:
        """Let the patterns go, at once: what Lightning has made refers to this in circles, and may stay for long."""
        self.close()
        self.validation.release()
        del self.scan, self.scores

    def _batch(self, step: int) -> PatternBatch:
        """What a step sees; the reading runs on from one step to the next."""
        if self._running is None or self._running[0] != step:
            self.close()
            self._running = step, ahead(self._batches(step), self._ahead)
        batches = self._running[1]
        batch = next(batches)
        self._running = step + 1, batches
        return batch

    def _batches(self, start: int) -> Generator[PatternBatch, None, None]:
        """Batches from a step on, for ever. Loader processes start here, not in the thread that asks for batches."""
        order, scan = self.order, self.scan
        if isinstance(order, StreamedOrder):
            blocks = (block for reads, _ in order.passes(start) for block in reads)
            return self._mixed(order, start, PatternStream(scan, blocks, self.workers, order.largest))
        steps = (order[step] for step in itertools.count(start))
        return self._plain(PatternStream(scan, steps, self.workers, order.batch_size))

    def _plain(self, parts: PatternStream) -> Generator[PatternBatch, None, None]:
        with closing(parts):
            for positions, patterns in parts:
                yield PatternBatch(patterns_to_tensor(patterns), self.scores(positions))

    def _mixed(
        self, order: StreamedOrder, start: int, parts: PatternStream
    ) -> Generator[PatternBatch, None, None]:
        """Batches out of a buffer that whole blocks are read into, the next one while others are waited for."""
        with closing(ahead(parts, 1)) as blocks:
            waiting = _Waiting(self.scan, order.capacity)
            for _, steps in order.passes(start):
                for step in steps:
                    while not waiting.have(step):
                        waiting.put(*next(blocks))
                    yield PatternBatch(patterns_to_tensor(waiting.take(step)), self.scores(step))


class _Waiting:
    """Patterns that were read and wait for their step, at most `capacity` of them."""

    def __init__(self, scan: Scan, capacity: int) -> None:
        self._patterns = np.empty((capacity, *scan.pattern_shape), scan.dtype)
        self._place = np.full(scan.n_positions, -1)
        self._free = list(range(capacity))

    def have(self, positions: np.ndarray) -> bool:
        return bool((self._place[positions] >= 0).all())

    def put(self, positions: np.ndarray, patterns: np.ndarray) -> None:
        self._place[positions] = self._free[-len(positions) :]
        del self._free[-len(positions) :]
        self._patterns[self._place[positions]] = patterns

    def take(self, positions: np.ndarray) -> np.ndarray:
        places = self._place[positions]
        self._free += places.tolist()
        self._place[positions] = -1
        return self._patterns[places]


class _Steps:
    """The batches of some consecutive steps."""

    def __init__(self, batch: Callable[[int], PatternBatch], start: int, count: int) -> None:
        self._batch, self._numbers = batch, range(start, start + count)

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[PatternBatch]:
        return map(self._batch, self._numbers)


class _HeldOut(Dataset[PatternBatch]):
    """Held-out patterns, kept in memory as they are stored, in batches."""

    def __init__(self, scan: Scan, scores: ScanScores, positions: np.ndarray, batch_size: int) -> None:
        self._scores, self._positions, self._size = scores, positions, batch_size
        self._patterns = scan.read(positions)

    def release(self) -> None:
        del self._scores, self._patterns

    def __len__(self) -> int:
        return -(-len(self._positions) // self._size)

    def __iter__(self) -> Iterator[PatternBatch]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, number: int) -> PatternBatch:
        part = slice(number * self._size, (number + 1) * self._size)
        return PatternBatch(patterns_to_tensor(self._patterns[part]), self._scores(self._positions[part]))
