"""The workers of a dask.distributed cluster, where a model is applied to blocks of a scan.

The model travels to each worker once. A file is read on the workers, which have to see it under the same path; of
anything else, each task is sent its own block. Only some tasks are under way at a time, so that neither the scheduler
nor the memory fills up, and what a dying worker had is done again by another.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np

from ..apply import Box, Call, Run, Work
from ..errors import ArgumentError, ClusterError, FileError
from .arrays import library_of
from .origin import files_of

__all__ = ["connected", "on_workers"]

log = logging.getLogger("latentstem")

_AHEAD = 2  # tasks under way for each thread of the workers
_AT_LEAST = 4  # tasks under way, for a cluster that grows by what it has to do
_LOOK = 5.0  # seconds between two looks at how many workers there are


@contextmanager
def on_workers(work: Work, client: Any) -> Iterator[tuple[Run, Callable[[Box], tuple[np.ndarray, ...]]]]:
    """What makes calls of the work on the workers, and what has to be read here for them.

    Parameters
    ----------
    work : Work
        What is to be done.
    client : distributed.Client
        Connected to a cluster.

    Raises
    ------
    ArgumentError
        If `client` is something else, or closed, or distributed is not installed.
    ClusterError
        While it runs: if the workers lack the package, or die again and again, or the cluster goes away.
    FileError
        While it runs: if the workers do not see the file.
    """
    _check(client)
    import dask

    in_files = _in_files(work.source)
    sent = work if in_files else work.without_source()
    origin = socket.gethostname(), os.getpid()
    # A task that makes the work, rather than scattered data: the scheduler repeats it when its worker dies.
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "100GB"}):
        held = client.submit(_received, pickle.dumps(sent), pure=False)
        yield (
            lambda calls: _run(client, held, origin, calls),
            lambda box: () if in_files else (work.read(box),),
        )


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """A client of the scheduler at this address; None without one.

    Raises
    ------
    ArgumentError, ClusterError
    """
    if address is None:
        yield None
        return
    _check_installed()
    from distributed import Client

    try:
        client = Client(address, set_as_default=False, timeout=10)
    except (OSError, ValueError) as error:
        raise ClusterError(
            "no scheduler at this address",
            expected="the address of a running dask scheduler, such as tcp://node17:8786",
            received=f"{address} ({type(error).__name__}: {error})",
            advice="`dask scheduler` prints its address when it starts.",
        ) from error
    with client:
        yield client


def _run(client: Any, held: Any, origin: tuple[str, int], calls: Iterable[Call]) -> Iterator[np.ndarray]:
    waiting: deque[Any] = deque()
    most, looked = 0, -_LOOK
    try:
        for method, arguments in calls:
            if time.monotonic() - looked > _LOOK:
                threads, looked = sum(client.nthreads().values()), time.monotonic()
                most = max(_AT_LEAST, _AHEAD * threads)
                if not threads:
                    log.warning("The cluster has no workers yet: waiting for the first.")
            while len(waiting) >= most:
                yield _result(waiting.popleft())
            waiting.append(client.submit(_call, held, method, arguments, origin, pure=False))
        while waiting:
            yield _result(waiting.popleft())
    finally:
        if waiting and client.status == "running":
            client.cancel(list(waiting))


def _received(pickled: bytes) -> Work:
    work: Work = pickle.loads(pickled)
    return work


def _call(work: Work, method: str, arguments: tuple[Any, ...], origin: tuple[str, int]) -> np.ndarray:
    if origin != (socket.gethostname(), os.getpid()):  # a process of the worker's own
        _share_processors()
    found: np.ndarray = getattr(work, method)(*arguments)
    return found


def _share_processors() -> None:
    """Let the threads of a worker take no more processors together than there are."""
    import torch
    from dask.system import CPU_COUNT
    from distributed import get_worker

    threads = max(1, CPU_COUNT // get_worker().state.nthreads)
    if torch.get_num_threads() > threads:
        torch.set_num_threads(threads)


def _result(future: Any) -> np.ndarray:
    from distributed import KilledWorker

    try:
        found: np.ndarray = future.result()
        return found
    except KilledWorker as error:
        raise ClusterError(
            "workers die at this",
            expected="workers that live as long as their tasks",
            received=str(error).splitlines()[0],
            advice="They may lack memory: give them more, or fewer threads; their logs tell.",
        ) from error
    except CancelledError as error:
        raise ClusterError(
            "the cluster went away",
            expected="a scheduler and workers that run to the end",
            received="tasks that were cancelled",
            advice="See the scheduler's log, and start it again.",
        ) from error
    except FileNotFoundError as error:
        raise FileError(
            "the workers cannot read the file",
            expected="a file that every worker sees under the same path",
            received=str(error),
            advice="Put it on a file system that they share, or load it here and give the array.",
        ) from error
    except ModuleNotFoundError as error:
        raise ClusterError(
            "the workers lack a package",
            expected="the same packages on the workers as here",
            received=str(error),
            advice="Install latentstem, in the same version, where the workers run.",
        ) from error


def _in_files(source: Any) -> bool:
    """Whether a source can be sent as path and key, without its patterns."""
    store = getattr(source, "_store", None)
    if store is not None:
        return library_of(store) != "dask" and bool(files_of(source))
    return getattr(source, "_file", None) is not None


def _check_installed() -> None:
    if find_spec("distributed") is None:
        raise ArgumentError(
            "a cluster needs dask.distributed",
            expected="the package distributed",
            received="an environment without it",
            advice="`pip install latentstem[distributed]`.",
        )


def _check(client: Any) -> None:
    _check_installed()
    from distributed import Client

    if not isinstance(client, Client) or client.asynchronous:
        kind = f"{type(client).__module__}.{type(client).__qualname__}"
        raise ArgumentError(
            "client",
            expected="a dask.distributed.Client that is not asynchronous",
            received="an asynchronous one" if isinstance(client, Client) else f"{client!r} ({kind})",
            advice="Make one: client = Client(cluster), or Client('tcp://address:8786') of a running scheduler.",
        )
    if client.status != "running":
        raise ArgumentError(
            "client is not connected",
            expected="a client that is connected to a scheduler",
            received=f"one whose status is {client.status!r}",
            advice="Make a new one, and keep it open until the result is there.",
        )
