"""Code that runs on the workers of a dask cluster."""

from __future__ import annotations

import os
import pickle
import socket
from threading import Lock
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from dask.system import CPU_COUNT
from distributed import WorkerPlugin, get_worker

from .block_predictor import BlockPredictor

__all__ = ["ModelPlugin", "run_task"]


class ModelPlugin(WorkerPlugin):
    """Worker plugin that sends the model to each worker once, including workers that join later.

    Parameters
    ----------
    predictor : BlockPredictor
        Unpickled on a worker at its first task.
    """

    def __init__(self, predictor: BlockPredictor) -> None:
        self.name = f"latentstem-{uuid4().hex}"
        self._pickled = pickle.dumps(predictor)
        self._client_process = socket.gethostname(), os.getpid()

    def setup(self, worker: Any) -> None:
        """Prepare a worker; dask calls this on each."""
        self._lock, self._predictor, self._n_threads = Lock(), None, worker.state.nthreads

    @property
    def predictor(self) -> BlockPredictor:
        """The predictor of a worker, which its threads share."""
        with self._lock:
            if self._predictor is None:
                self._predictor = pickle.loads(self._pickled)
        return self._predictor  # type: ignore[return-value]

    def limit_threads(self) -> None:
        """Limit torch's threads, so that those of all tasks of the worker do not exceed the number of cores."""
        n_threads = max(1, CPU_COUNT // self._n_threads)
        in_client_process = self._client_process == (socket.gethostname(), os.getpid())
        if not in_client_process and torch.get_num_threads() > n_threads:  # else it is the user's own setting
            torch.set_num_threads(n_threads)


def run_task(name: str, method: str, arguments: tuple[Any, ...]) -> np.ndarray:
    """Call a method of the predictor held by the named plugin."""
    plugin: Any = get_worker().plugins[name]
    plugin.limit_threads()
    result: np.ndarray = getattr(plugin.predictor, method)(*arguments)
    return result
