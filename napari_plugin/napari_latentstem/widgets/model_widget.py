"""Dock that saves, loads, applies and fine-tunes models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QFormLayout, QGroupBox, QLineEdit, QSpinBox

from latentstem import TrainingConfig
from latentstem.errors import LatentSTEMError

from ..model.events import Embedded, Event, Failed, Finished, Progress, Stopped
from ..model.model_text import describe_model
from ..model.session import Session
from .building_blocks import combo_box, horizontal, push_button, vertical
from .dock import TextLabel
from .field_editors import editor_value
from .job_dock import JobDock
from .latest_task_worker import LatestTaskWorker

if TYPE_CHECKING:
    from latentstem import LatentModel

__all__ = ["ModelWidget"]

_FILES = "Models (*.ckpt)"


class ModelWidget(JobDock):
    """The model of the active scan: saves and loads it, applies it to another scan, or fine-tunes it; see `Dock`."""

    def _build_form(self) -> None:
        self._save_worker = LatestTaskWorker(self, self._on_error)
        self._embedded = False  # whether the last job has computed latents
        self.about = TextLabel()
        self.save = push_button(
            "Save …",
            "A .ckpt file, which latentstem.load reads in Python; it contains no data",
            self.save_model,
        )
        self.load = push_button(
            "Load …", "Load a .ckpt file of latentstem, and compute the latents of this scan", self.load_model
        )
        self.target = combo_box([], "Another open scan, with patterns of the same shape")
        self.apply = push_button(
            "Apply", "Compute the latents of that scan with this model", self.apply_model
        )
        self.epochs, self.learning_rate = QSpinBox(), QLineEdit("1e-4")
        self.epochs.setRange(1, 100_000)
        self.epochs.setValue(20)
        self.epochs.setToolTip("Passes over the scan")
        self.learning_rate.setToolTip("Lower than in training, so that the model changes little")
        self.fine_tune_button = push_button(
            "Fine-tune",
            "Continue training this model on this scan; the file of the model is not changed",
            self.fine_tune,
        )
        self.stop_button = push_button(
            "Stop",
            "End fine-tuning with the best model so far, or cancel the computation of latents",
            self.job.stop,
        )
        model_box, apply_box, tune_box = (
            QGroupBox(title) for title in ("Model", "Apply to another scan", "Fine-tune on this scan")
        )
        vertical(model_box, self.about, horizontal(self.save, self.load))
        apply_box.setLayout(horizontal(self.target, self.apply, stretch=self.target))
        top, tuning = QFormLayout(), QFormLayout(tune_box)
        top.addRow("Scan", self.scan)
        tuning.addRow("Epochs", self.epochs)
        tuning.addRow("Learning rate", self.learning_rate)
        tuning.addRow(horizontal(self.fine_tune_button, self.stop_button))
        boxes = (model_box, apply_box, tune_box)
        vertical(self, top, *boxes, self.progress, self.state, self.message).addStretch(1)

    def stop(self) -> None:
        """Cancel the job, and disconnect from the viewer."""
        super().stop()
        self._save_worker.close()

    # actions of the user

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
            self._save_worker.submit(lambda: iter([model.save(file)]), self._on_saved)

    def load_model(self, path: str = "") -> None:
        """Load a model for the active scan."""
        session = self.scan.session
        if session is None or session.busy:
            return
        if not path:
            path, _ = QFileDialog.getOpenFileName(self, "Load a model", "", f"{_FILES};;All files (*)")
        if path:
            self._apply(session, Path(path))

    def apply_model(self) -> None:
        """Apply the model of the active scan to another open scan."""
        session, target = self.scan.session, self.target.currentData()
        if session is not None and session.model is not None and target is not None and not target.busy:
            self._apply(target, session.model)

    def fine_tune(self) -> None:
        """Continue training the model of the active scan on that scan."""
        session = self.scan.session
        if session is None or session.model is None or session.busy or self.job.session is not None:
            return
        try:
            config = TrainingConfig.from_arguments(
                epochs=self.epochs.value(), learning_rate=editor_value(self.learning_rate)
            )
        except LatentSTEMError as error:
            self._on_error(error)
            return
        self._begin("Preparing: reading the scan …")
        self.job.train(session, session.scan, config, start_from=session.model)

    def _apply(self, session: Session, model: LatentModel | Path) -> None:
        if self.job.session is None:
            self._begin(f"Computing the latents of {session.name} …")
            self.job.apply(session, model)

    # events of the job

    def _begin(self, state: str) -> None:
        self._embedded = False
        self.message.setText("")
        self._show_busy(state)

    def _on_saved(self, path: Path) -> None:
        self.state.setText(f"Written: {path}")
        self.progress.setVisible(False)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._show_progress(event)
        elif isinstance(event, Finished | Stopped) and event.model is not None:
            self._begin("Computing the latent maps …")
        elif isinstance(event, Embedded):
            self._embedded = True
            self.state.setText("Done.")
        elif isinstance(event, Failed):
            self._on_error(event.error)

    def _on_ended(self) -> None:
        if not self._embedded:
            self.state.setText("")
        super()._on_ended()

    def _on_error(self, error: BaseException) -> None:
        super()._on_error(error)
        self.state.setText("")
        self.progress.setVisible(False)

    def _refresh(self) -> None:
        session = self.scan.session
        model = None if session is None else session.model
        if model is not None:
            self.about.setText(describe_model(model))
        else:
            self.about.setText(
                "Open a scan." if session is None else "This scan has no model yet: train or load one."
            )
        selected = self.target.currentData()
        others = [other for other in self._sessions if other is not session]
        self.target.clear()
        for other in others:
            self.target.addItem(other.name, other)
        self.target.setCurrentIndex(others.index(selected) if selected in others else 0 if others else -1)
        idle = session is not None and not session.busy and self.job.session is None
        can_train, can_apply = idle and model is not None, idle and model is not None and bool(others)
        self.load.setEnabled(idle)
        self.save.setEnabled(model is not None)
        self.fine_tune_button.setEnabled(can_train)
        self.epochs.setEnabled(can_train)
        self.learning_rate.setEnabled(can_train)
        self.apply.setEnabled(can_apply)
        self.target.setEnabled(can_apply)
        self.stop_button.setEnabled(self.job.session is not None)
