"""Dock that trains an autoencoder on a scan, and shows how it gets on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QToolButton,
    QVBoxLayout,
)

from latentstem.errors import LatentSTEMError

from . import telling
from .background import message_of
from .curves import Curves
from .dock import Dock
from .form import ConfigForm
from .forming import FormingMaps
from .job import Job
from .mask_form import MaskForm
from .scan_choice import ScanChoice
from .state import sessions_of
from .worker import Comparing, Event, Failed, Finished, Progress, Stopped, Validated, import_training

if TYPE_CHECKING:
    import napari.viewer

    from latentstem import LatentModel

__all__ = ["TrainWidget"]

_SETTLED = 500  # ms


class TrainWidget(Dock):
    """Trains on the active scan, with progress, curves and forming latent maps.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Its open scans can be trained on.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = sessions_of(viewer).viewer
        #: where the run of a model that was stopped can go on
        self._resumable: WeakKeyDictionary[LatentModel, Path] = WeakKeyDictionary()
        self._folder: Path | None = None
        self._step = 0
        self._outcome = ""
        self.job, self.forming = Job(viewer, self), FormingMaps(viewer)
        self._build()
        self.job.told.connect(self._on_event)
        self.job.ended.connect(self._on_ended)
        self._enable()
        self._importing = QTimer(self)  # once the window is there
        self._importing.setSingleShot(True)
        self._importing.timeout.connect(import_training)
        self._importing.start(_SETTLED)

    # ---- what it is made of ----

    def _build(self) -> None:
        self.scan, self.form, self.masks = ScanChoice(self._viewer), ConfigForm(), MaskForm(self._viewer)
        self.scan.changed.connect(self._enable)
        self.masks.failed.connect(self._on_error)
        self.baselines = QCheckBox("Compare with PCA and NMF at the end")
        self.baselines.setToolTip("On electrons that none has seen, with a plain verdict")
        self.baselines.setChecked(True)
        self.folder, browse = QLineEdit(), QToolButton()
        self.folder.setPlaceholderText("none: nothing is written")
        self.folder.setToolTip(
            "For TensorBoard logs and checkpoints, from which a stopped run can go on exactly"
        )
        browse.setText("…")
        browse.clicked.connect(lambda: self._choose_folder())
        self.train, self.halt, self.go_on = (QPushButton(name) for name in ("Train", "Stop", "Continue"))
        self.train.setToolTip("Train a new model on this scan")
        self.halt.setToolTip("End training; the best model so far is kept")
        self.go_on.setToolTip(
            "Train the model of this scan on: a fresh run starts from its weights, and leaves its latents and network "
            "as they are. A run that was stopped and has an output folder goes on exactly where it was (last.ckpt)"
        )
        self.train.clicked.connect(lambda: self.start())
        self.halt.clicked.connect(lambda: self.stop_training())
        self.go_on.clicked.connect(lambda: self.start(continued=True))
        self.progress, self.curves = QProgressBar(), Curves()
        self.progress.setTextVisible(False)
        self.state, self.message, self.summary = QLabel(), QLabel(), QLabel()
        for label in (self.state, self.message, self.summary):
            label.setWordWrap(True)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        top, bottom, buttons, folder = QFormLayout(), QFormLayout(), QHBoxLayout(), QHBoxLayout()
        folder.addWidget(self.folder, 1)
        folder.addWidget(browse)
        top.addRow("Scan", self.scan)
        bottom.addRow("Output folder", folder)
        for button in (self.train, self.halt, self.go_on):
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.addLayout(top)
        layout.addWidget(self.form)
        layout.addWidget(self.masks)
        layout.addLayout(bottom)
        layout.addWidget(self.baselines)
        layout.addLayout(buttons)
        for widget in (self.progress, self.state, self.message, self.curves, self.summary):
            layout.addWidget(widget)
        layout.addStretch(1)
        self.progress.setVisible(False)
        self._say("")

    def stop(self) -> None:
        """Stop training, and let go of the viewer."""
        self._importing.stop()
        self.job.close()
        self.forming.close()
        self.masks.let_go()
        self.scan.let_go()

    # ---- what the user does ----

    def start(self, *, continued: bool = False) -> None:
        """Train a new model on the active scan, or the model it has on."""
        session = self.scan.session
        if session is None or session.busy or self.job.session is not None:
            return
        model = session.model if continued else None
        last = None if model is None else self._resumable.get(model)
        try:
            if last is not None:
                config = self.form.config_to_resume()
            else:
                config = self.form.config() if model is None else self.form.config_to_train_on()
            scan = self.masks.masked(session)
        except LatentSTEMError as error:
            self._on_error(error)
            return
        folder = self.folder.text().strip()
        self._folder = Path(folder).expanduser() if folder else None
        self._resumable.clear()  # the run writes to the folder anew
        self._step, self._outcome = 0, ""
        self.curves.clear()
        self._say("")
        self.summary.setText("")
        auto = config.latent_dim == "auto"
        self._work("Preparing: trying numbers of latents …" if auto else "Preparing: reading the scan …")
        self.job.train(
            session,
            scan,
            config,
            start_from=model if last is None else last,
            output_dir=self._folder,
            baselines=self.baselines.isChecked(),
        )
        self._show_curves()

    def _show_curves(self) -> None:
        """Scroll to where the progress is, in a small window."""
        parent = self.parentWidget()
        while parent is not None and not isinstance(parent, QScrollArea):
            parent = parent.parentWidget()
        if parent is not None:
            parent.ensureWidgetVisible(self.curves)

    def stop_training(self) -> None:
        """End the run with the best model so far."""
        self.job.stop()
        self._work("Stopping …")

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder for logs and checkpoints", self.folder.text())
        if folder:
            self.folder.setText(folder)

    # ---- what happens ----

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._on_progress(event)
        elif isinstance(event, Validated):
            seen = event.history["patterns_seen"]
            steps = [self._step * patterns / seen[-1] for patterns in seen]
            self.curves.set_history(steps, event.history["train/loss"], event.history["val/loss"])
            self.forming.show(self.job.session, event.latent_maps)
        elif isinstance(event, Comparing):
            self._work("Comparing with PCA and NMF …")
        elif isinstance(event, Finished | Stopped):
            self._on_model(event)
        elif isinstance(event, Failed):
            self._on_error(event.error)

    def _on_progress(self, event: Progress) -> None:
        self._step = event.step
        self.curves.add_step(event.step, event.steps, event.train_loss)
        if not self.job.stopping:
            self.progress.setRange(0, event.steps)
            self.progress.setValue(event.step)
            left = telling.duration(event.seconds_left)
            self.state.setText(f"Step {event.step:,} of {event.steps:,}, {left} left")

    def _on_model(self, event: Finished | Stopped) -> None:
        if event.model is None:
            self._outcome = "Stopped before the first step: there is no new model."
            return
        stopped = isinstance(event, Stopped)
        self._outcome = "Stopped: this is the best model so far." if stopped else "Done."
        self.summary.setText(telling.summary(event.model))
        self._work(f"{self._outcome} Computing its latent maps …")
        last = None if self._folder is None else self._folder / "checkpoints" / "last.ckpt"
        if stopped and last is not None and last.is_file():
            self._resumable[event.model] = last

    def _on_ended(self) -> None:
        self.forming.clear()
        self.progress.setVisible(False)
        self.state.setText(self._outcome)
        self._enable()

    def _on_error(self, error: BaseException) -> None:
        self._say(f"⚠ {message_of(error)}")

    def _say(self, message: str) -> None:
        self.message.setText(message)
        self.message.setVisible(bool(message))

    def _work(self, state: str) -> None:
        """Say what is going on, where there is no telling how long."""
        self.progress.setVisible(True)
        self.progress.setRange(0, 0)
        self.state.setText(state)

    def _enable(self) -> None:
        """Let the user do what can be done."""
        session, running = self.scan.session, self.job.session
        idle = session is not None and not session.busy and running is None
        self.train.setEnabled(idle)
        self.go_on.setEnabled(idle and session is not None and session.model is not None)
        self.halt.setEnabled(running is not None)
        for widget in (self.form, self.masks, self.baselines, self.folder):
            widget.setEnabled(running is None)
