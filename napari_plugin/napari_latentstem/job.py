"""Work on a scan in the background: training a model on it, or embedding it with one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QApplication

from . import worker
from .background import Latest, message_of
from .layers import show_embedding
from .state import Session, sessions_of
from .worker import Embedded, Event, Failed, Finished, Stopped

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from latentstem import LatentModel, Scan, TrainingConfig

__all__ = ["Job"]


class Job(QObject):
    """One piece of work at a time, whose results go into the session and the viewer.

    ``told`` is emitted with each event of the work, after the session has been brought up to date; ``ended`` when
    it is over, however it ended.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Where latent maps are shown.
    parent : QObject
        A widget.
    """

    told = Signal(object)
    ended = Signal()

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._sessions = sessions_of(viewer)
        self._latest = Latest(self, self._on_error)
        self._stop = self._give_up = threading.Event()
        self._to_set = to_set = [self._stop]  # what gives up the work that goes on
        self.session: Session | None = None
        self._sessions.removed.connect(self._on_removed)
        QApplication.instance().aboutToQuit.connect(self._abandon)
        # the window's end comes after that of this object, which must therefore not be asked
        window = self._sessions.viewer.window._qt_window
        window.destroyed.connect(lambda *_: [event.set() for event in to_set])

    def train(self, session: Session, scan: Scan, config: TrainingConfig, **arguments: Any) -> None:
        """Train on a scan, and embed it with the model.

        Parameters
        ----------
        session : Session
            What gets the model and the latents.
        scan : Scan
            That of the session, with the masks of the run.
        config : TrainingConfig
            What to run.
        **arguments
            See `worker.train_events`: ``start_from``, ``output_dir``, ``baselines``.
        """
        stop, give_up = self._begin(session, "training")

        def work() -> Iterator[Event | None]:
            model = None
            for event in worker.train_events(scan, config, stop=stop, **arguments):
                model = getattr(event, "model", None)
                yield event
            if model is not None:
                embedded = worker.embed_events(scan, model, give_up)
                yield from (event for event in embedded if not isinstance(event, Stopped))
            yield None

        self._latest.ask(work, self._of_this(stop))

    def apply(self, session: Session, model: LatentModel | Path) -> None:
        """Embed the scan of a session with a model, or the file of one, and let the session hold it."""
        stop, give_up = self._begin(session, "embedding")

        def work() -> Iterator[Event | None]:
            from latentstem import load

            loaded = load(model) if isinstance(model, Path) else model
            yield from worker.embed_events(session.scan, loaded, give_up)
            yield None

        self._latest.ask(work, self._of_this(stop))

    def stop(self) -> None:
        """End the training with the model so far, or, once that is over, give up the embedding."""
        if self._stop.is_set() or (self.session is not None and self.session.busy == "embedding"):
            self._give_up.set()
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether the training has been asked to stop."""
        return self._stop.is_set()

    def close(self) -> None:
        """Give up what goes on, and let go of the viewer."""
        self._abandon()
        QApplication.instance().aboutToQuit.disconnect(self._abandon)
        self._sessions.removed.disconnect(self._on_removed)
        self._latest.close()
        self._end()

    def _begin(self, session: Session, busy: str) -> tuple[threading.Event, threading.Event]:
        self._to_set[:] = self._stop, self._give_up = threading.Event(), threading.Event()
        self.session, session.busy, session.message = session, busy, ""
        return self._stop, self._give_up

    def _of_this(self, stop: threading.Event) -> Callable[[Event | None], None]:
        """Takes the events of a piece of work, until there is another one: they are not about that."""
        return lambda event: self._on_event(event) if stop is self._stop else None

    def _on_event(self, event: Event | None) -> None:
        session = self.session
        if session is None:  # the scan has been closed meanwhile
            if event is None:
                self.ended.emit()
            return
        if isinstance(event, Finished | Stopped | Embedded) and event.model is not None:
            if session.model is not event.model:
                session.embedding = None  # it belongs to the model before
                session.model = event.model
            session.busy = "embedding"
        if isinstance(event, Embedded) and not session.closed:
            session.embedding = event.embedding
            show_embedding(self._sessions.viewer, session)
        if isinstance(event, Failed):
            session.message = message_of(event.error)
        if event is None:
            self._end()
        else:
            self.told.emit(event)

    def _on_error(self, error: Exception) -> None:
        self._on_event(Failed(error))
        self._end()

    def _end(self) -> None:
        """Ready for other work."""
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
        self._give_up.set()
