"""Giving up long work that knows nothing of it."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from latentstem.scan.scan.scan import PatternSource

__all__ = ["Interrupted", "Interruptible", "unless_stopped"]

T = TypeVar("T")

_POLLED_EVERY = 0.1  # seconds


class Interrupted(BaseException):
    """Work was given up because somebody asked for it; like `KeyboardInterrupt`, no error."""


class Interruptible:
    """A pattern source that raises `Interrupted` instead of reading, once that is asked for.

    So whatever streams over a scan can be given up.

    Parameters
    ----------
    source : PatternSource
        What is read.
    stop : threading.Event
        Set it to give up.
    """

    def __init__(self, source: PatternSource, stop: threading.Event) -> None:
        self._source, self._stop = source, stop
        self.shape, self.dtype = source.shape, source.dtype
        self.array, self.chunks = source.array, source.chunks
        self.active = True

    @property
    def files(self) -> set[str]:
        """Paths of the files that patterns are read from."""
        return self._source.files

    def is_set(self) -> bool:
        """Whether it is asked for, as `unless_stopped` wants to know."""
        return self.active and self._stop.is_set()

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Patterns at flat scan positions; see `PatternSource.read`."""
        if self.is_set():
            raise Interrupted
        return self._source.read(indices)


def unless_stopped(function: Callable[[], T], stop: threading.Event | Interruptible) -> T | None:
    """The result of a function, or None if `stop` was set before it was there.

    `Interrupted` is raised in the midst of it, at the next line of Python that it comes to.
    """
    worker, lock = threading.get_ident(), threading.Lock()
    done, sent = threading.Event(), threading.Event()

    def watch() -> None:
        while not done.wait(_POLLED_EVERY):
            if stop.is_set():
                with lock:
                    if not done.is_set():
                        sent.set()
                        ctypes.pythonapi.PyThreadState_SetAsyncExc(
                            ctypes.c_ulong(worker), ctypes.py_object(Interrupted)
                        )
                return

    threading.Thread(target=watch, name="latentstem-watching", daemon=True).start()
    try:
        result = function()
        with lock:
            done.set()
        if sent.is_set():  # it is on its way, and is not to arrive anywhere else
            time.sleep(0.01)
        return result
    except Interrupted:
        return None
    finally:
        done.set()
