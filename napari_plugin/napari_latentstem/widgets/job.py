"""Background jobs on a scan: training a model, or computing latents with one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QApplication

from ..layers.latent_layers import show_embedding
from ..layers.sessions import sessions_of
from ..model.events import Embedded, Event, Failed, Finished, Stopped
from ..model.session import Session
from ..model.training_run import embed_events, train_events
from .latest_task_worker import LatestTaskWorker, error_message

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from latentstem import LatentModel, Scan, TrainingConfig

__all__ = ["Job"]


class Job(QObject):
    """Runs one job at a time, and puts its results into the session and the viewer.

    ``reported`` is emitted with each event, after the session has been updated; ``ended`` when the job is over.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Viewer of the latent maps.
    parent : QObject
        Owner of the job.
    """

    reported = Signal(object)
    ended = Signal()

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._sessions = sessions_of(viewer)
        self._worker = LatestTaskWorker(self, self._on_error)
        self._stop = self._cancel = threading.Event()
        self._stop_events = stop_events = [self._stop]  # events that end the running job
        self.session: Session | None = None
        self._sessions.removed.connect(self._on_removed)
        self._application().aboutToQuit.connect(self._abandon)

        def abandon(*_: Any) -> None:  # no method, because this object is destroyed before the window
            for event in stop_events:
                event.set()

        self._sessions.viewer.window._qt_window.destroyed.connect(abandon)

    def train(self, session: Session, scan: Scan, config: TrainingConfig, **arguments: Any) -> None:
        """Train a model on a scan, and compute its latents.

        Parameters
        ----------
        session : Session
            Gets the model and the latents.
        scan : Scan
            The session's scan with the masks of the run.
        config : TrainingConfig
            Configuration of the run.
        **arguments
            ``start_from``, ``output_dir``, ``baselines``: see `train_events`.
        """
        stop, cancel = self._begin(session, "training")

        def task() -> Iterator[Event | None]:
            model = None
            for event in train_events(scan, config, stop=stop, **arguments):
                model = getattr(event, "model", None)
                yield event
            if model is not None:
                embedded = embed_events(scan, model, cancel)
                yield from (event for event in embedded if not isinstance(event, Stopped))
            yield None

        self._worker.submit(task, self._events_of(stop))

    def apply(self, session: Session, model: LatentModel | Path) -> None:
        """Compute the latents of a session's scan with a model, or the file of one, and put both into the session."""
        stop, cancel = self._begin(session, "embedding")

        def task() -> Iterator[Event | None]:
            from latentstem import load  # imports torch

            yield from embed_events(session.scan, load(model) if isinstance(model, Path) else model, cancel)
            yield None

        self._worker.submit(task, self._events_of(stop))

    def stop(self) -> None:
        """End training with the best model so far; if it has ended, cancel the computation of latents."""
        if self._stop.is_set() or (self.session is not None and self.session.busy == "embedding"):
            self._cancel.set()
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether the job has been asked to stop."""
        return self._stop.is_set()

    def close(self) -> None:
        """Cancel the job, and disconnect from the viewer."""
        self._abandon()
        self._application().aboutToQuit.disconnect(self._abandon)
        self._sessions.removed.disconnect(self._on_removed)
        self._worker.close()
        self._end()

    @staticmethod
    def _application() -> Any:
        return QApplication.instance()

    def _begin(self, session: Session, busy: str) -> tuple[threading.Event, threading.Event]:
        self._stop_events[:] = self._stop, self._cancel = threading.Event(), threading.Event()
        self.session, session.busy, session.message = session, busy, ""
        return self._stop, self._cancel

    def _events_of(self, stop: threading.Event) -> Callable[[Event | None], None]:
        """Callback for the events of one job, which ignores those that arrive after the next job has begun."""
        return lambda event: self._on_event(event) if stop is self._stop else None

    def _on_event(self, event: Event | None) -> None:
        session = self.session
        if session is None:  # the scan has been closed
            if event is None:
                self.ended.emit()
            return
        if isinstance(event, Finished | Stopped | Embedded) and event.model is not None:
            if session.model is not event.model:
                session.embedding = None  # belongs to the previous model
                session.model = event.model
            session.busy = "embedding"
        if isinstance(event, Embedded) and not session.closed:
            session.embedding = event.embedding
            show_embedding(self._sessions.viewer, session)
        if isinstance(event, Failed):
            session.message = error_message(event.error)
        if event is None:
            self._end()
        else:
            self.reported.emit(event)

    def _on_error(self, error: Exception) -> None:
        self._on_event(Failed(error))
        self._end()

    def _end(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            session.busy = ""
            self.ended.emit()

    def _on_removed(self, session: Session) -> None:
        if session is self.session:
            self._abandon()
            self.session, session.busy = None, ""

    def _abandon(self) -> None:
        self._stop.set()
        self._cancel.set()
