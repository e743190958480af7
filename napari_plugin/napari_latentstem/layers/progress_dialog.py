"""Wait for a long computation behind a progress dialog, without freezing the window."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

__all__ = ["run_with_progress"]

T = TypeVar("T")

_DIALOG_DELAY = 400  # ms before the dialog is shown
_POLL_MS = 20


@dataclass
class _Work:
    """State of the computing thread."""

    fraction: float = 0.0
    result: Any = None
    error: BaseException | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def iterate(self, steps: Iterator[tuple[float, Any]]) -> None:
        try:
            for self.fraction, self.result in steps:
                if self.stop.is_set():
                    break
        except BaseException as error:  # raised again in the waiting thread
            self.error = error


def run_with_progress(steps: Iterator[tuple[float, T]], label: str, stop_text: str) -> T:
    """Iterate in a thread, and return the last result.

    napari's readers and samples must return their layers. If there is a window, it is redrawn in the meantime, and a
    dialog shows the progress.

    Parameters
    ----------
    steps : iterator of (float, result)
        Fraction done, 0 to 1, and result so far.
    label : str
        Text of the dialog.
    stop_text : str
        Text of the button that stops and returns the result so far.

    Raises
    ------
    Exception
        Any exception that the iterator raises.
    """
    work = _Work()
    thread = threading.Thread(target=work.iterate, args=(steps,), name="latentstem-reading", daemon=True)
    thread.start()
    app = _gui_application()
    if app is not None:
        _show_progress(app, thread, work, label, stop_text)
    thread.join()
    if work.error is not None:
        raise work.error
    result, work.result = work.result, None  # the dialog's connections keep `work` alive
    return result


def _gui_application() -> Any:
    """The Qt application, if this is its thread."""
    from qtpy.QtCore import QThread
    from qtpy.QtWidgets import QApplication

    app = QApplication.instance()
    return app if app is not None and QThread.currentThread() is app.thread() else None


def _show_progress(app: Any, thread: threading.Thread, work: _Work, label: str, stop_text: str) -> None:
    """Run the event loop and show a dialog until the thread ends."""
    from qtpy.QtCore import QEventLoop, Qt, QTimer
    from qtpy.QtWidgets import QProgressDialog

    dialog = QProgressDialog(label, stop_text, 0, 100, app.activeWindow())
    dialog.setWindowTitle("LatentSTEM")
    dialog.setWindowModality(Qt.WindowModality.ApplicationModal)
    dialog.setMinimumDuration(_DIALOG_DELAY)
    dialog.setAutoReset(False)
    dialog.setValue(0)
    dialog.canceled.connect(work.stop.set)
    loop, timer = QEventLoop(), QTimer(singleShot=True, interval=_POLL_MS)

    def poll() -> None:
        if not thread.is_alive():
            loop.quit()
            return
        if work.fraction:
            dialog.setValue(min(99, int(100 * work.fraction)))  # also processes events
        timer.start()

    timer.timeout.connect(poll)
    timer.start()
    loop.exec()
    dialog.close()
    dialog.deleteLater()
