"""Long work that somebody waits for, without freezing the window."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

__all__ = ["wait_for"]

T = TypeVar("T")

_SHOWN_AFTER = 400  # ms of work, before a dialog tells of it
_POLLED_EVERY = 20  # ms


@dataclass
class _Work:
    """How far a thread has come."""

    share: float = 0.0
    result: Any = None
    error: BaseException | None = None
    enough: threading.Event = field(default_factory=threading.Event)

    def iterate(self, steps: Iterator[tuple[float, Any]]) -> None:
        try:
            for self.share, self.result in steps:
                if self.enough.is_set():
                    break
        except BaseException as error:  # raised anew in the thread that waits
            self.error = error


def wait_for(steps: Iterator[tuple[float, T]], label: str, enough: str) -> T:
    """The last of some results, worked out in another thread.

    napari's readers and samples have to return what they made. Where there is a window, it goes on drawing in the
    meantime, and a dialog shows how far the work is.

    Parameters
    ----------
    steps : iterator of (float, result)
        How much is done, 0 to 1, and the result so far. Iterated in a thread of its own.
    label : str
        What is being done.
    enough : str
        Text of the button that takes the result so far.

    Raises
    ------
    Exception
        Whatever the iterator raises.
    """
    work = _Work()
    thread = threading.Thread(target=work.iterate, args=(steps,), name="latentstem-reading", daemon=True)
    thread.start()
    app = _application()
    if app is not None:
        _show_progress(app, thread, work, label, enough)
    thread.join()
    if work.error is not None:
        raise work.error
    result, work.result = work.result, None  # the dialog's connections keep the work alive
    return result


def _application() -> Any:
    """The application, if this is the thread of its windows."""
    from qtpy.QtCore import QThread
    from qtpy.QtWidgets import QApplication

    app = QApplication.instance()
    return app if app is not None and QThread.currentThread() is app.thread() else None


def _show_progress(app: Any, thread: threading.Thread, work: _Work, label: str, enough: str) -> None:
    """Let the windows live until the thread ends."""
    from qtpy.QtCore import QEventLoop, Qt, QTimer
    from qtpy.QtWidgets import QProgressDialog

    dialog = QProgressDialog(label, enough, 0, 100, app.activeWindow())
    dialog.setWindowTitle("LatentSTEM")
    dialog.setWindowModality(Qt.WindowModality.ApplicationModal)
    dialog.setMinimumDuration(_SHOWN_AFTER)
    dialog.setAutoReset(False)
    dialog.setValue(0)
    dialog.canceled.connect(work.enough.set)
    loop, timer = QEventLoop(), QTimer(singleShot=True, interval=_POLLED_EVERY)

    def poll() -> None:
        if not thread.is_alive():
            loop.quit()
            return
        if work.share:
            dialog.setValue(min(99, int(100 * work.share)))  # draws, and lets other events happen
        timer.start()

    timer.timeout.connect(poll)
    timer.start()
    loop.exec()
    dialog.close()
    dialog.deleteLater()
