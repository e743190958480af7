"""Reading that is done ahead of time, beside the training that waits for it."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import LatentSTEMError, TrainingError
from ..scan.scan import Scan

__all__ = ["PatternStream", "ahead"]

T = TypeVar("T")
_END = object()
_AHEAD_BYTES = 64 * 2**20  # that loader processes are ahead, but at least one part each


def ahead(items: Iterator[T], count: int) -> Generator[T, None, None]:
    """The same items, made by a thread that is at most `count` of them ahead.

    An error in it is raised where the item is asked for. The thread ends with the last item, with an error, or when
    this generator is closed; closing waits for the item that is being made, and closes `items`.
    """
    with ThreadPoolExecutor(
        1, thread_name_prefix="latentstem-ahead", initializer=_without_threads_of_its_own
    ) as thread:
        coming: deque[Future[T | object]] = deque()
        try:
            while True:
                while len(coming) <= count:
                    coming.append(thread.submit(next, items, _END))
                item = coming.popleft().result()
                if item is _END:
                    return
                yield item  # type: ignore[misc]
        finally:
            for future in coming:
                future.cancel()
            thread.shutdown()
            if hasattr(items, "close"):
                items.close()


def _without_threads_of_its_own() -> None:
    """Let this thread compute by itself.

    Its own threads and those of a training step would be more than there are processors, and then OpenMP lets both
    sleep at each barrier: a step takes 1.4 times as long.
    """
    torch.get_num_threads()  # sets this thread up, which would undo it later
    threadpool_limits(1, user_api="openmp")


class PatternStream:
    """Patterns of a scan in parts, as (positions, patterns): read by loader processes, or when they are asked for.

    Parameters
    ----------
    scan : Scan
        Where from. Loader processes open its file for themselves.
    parts : iterator of ndarray
        Flat scan positions of each part.
    workers : int
        Loader processes; they read ahead, and deliver in order.
    largest : int
        Patterns in a part, at most.
    """

    def __init__(self, scan: Scan, parts: Iterator[np.ndarray], workers: int, largest: int) -> None:
        self._scan, self._parts, self._workers = scan, parts, workers
        if not workers:
            return
        self._asked: deque[np.ndarray] = deque()
        size = largest * int(np.prod(scan.pattern_shape)) * scan.dtype.itemsize
        loader = DataLoader(
            _Parts(scan),
            batch_size=None,
            sampler=self._noted(),
            num_workers=workers,
            prefetch_factor=int(np.clip(_AHEAD_BYTES // (workers * size), 1, 8)),
            worker_init_fn=_without_dask_threads,
            generator=torch.Generator().manual_seed(0),  # the global one is not drawn from
        )
        self._loader: Any = iter(loader)

    def __iter__(self) -> PatternStream:
        return self

    def __next__(self) -> tuple[np.ndarray, np.ndarray]:
        if not self._workers:
            positions = next(self._parts)
            return positions, self._scan.read(positions)
        try:
            read = next(self._loader)
        except RuntimeError as error:
            if "exited unexpectedly" not in str(error):
                raise
            raise TrainingError(
                "a process that loads data has died",
                expected=f"{self._workers} loader processes",
                received=str(error).splitlines()[0],
                advice="Memory may have run out: use fewer workers, or workers=0.",
            ) from error
        if isinstance(read, LatentSTEMError):
            raise read
        positions = self._asked.popleft()
        shape = (len(positions), *self._scan.pattern_shape)
        return positions, read.numpy().view(self._scan.dtype).reshape(shape)

    def close(self) -> None:
        """End the loader processes."""
        if self._workers and self._loader is not None:
            self._loader._shutdown_workers()
            self._loader = None  # with the pipes to the processes

    def _noted(self) -> Iterator[np.ndarray]:
        for part in self._parts:
            self._asked.append(part)
            yield part


class _Parts(Dataset[Any]):
    """What loader processes do: patterns at some scan positions as bytes, which any dtype has."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan

    def __getitem__(self, positions: Any) -> Tensor | LatentSTEMError:
        try:
            return torch.from_numpy(
                np.ascontiguousarray(self._scan.read(positions)).reshape(-1).view(np.uint8)
            )
        except LatentSTEMError as error:  # torch would raise it as another one
            return error


def _without_dask_threads(worker: int) -> None:
    """Let a loader process compute by itself: it waits for ever on the threads that it has not inherited."""
    if "dask" in sys.modules:
        import dask

        dask.config.set(scheduler="synchronous")
