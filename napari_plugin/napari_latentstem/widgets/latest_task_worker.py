"""A worker thread for tasks that are requested repeatedly while the user moves something."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from qtpy.QtCore import QObject, Signal

from latentstem.errors import LatentSTEMError

__all__ = ["LatestTaskWorker", "error_message"]

_CLOSE_SECONDS = 0.5  # time that closing waits for the running task


class LatestTaskWorker(QObject):
    """Runs tasks in a thread, and drops all waiting tasks but the latest.

    So the images under a dragged marker follow it as fast as they can be computed, and the last one belongs to the
    final position.

    Parameters
    ----------
    parent : QObject
        Owner of the worker.
    on_error : callable
        Called in the GUI thread with the exception of a failed task.
    """

    _result_ready = Signal(object, object)

    def __init__(self, parent: QObject, on_error: Callable[[Exception], None]) -> None:
        super().__init__(parent)
        self._on_error = on_error
        self._lock = threading.Lock()
        self._waiting: tuple[Callable[[], Iterator[Any]], Callable[[Any], None]] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._result_ready.connect(self._deliver)

    def submit(self, task: Callable[[], Iterator[Any]], on_result: Callable[[Any], None]) -> None:
        """Iterate `task()` in the thread, and call `on_result` in the GUI thread with each result.

        The task is abandoned after its next result if another one is submitted.
        """
        with self._lock:
            self._waiting = (task, on_result)
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="latentstem-task", daemon=True)
                self._thread.start()

    def cancel(self) -> None:
        """Abandon the running task after its next result, and drop that result."""
        self.submit(lambda: iter(()), lambda _: None)

    def close(self) -> None:
        """Drop all results from now on, and end the thread after the next one."""
        with self._lock:
            self._closed, thread = True, self._thread
        if thread is not None:
            thread.join(_CLOSE_SECONDS)

    @property
    def working(self) -> bool:
        """Whether a task is running."""
        return self._thread is not None

    def _is_superseded(self) -> bool:
        return self._closed or self._waiting is not None

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._closed or self._waiting is None:
                    self._thread = None
                    return
                (task, on_result), self._waiting = self._waiting, None
            try:
                for result in task():
                    self._send(on_result, result)
                    if self._is_superseded():
                        break
            except Exception as error:
                self._send(self._on_error, error)

    def _send(self, callback: Callable[[Any], None], result: Any) -> None:
        if not self._closed:
            with suppress(RuntimeError):  # the widget has been deleted
                self._result_ready.emit(callback, result)

    def _deliver(self, callback: Callable[[Any], None], result: Any) -> None:
        if not self._closed:
            callback(result)


def error_message(error: BaseException) -> str:
    """Text for the user; errors of LatentSTEM explain themselves, others are named by their type."""
    return str(error) if isinstance(error, LatentSTEMError) else f"{type(error).__name__}: {error}"
