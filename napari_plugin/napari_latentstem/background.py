"""Work that a widget asks for again and again while the user moves something."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from qtpy.QtCore import QObject, Signal

from latentstem.errors import LatentSTEMError

__all__ = ["Latest", "message_of"]

_LEAVE = 0.5  # seconds that closing waits for work in progress


class Latest(QObject):
    """Works in a thread of its own, always on what was asked for last.

    What comes in during work waits; if more comes, it takes the place of what waits. So the pictures under a dragged
    marker follow it as fast as they can be computed, and the last one is always the one under the marker.

    Parameters
    ----------
    parent : QObject
        A widget.
    failed : callable
        Called in the GUI's thread with the exception that work ended with.
    """

    _arrived = Signal(object, object)

    def __init__(self, parent: QObject, failed: Callable[[Exception], None]) -> None:
        super().__init__(parent)
        self._failed = failed
        self._lock = threading.Lock()
        self._waiting: tuple[Callable[[], Iterator[Any]], Callable[[Any], None]] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._arrived.connect(self._deliver)

    def ask(self, work: Callable[[], Iterator[Any]], then: Callable[[Any], None]) -> None:
        """Iterate `work()` in the thread, and call `then` with each result in the GUI's thread.

        It is left after a result where something else is asked for meanwhile.
        """
        with self._lock:
            self._waiting = (work, then)
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="latentstem-looking", daemon=True)
                self._thread.start()

    def cancel(self) -> None:
        """Leave the work in progress after its next result, which is not delivered any more."""
        self.ask(lambda: iter(()), lambda _: None)

    def close(self) -> None:
        """Deliver nothing any more, and end the thread as soon as it lets go."""
        with self._lock:
            self._closed, thread = True, self._thread
        if thread is not None:
            thread.join(_LEAVE)

    @property
    def working(self) -> bool:
        """Whether anything is being worked on."""
        return self._thread is not None

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._closed or self._waiting is None:
                    self._thread = None
                    return
                (work, then), self._waiting = self._waiting, None
            try:
                for result in work():
                    self._send(then, result)
                    if self._waiting is not None or self._closed:
                        break
            except Exception as error:
                self._send(self._failed, error)

    def _send(self, then: Callable[[Any], None], result: Any) -> None:
        if not self._closed:
            with suppress(RuntimeError):  # the widget has been deleted meanwhile
                self._arrived.emit(then, result)

    def _deliver(self, then: Callable[[Any], None], result: Any) -> None:
        if not self._closed:
            then(result)


def message_of(error: Exception) -> str:
    """What the user is told of an exception: the library's own errors say what to do."""
    return str(error) if isinstance(error, LatentSTEMError) else f"{type(error).__name__}: {error}"
