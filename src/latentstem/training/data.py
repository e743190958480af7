"""Batches of diffraction patterns from a scan: which positions, in which order, with which neighbours."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import psutil
import pytorch_lightning as L
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from ..errors import MaskError
from ..scan import Scan
from ..series import Series
from .reader import Batch, PatternReader

__all__ = ["ScanDataModule", "in_memory", "split_positions"]

_BUFFER_BYTES = 512 * 2**20  # patterns that a streamed run shuffles among each other
_VALIDATION_LIMIT = 2048  # held-out patterns that a validation looks at


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
            positions.append(series.canvas.positions(number, own))
    if not any(map(len, validation)):
        validation.append(training.pop())
    return np.concatenate(training), np.concatenate(validation)


def in_memory(scan: Scan) -> Scan:
    """The scan with its patterns in memory, if they are in chunks now and fit into a third of what is free."""
    if isinstance(scan, Series):
        return scan.of([in_memory(part) for part in scan.scans])
    if scan.source.array is not None or scan.nbytes > psutil.virtual_memory().available / 3:
        return scan
    from ..adapters.arrays import source_of

    patterns = np.empty((scan.n_positions, *scan.pattern_shape), scan.dtype)
    for positions in scan.blocks():
        patterns[positions] = scan.read(positions)
    return replace(scan, source=source_of(patterns.reshape(*scan.scan_shape, *scan.pattern_shape)))


class _Batches(Dataset[Batch]):
    """Batch number -> patterns; numbers run over passes, each pass in its own order."""

    def __init__(self, reader: PatternReader, positions: np.ndarray, batch_size: int, seed: int) -> None:
        self.reader, self.positions, self.batch_size, self.seed = reader, positions, batch_size, seed
        self.steps_per_pass = max(1, len(positions) // batch_size)
        self._order: tuple[int, np.ndarray] = (-1, positions)

    def __getitem__(self, number: int) -> Batch:
        which, step = divmod(number, self.steps_per_pass)
        if self._order[0] != which:
            self._order = which, np.random.default_rng([self.seed, 2, which]).permutation(self.positions)
        chosen = self._order[1][step * self.batch_size : (step + 1) * self.batch_size]
        return self.reader(np.sort(chosen))


class _StreamedBatches(IterableDataset[Batch]):
    """Batches from storage chunks in shuffled order, through a shuffle buffer."""

    def __init__(self, batches: _Batches, start: int, steps: int) -> None:
        self.batches, self.start, self.steps = batches, start, steps

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        source, steps = (
            self._endless(number, workers),
            self.steps // workers + (number < self.steps % workers),
        )
        for _ in range(steps):
            yield next(source)

    def _endless(self, worker: int, workers: int) -> Iterator[Batch]:
        batches = self.batches
        scan, size = batches.reader.scan, batches.batch_size
        rng = np.random.default_rng([batches.seed, 3, self.start, worker])
        pattern_bytes = 4 * int(np.prod(scan.pattern_shape))
        room = max(size, _BUFFER_BYTES // workers // pattern_bytes)
        blocks = [np.intersect1d(block, batches.positions) for block in scan.blocks(max(1, room // 4))]
        blocks = [block for block in blocks if len(block)][worker::workers] or [batches.positions[:size]]
        room = max(size, min(room, sum(map(len, blocks))))
        waiting: list[Batch] = []
        while True:
            for turn in rng.permutation(len(blocks)):
                waiting.append(batches.reader(blocks[turn]))
                if sum(len(part.recorded) for part in waiting) < room:
                    continue
                together = Batch.join(waiting)
                order = torch.from_numpy(rng.permutation(len(together.recorded)))
                for start in range(0, len(order) - size + 1, size):
                    yield together.take(order[start : start + size])
                waiting = [together.take(order[len(order) - len(order) % size :])]


def _without_dask_threads(worker: int) -> None:
    """Let a loader process compute by itself: it waits for ever on the threads that it has not inherited."""
    if "dask" in sys.modules:
        import dask

        dask.config.set(scheduler="synchronous")


class ScanDataModule(L.LightningDataModule):
    """Batches of a scan for training and validation.

    An epoch of the trainer is `steps_per_epoch` steps; passes over the scan run on across epochs, and which patterns a
    step sees depends on its number and the seed alone, so that a resumed run sees what an uninterrupted one would.

    Parameters
    ----------
    reader : PatternReader
        Reads the patterns, and their neighbours.
    training, validation : ndarray of int
        Flat scan positions of each part.
    batch_size : int
        Patterns per step.
    steps_per_epoch : int
        Steps between validations.
    workers : int
        Loader processes.
    seed : int
        Seed of the order.
    """

    def __init__(
        self,
        reader: PatternReader,
        training: np.ndarray,
        validation: np.ndarray,
        *,
        batch_size: int,
        steps_per_epoch: int,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.batches = _Batches(reader, training, batch_size, seed)
        self.steps_per_epoch, self.workers = steps_per_epoch, workers
        keep = np.random.default_rng([seed, 4]).permutation(validation)[:_VALIDATION_LIMIT]
        self.validation = [
            reader(np.sort(keep[at : at + batch_size])) for at in range(0, len(keep), batch_size)
        ]
        self.streamed = reader.scan.source.array is None

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of the trainer's current epoch."""
        start = self.trainer.global_step if self.trainer else 0
        # fewer after a stop in the midst of an epoch
        steps = self.steps_per_epoch - start % self.steps_per_epoch
        generator = torch.Generator().manual_seed(self.batches.seed)
        if self.streamed:
            stream = _StreamedBatches(self.batches, start, steps)
            return DataLoader(
                stream,
                batch_size=None,
                num_workers=self.workers,
                generator=generator,
                worker_init_fn=_without_dask_threads,
            )
        numbers = range(start, start + steps)
        return DataLoader(
            self.batches, batch_size=None, sampler=numbers, num_workers=self.workers, generator=generator
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """The held-out patterns, kept in memory; every validation sees the same."""
        return DataLoader(self.validation, batch_size=None)  # type: ignore[arg-type]
