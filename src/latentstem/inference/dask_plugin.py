"""What runs on the workers of a cluster."""

from __future__ import annotations

import os
import pickle
import socket
from threading import Lock
from typing import Any

import numpy as np
import torch
from dask.system import CPU_COUNT
from distributed import WorkerPlugin, get_worker

from .block_predictor import BlockPredictor

__all__ = ["Carrier", "call"]


class Carrier(WorkerPlugin):
    """Brings work to each worker once, also to one that joins later or takes the place of one that died.

    Parameters
    ----------
    name : str
        That no other carrier has.
    work : BlockPredictor
        Unpickled on a worker when its first task comes.
    """

    def __init__(self, name: str, work: BlockPredictor) -> None:
        self.name, self._pickled, self._work = name, pickle.dumps(work), None
        self._sender = socket.gethostname(), os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "_pickled": self._pickled, "_work": None, "_sender": self._sender}

    def setup(self, worker: Any) -> None:
        """Called on each worker."""
        self._arriving = Lock()
        self._threads = worker.state.nthreads

    @property
    def work(self) -> BlockPredictor:
        """On a worker: the work, for all its threads."""
        with self._arriving:
            if self._work is None:
                self._work = pickle.loads(self._pickled)
        return self._work  # type: ignore[return-value]

    def share_processors(self) -> None:
        """Let the threads of a worker take no more processors together than there are."""
        threads = max(1, CPU_COUNT // self._threads)
        if self._sender != (socket.gethostname(), os.getpid()) and torch.get_num_threads() > threads:
            torch.set_num_threads(threads)  # not in a worker within the user's own process


def call(name: str, method: str, arguments: tuple[Any, ...]) -> np.ndarray:
    """A task: a method of the work that came with the carrier of this name."""
    carrier: Any = get_worker().plugins[name]
    carrier.share_processors()
    found: np.ndarray = getattr(carrier.work, method)(*arguments)
    return found
