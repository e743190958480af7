"""Prefetching in a thread, and reading in loader processes."""

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

__all__ = ["pattern_stream", "prefetch"]

T = TypeVar("T")
_END = object()
_PREFETCH_BYTES = 64 * 2**20  # of all loader processes, but at least one part each


def prefetch(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    """Iterate over `items` in a background thread, at most `depth` items ahead.

    An error is raised when its item is requested. The thread ends after the last item, after an error, or when the
    generator is closed; closing waits for the current item and closes `items`.
    """
    with ThreadPoolExecutor(
        1, thread_name_prefix="latentstem-prefetch", initializer=_limit_to_one_thread
    ) as thread:
        pending: deque[Future[T | object]] = deque()
        try:
            while True:
                while len(pending) <= depth:
                    pending.append(thread.submit(next, items, _END))
                item = pending.popleft().result()
                if item is _END:
                    return
                yield item  # type: ignore[misc]
        finally:
            for future in pending:
                future.cancel()
            thread.shutdown()
            if hasattr(items, "close"):
                items.close()


def _limit_to_one_thread() -> None:
    """Limit this thread to one OpenMP thread.

    Otherwise it oversubscribes the cores together with the training step, which then takes 1.4 times as long.
    """
    torch.get_num_threads()  # initialises torch's threading now; doing it later would undo the limit
    threadpool_limits(1, user_api="openmp")


def pattern_stream(
    scan: Scan, parts: Iterator[np.ndarray], workers: int, max_patterns: int
) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
    """Iterate over (positions, patterns), read by loader processes or, with workers=0, on demand.

    Parameters
    ----------
    scan : Scan
        The scan. Each loader process opens the file itself.
    parts : iterator of ndarray
        Flat scan positions of each part, which is read at once.
    workers : int
        Loader processes; they are started now, prefetch, and deliver in order until the generator is closed.
    max_patterns : int
        Maximum number of patterns in one part.
    """
    if not workers:
        return ((positions, scan.read(positions)) for positions in parts)
    part_bytes = max_patterns * int(np.prod(scan.pattern_shape)) * scan.dtype.itemsize
    loader = DataLoader(
        _PatternDataset(scan),
        batch_size=None,
        sampler=parts,
        num_workers=workers,
        prefetch_factor=int(np.clip(_PREFETCH_BYTES // (workers * part_bytes), 1, 8)),
        worker_init_fn=_use_synchronous_dask,
        generator=torch.Generator().manual_seed(0),  # leaves PyTorch's global generator untouched
    )
    return _receive(iter(loader), scan)


def _receive(loader: Any, scan: Scan) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
    """Iterate over what the loader processes deliver, and end them."""
    try:
        for part in loader:
            if isinstance(part, LatentSTEMError):
                raise part
            positions, raw = (tensor.numpy() for tensor in part)
            yield positions, raw.view(scan.dtype).reshape(-1, *scan.pattern_shape)
    except RuntimeError as error:
        if all(process.exitcode in (None, 0) for process in loader._workers):
            raise
        raise TrainingError(
            "a loader process has ended",
            expected=f"{len(loader._workers)} loader processes",
            received=str(error).splitlines()[0],
            advice="Memory may have run out: use fewer workers, or workers=0.",
        ) from error
    finally:
        loader._shutdown_workers()


class _PatternDataset(Dataset[Any]):
    """Dataset of scan positions and the raw bytes of their patterns (works for any dtype)."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan

    def __getitem__(self, positions: Any) -> tuple[Tensor, Tensor] | LatentSTEMError:
        try:
            patterns = np.ascontiguousarray(self._scan.read(positions))
        except LatentSTEMError as error:  # DataLoader would wrap it in another exception
            return error
        return torch.from_numpy(positions), torch.from_numpy(patterns.reshape(-1).view(np.uint8))


def _use_synchronous_dask(worker: int) -> None:
    """Use dask's synchronous scheduler in a loader process: its thread pool does not survive the fork."""
    if "dask" in sys.modules:
        import dask

        dask.config.set(scheduler="synchronous")
