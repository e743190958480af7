"""Interrupt long computations that have no cancel option."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from latentstem.scan.scan import PatternSource

__all__ = ["Interrupted", "InterruptibleSource", "run_until_stopped"]

T = TypeVar("T")

_POLL_SECONDS = 0.1


class Interrupted(BaseException):
    """The computation was interrupted on request; like `KeyboardInterrupt`, not an error."""


class InterruptibleSource:
    """A pattern source that raises `Interrupted` on reading once it is stopped, so that any pass over a scan ends.

    Parameters
    ----------
    source : PatternSource
        Source of the patterns.
    stop : threading.Event
        Set it to interrupt.
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
        """Whether to interrupt, under the name that `run_until_stopped` expects."""
        return self.active and self._stop.is_set()

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Patterns at flat scan positions; see `PatternSource.read`."""
        if self.is_set():
            raise Interrupted
        return self._source.read(indices)


def run_until_stopped(function: Callable[[], T], stop: threading.Event | InterruptibleSource) -> T | None:
    """Call a function; return its result, or None if `stop` is set before it returns.

    A second thread raises `Interrupted` in the calling thread, which takes effect at the next Python instruction.
    """
    caller, lock = threading.get_ident(), threading.Lock()
    end_event, interrupt_event = threading.Event(), threading.Event()

    def watch() -> None:
        while not end_event.wait(_POLL_SECONDS):
            if stop.is_set():
                with lock:
                    if not end_event.is_set():
                        interrupt_event.set()
                        ctypes.pythonapi.PyThreadState_SetAsyncExc(
                            ctypes.c_ulong(caller), ctypes.py_object(Interrupted)
                        )
                return

    threading.Thread(target=watch, name="latentstem-watching", daemon=True).start()
    try:
        result = function()
        with lock:
            end_event.set()
        if interrupt_event.is_set():  # let the exception arrive here and not in the caller
            time.sleep(0.01)
        return result
    except Interrupted:
        return None
    finally:
        end_event.set()
