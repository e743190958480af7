"""Run the tasks of a `BlockPredictor` on the workers of a dask.distributed cluster.

The model is sent to each worker once. Workers read files themselves, and must see them under the same path; other data
are sent with each task. The number of pending tasks is limited, to bound memory; tasks of a lost worker are repeated on
another.
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

import numpy as np

from ..errors import ArgumentError, ClusterError, FileError
from ..scan.scan import Block
from .block_predictor import BlockPredictor

__all__ = ["TaskRunner", "cluster_executor", "connect_scheduler"]

log = logging.getLogger("latentstem")

#: function that runs tasks, each the name of a method of `BlockPredictor` and its arguments, and yields results in order
TaskRunner = Callable[[Iterable[tuple[str, tuple[Any, ...]]]], Iterator[np.ndarray]]

_TASKS_PER_THREAD = 2  # pending tasks for each thread of the workers
_MIN_TASKS = 4  # minimum number of pending tasks, so that an adaptive cluster scales up
_CONNECT_TIMEOUT = 10.0  # seconds
_WORKER_CHECK_INTERVAL = 5.0  # seconds between two checks of the number of workers


@contextmanager
def cluster_executor(predictor: BlockPredictor, client: Any) -> Iterator[TaskRunner]:
    """Yield a function that runs tasks on the workers.

    Parameters
    ----------
    predictor : BlockPredictor
        Its methods are the tasks. A `Block` among their arguments is read on the worker if the source is a file, else here.
    client : distributed.Client
        Connected to a cluster.

    Raises
    ------
    ArgumentError
        If `client` is something else, or closed, or distributed is not installed.
    ClusterError
        While tasks run: if workers lack a package, keep dying, or the connection is lost.
    FileError
        While tasks run: if the workers do not see the file.
    """
    _check_client(client)
    from .dask_plugin import ModelPlugin, run_task

    by_path = getattr(predictor.source, "is_read_by_path", False)
    plugin = ModelPlugin(predictor if by_path else predictor.without_source())

    def submit(method: str, arguments: tuple[Any, ...]) -> Any:
        if not by_path:
            arguments = tuple(predictor.read_block(a) if isinstance(a, Block) else a for a in arguments)
        return client.submit(run_task, plugin.name, method, arguments, pure=False)

    def run_tasks(tasks: Iterable[tuple[str, tuple[Any, ...]]]) -> Iterator[np.ndarray]:
        pending: deque[Any] = deque()
        max_pending, last_check = 0, -_WORKER_CHECK_INTERVAL
        try:
            for method, arguments in tasks:
                if time.monotonic() - last_check > _WORKER_CHECK_INTERVAL:
                    threads, last_check = sum(client.nthreads().values()), time.monotonic()
                    max_pending = max(_MIN_TASKS, _TASKS_PER_THREAD * threads)
                    if not threads:
                        log.warning("The cluster has no workers yet: waiting for the first.")
                while len(pending) >= max_pending:
                    yield _result(pending.popleft())
                pending.append(submit(method, arguments))
            while pending:
                yield _result(pending.popleft())
        finally:
            if pending and client.status == "running":
                client.cancel(list(pending))

    with _translate_errors():
        client.register_plugin(plugin)
    try:
        yield run_tasks
    finally:
        if client.status == "running":
            with contextlib.suppress(Exception):  # raised if a worker has died meanwhile
                client.unregister_worker_plugin(plugin.name)


@contextmanager
def connect_scheduler(address: str | None) -> Iterator[Any]:
    """A client of the scheduler at this address; None without an address. Raises `ClusterError` if there is no scheduler."""
    if address is None:
        yield None
        return
    _check_installed()
    from distributed import Client

    try:
        client = Client(address, set_as_default=False, timeout=_CONNECT_TIMEOUT)
    except (OSError, ValueError) as error:
        raise ClusterError(
            "no scheduler at this address",
            expected="the address of a running dask scheduler, such as tcp://node17:8786",
            received=f"{address} ({type(error).__name__}: {error})",
            advice="`dask scheduler` prints its address when it starts.",
        ) from error
    with client:
        yield client


def _result(future: Any) -> np.ndarray:
    with _translate_errors():
        result: np.ndarray = future.result()
    return result


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Replace errors of distributed by errors that say what to do."""
    from distributed import KilledWorker

    try:
        yield
    except KilledWorker as error:
        raise ClusterError(
            "workers died repeatedly",
            expected="workers that finish their tasks",
            received=str(error).splitlines()[0],
            advice="They may be out of memory: give them more memory or fewer threads, and see their logs.",
        ) from error
    except CancelledError as error:
        raise ClusterError(
            "the cluster disconnected",
            expected="a scheduler and workers that stay connected",
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
            "a package is missing on the workers",
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


def _check_client(client: Any) -> None:
    _check_installed()
    from distributed import Client

    if not isinstance(client, Client) or client.asynchronous:
        kind = f"{type(client).__module__}.{type(client).__qualname__}"
        raise ArgumentError(
            "client is of the wrong kind",
            expected="a dask.distributed.Client that is not asynchronous",
            received="an asynchronous one" if isinstance(client, Client) else f"{client!r} ({kind})",
            advice="Make one: client = Client(cluster), or Client('tcp://address:8786') of a running scheduler.",
        )
    if client.status != "running":
        raise ArgumentError(
            "client is not connected",
            expected="a client that is connected to a scheduler",
            received=f"one whose status is {client.status!r}",
            advice="Make a new one, and keep it open until the result has been computed.",
        )
