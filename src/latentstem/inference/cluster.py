"""The workers of a dask.distributed cluster, where a model is applied to blocks of a scan.

The model travels to each worker once. A file is read on the workers, which have to see it under the same path; of
anything else, each task is sent its own block. Only some tasks are under way at a time, so that neither the scheduler
nor the memory fills up, and what a dying worker had is done again by another.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any
from uuid import uuid4

import numpy as np

from ..errors import ArgumentError, ClusterError, FileError
from ..scan.scan import Box
from .block_predictor import BlockPredictor, Call, Run

__all__ = ["connected", "on_workers"]

log = logging.getLogger("latentstem")

_AHEAD = 2  # tasks under way for each thread of the workers
_AT_LEAST = 4  # tasks under way, for a cluster that grows by what it has to do
_PATIENCE = 10.0  # seconds to wait for a scheduler
_LOOK = 5.0  # seconds between two looks at how many workers there are


@contextmanager
def on_workers(
    work: BlockPredictor, client: Any
) -> Iterator[tuple[Run, Callable[[Box], tuple[np.ndarray, ...]]]]:
    """What makes calls of the work on the workers, and what has to be read here for them.

    Parameters
    ----------
    work : BlockPredictor
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
    from .dask_plugin import Carrier

    in_files = getattr(work.source, "is_read_by_path", False)
    carrier = Carrier(f"latentstem-{uuid4().hex}", work if in_files else work.without_source())
    with _plain_errors():
        client.register_plugin(carrier)
    try:
        yield (
            lambda calls: _run(client, carrier.name, calls),
            lambda box: () if in_files else (work.read(box),),
        )
    finally:
        if client.status == "running":
            with contextlib.suppress(Exception):  # a worker that died meanwhile
                client.unregister_worker_plugin(carrier.name)


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
        client = Client(address, set_as_default=False, timeout=_PATIENCE)
    except (OSError, ValueError) as error:
        raise ClusterError(
            "no scheduler at this address",
            expected="the address of a running dask scheduler, such as tcp://node17:8786",
            received=f"{address} ({type(error).__name__}: {error})",
            advice="`dask scheduler` prints its address when it starts.",
        ) from error
    with client:
        yield client


def _run(client: Any, name: str, calls: Iterable[Call]) -> Iterator[np.ndarray]:
    from .dask_plugin import call

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
                with _plain_errors():
                    found = waiting.popleft().result()
                yield found
            waiting.append(client.submit(call, name, method, arguments, pure=False))
        while waiting:
            with _plain_errors():
                found = waiting.popleft().result()
            yield found
    finally:
        if waiting and client.status == "running":
            client.cancel(list(waiting))


@contextmanager
def _plain_errors() -> Iterator[None]:
    """What distributed says, as errors that tell what to do."""
    from distributed import KilledWorker

    try:
        yield
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
