"""Dock that saves, loads, fine-tunes and applies models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
)

from latentstem import TrainingConfig
from latentstem.errors import LatentSTEMError

from . import telling
from .background import Latest, message_of
from .dock import Dock
from .job import Job
from .scan_choice import ScanChoice
from .state import Session, sessions_of
from .worker import Embedded, Event, Failed, Finished, Progress, Stopped

if TYPE_CHECKING:
    import napari.viewer

    from latentstem import LatentModel

__all__ = ["ModelWidget"]

_FILES = "Models (*.ckpt)"


class ModelWidget(Dock):
    """The model of the active scan: to a file and from one, on to another scan, or trained on for this one.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Its active scan is worked on.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._sessions = sessions_of(viewer)
        self.job = Job(viewer, self)
        self._writing = Latest(self, self._on_error)
        self._build()
        self.job.told.connect(self._on_event)
        self.job.ended.connect(self._on_ended)
        self._refresh()

    # ---- what it is made of ----

    def _build(self) -> None:
        self.scan = ScanChoice(self._sessions.viewer)
        self.scan.changed.connect(self._refresh)
        self.about, self.state, self.message = QLabel(), QLabel(), QLabel()
        for label in (self.about, self.state, self.message):
            label.setWordWrap(True)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.save, self.load = QPushButton("Save …"), QPushButton("Load …")
        self.save.setToolTip("One .ckpt file, which latentstem.load reads in Python; it holds no data")
        self.load.setToolTip("A .ckpt file of latentstem; its latents of this scan are computed")
        self.save.clicked.connect(lambda: self.save_model())
        self.load.clicked.connect(lambda: self.load_model())
        self.target, self.apply = QComboBox(), QPushButton("Apply")
        self.target.setToolTip("Another open scan, whose patterns have the same shape")
        self.apply.setToolTip("Compute the latents of that scan with this model")
        self.apply.clicked.connect(lambda: self.apply_model())
        self.epochs, self.learning_rate = QSpinBox(), QLineEdit("1e-4")
        self.epochs.setRange(1, 100_000)
        self.epochs.setValue(20)
        self.epochs.setToolTip("Passes over the scan")
        self.learning_rate.setToolTip("Lower than in training, so that what was learnt is kept")
        self.tune, self.halt = QPushButton("Fine-tune"), QPushButton("Stop")
        self.tune.setToolTip(
            "Train this model on with the patterns of this scan; the file it came from stays"
        )
        self.halt.setToolTip("End fine-tuning with the best model so far, or give up computing latents")
        self.tune.clicked.connect(lambda: self.fine_tune())
        self.halt.clicked.connect(lambda: self.job.stop())
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        top, files, on = QFormLayout(), QHBoxLayout(), QHBoxLayout()
        top.addRow("Scan", self.scan)
        files.addWidget(self.save)
        files.addWidget(self.load)
        on.addWidget(self.target, 1)
        on.addWidget(self.apply)
        self.model_box, apply_box, tune_box = (
            QGroupBox(title) for title in ("Model", "Apply to another scan", "Fine-tune on this scan")
        )
        inside = QVBoxLayout(self.model_box)
        inside.addWidget(self.about)
        inside.addLayout(files)
        apply_box.setLayout(on)
        tuning, buttons = QFormLayout(tune_box), QHBoxLayout()
        buttons.addWidget(self.tune)
        buttons.addWidget(self.halt)
        tuning.addRow("Epochs", self.epochs)
        tuning.addRow("Learning rate", self.learning_rate)
        tuning.addRow(buttons)
        layout = QVBoxLayout(self)
        layout.addLayout(top)
        for widget in (self.model_box, apply_box, tune_box, self.progress, self.state, self.message):
            layout.addWidget(widget)
        layout.addStretch(1)
        self.progress.setVisible(False)

    def stop(self) -> None:
        """Give up what goes on, and let go of the viewer."""
        self.job.close()
        self._writing.close()
        self.scan.let_go()

    # ---- what the user does ----

    def save_model(self, path: str = "") -> None:
        """Write the model of the active scan to a file."""
        session = self.scan.session
        if session is None or session.model is None:
            return
        if not path:
            path, _ = QFileDialog.getSaveFileName(self, "Save the model", f"{session.name}.ckpt", _FILES)
        if path:
            model, file = session.model, Path(path if path.endswith(".ckpt") else f"{path}.ckpt")
            self._begin(f"Writing {file} …")
            self._writing.ask(lambda: iter([model.save(file)]), self._on_saved)

    def load_model(self, path: str = "") -> None:
        """Let the active scan have the model of a file."""
        session = self.scan.session
        if session is None or session.busy:
            return
        if not path:
            path, _ = QFileDialog.getOpenFileName(self, "Load a model", "", f"{_FILES};;All files (*)")
        if path:
            self._apply(session, Path(path))

    def apply_model(self) -> None:
        """Let another open scan have the model of the active one."""
        session, target = self.scan.session, self.target.currentData()
        if session is not None and session.model is not None and target is not None and not target.busy:
            self._apply(target, session.model)

    def fine_tune(self) -> None:
        """Train the model of the active scan on."""
        session = self.scan.session
        if session is None or session.model is None or session.busy or self.job.session is not None:
            return
        try:
            rate = float(self.learning_rate.text())
        except ValueError:
            rate = self.learning_rate.text()
        try:
            config = TrainingConfig.from_arguments(epochs=self.epochs.value(), learning_rate=rate)
        except LatentSTEMError as error:
            self._on_error(error)
            return
        self._begin("Preparing: reading the scan …")
        self.job.train(session, session.scan, config, start_from=session.model)

    def _apply(self, session: Session, model: LatentModel | Path) -> None:
        if self.job.session is None:
            self._begin(f"Computing the latents of {session.name} …")
            self.job.apply(session, model)

    # ---- what happens ----

    def _begin(self, state: str) -> None:
        self.message.setText("")
        self.state.setText(state)
        self.progress.setVisible(True)
        self.progress.setRange(0, 0)

    def _on_saved(self, path: Path) -> None:
        self.state.setText(f"Written: {path}")
        self.progress.setVisible(False)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Progress):
            self.progress.setRange(0, event.steps)
            self.progress.setValue(event.step)
            left = telling.duration(event.seconds_left)
            self.state.setText(f"Step {event.step:,} of {event.steps:,}, {left} left")
        elif isinstance(event, Finished | Stopped) and event.model is not None:
            self._begin("Computing the latent maps …")
        elif isinstance(event, Embedded):
            self.state.setText("Done.")
        elif isinstance(event, Failed):
            self._on_error(event.error)

    def _on_ended(self) -> None:
        if self.state.text() != "Done.":
            self.state.setText("")
        self.progress.setVisible(False)
        self._refresh()

    def _on_error(self, error: BaseException) -> None:
        self.message.setText(f"⚠ {message_of(error)}")
        self.state.setText("")
        self.progress.setVisible(False)

    def _refresh(self) -> None:
        """Tell about the model there is, and let the user do what can be done."""
        session = self.scan.session
        model = None if session is None else session.model
        if model is not None:
            self.about.setText(telling.about(model))
        else:
            self.about.setText(
                "Open a scan." if session is None else "This scan has no model yet: train or load one."
            )
        chosen, others = (
            self.target.currentData(),
            [other for other in self._sessions if other is not session],
        )
        self.target.clear()
        for other in others:
            self.target.addItem(other.name, other)
        self.target.setCurrentIndex(others.index(chosen) if chosen in others else 0 if others else -1)
        idle = session is not None and not session.busy and self.job.session is None
        self.load.setEnabled(idle)
        self.save.setEnabled(model is not None)
        for widget in (self.tune, self.epochs, self.learning_rate):
            widget.setEnabled(idle and model is not None)
        for widget in (self.apply, self.target):
            widget.setEnabled(idle and model is not None and bool(others))
        self.halt.setEnabled(self.job.session is not None)
