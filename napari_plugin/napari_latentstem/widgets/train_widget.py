"""Dock that trains an autoencoder, and shows the progress."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from qtpy.QtWidgets import QCheckBox, QFileDialog, QFormLayout, QLineEdit, QScrollArea, QToolButton

from latentstem.errors import LatentSTEMError

from ..layers.live_latents import LiveLatents
from ..model.events import Comparing, Event, Failed, Finished, Progress, Stopped, Validated
from ..model.model_text import training_summary
from ..model.training_run import import_training
from .building_blocks import horizontal, push_button, single_shot_timer, vertical
from .config_form import ConfigForm
from .dock import TextLabel
from .job_dock import JobDock
from .loss_curves import LossCurves
from .mask_form import MaskForm

if TYPE_CHECKING:
    from latentstem import LatentModel

__all__ = ["TrainWidget"]

_IMPORT_DELAY = 500  # ms after which the import of torch starts, so that the window is shown first


class TrainWidget(JobDock):
    """Trains on the active scan, with progress, loss curves and live latent maps; see `Dock`."""

    def _build_form(self) -> None:
        #: ``last.ckpt`` of the run of a model that was stopped
        self._resumable: WeakKeyDictionary[LatentModel, Path] = WeakKeyDictionary()
        self._folder: Path | None = None
        self._step = 0
        self._outcome = ""
        self.live_latents, self.loss_curves = LiveLatents(self._viewer), LossCurves()
        self.form, self.masks = ConfigForm(), MaskForm(self._viewer)
        self.masks.failed.connect(self._on_error)
        self.baselines = QCheckBox("Compare with PCA and NMF at the end")
        self.baselines.setToolTip("On held-out electrons; the result is summarised in a sentence")
        self.baselines.setChecked(True)
        self.folder, browse = QLineEdit(), QToolButton()
        self.folder.setPlaceholderText("none: no files are written")
        self.folder.setToolTip(
            "For TensorBoard logs and checkpoints, from which a stopped run can be resumed"
        )
        browse.setText("…")
        browse.clicked.connect(lambda: self._select_folder())
        self.train = push_button("Train", "Train a new model on this scan", self.start)
        self.stop_button = push_button(
            "Stop", "End training, and keep the best model so far", self.stop_training
        )
        self.continue_button = push_button(
            "Continue",
            "Continue training of this scan's model. A new run starts from its weights, with the same number of latents "
            "and the same network. A stopped run with an output folder is resumed exactly (last.ckpt)",
            lambda: self.start(continued=True),
        )
        self.summary = TextLabel()
        top, bottom = QFormLayout(), QFormLayout()
        top.addRow("Scan", self.scan)
        bottom.addRow("Output folder", horizontal(self.folder, browse, stretch=self.folder))
        buttons = horizontal(self.train, self.stop_button, self.continue_button)
        vertical(
            self, top, self.form, self.masks, bottom, self.baselines, buttons, self.progress, self.state, self.message,
            self.loss_curves, self.summary,
        ).addStretch(1)  # fmt: skip
        self._import_timer = single_shot_timer(self, _IMPORT_DELAY, import_training)
        self._import_timer.start()

    def stop(self) -> None:
        """Stop training, and disconnect from the viewer."""
        self._import_timer.stop()
        super().stop()
        self.live_latents.close()
        self.masks.detach()

    # actions of the user

    def start(self, *, continued: bool = False) -> None:
        """Train a new model on the active scan, or continue training its model."""
        session = self.scan.session
        if session is None or session.busy or self.job.session is not None:
            return
        model = session.model if continued else None
        checkpoint = None if model is None else self._resumable.get(model)
        try:
            if checkpoint is not None:
                config = self.form.config_to_resume()
            else:
                config = self.form.config() if model is None else self.form.config_for_fine_tuning()
            scan = self.masks.scan_with_masks(session)
        except LatentSTEMError as error:
            self._on_error(error)
            return
        folder = self.folder.text().strip()
        self._folder = Path(folder).expanduser() if folder else None
        self._resumable.clear()  # the run overwrites the checkpoints in the folder
        self._step, self._outcome = 0, ""
        self.loss_curves.clear()
        self.message.setText("")
        self.summary.setText("")
        searching = config.latent_dim == "auto"
        self._show_busy(
            f"Preparing: {'searching for the number of latents' if searching else 'reading the scan'} …"
        )
        self.job.train(
            session,
            scan,
            config,
            start_from=model if checkpoint is None else checkpoint,
            output_dir=self._folder,
            baselines=self.baselines.isChecked(),
        )
        self._scroll_to_curves()

    def stop_training(self) -> None:
        """End the run with the best model so far."""
        self.job.stop()
        self._show_busy("Stopping …")

    def _scroll_to_curves(self) -> None:
        parent = self.parentWidget()
        while parent is not None and not isinstance(parent, QScrollArea):
            parent = parent.parentWidget()
        if parent is not None:
            parent.ensureWidgetVisible(self.loss_curves)

    def _select_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder for logs and checkpoints", self.folder.text())
        if folder:
            self.folder.setText(folder)

    # events of the job

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._step = event.step
            self.loss_curves.add_step(event.step, event.steps, event.train_loss)
            if not self.job.stopping:
                self._show_progress(event)
        elif isinstance(event, Validated):
            patterns_seen = event.history["patterns_seen"]
            steps = [self._step * patterns / patterns_seen[-1] for patterns in patterns_seen]
            self.loss_curves.set_history(steps, event.history["train/loss"], event.history["val/loss"])
            if self.job.session is not None:
                self.live_latents.show(self.job.session, event.latent_maps)
        elif isinstance(event, Comparing):
            self._show_busy("Comparing with PCA and NMF …")
        elif isinstance(event, Finished | Stopped):
            self._on_model(event)
        elif isinstance(event, Failed):
            self._on_error(event.error)

    def _on_model(self, event: Finished | Stopped) -> None:
        if event.model is None:
            self._outcome = "Stopped before the first step: there is no new model."
            return
        stopped = isinstance(event, Stopped)
        self._outcome = "Stopped: this is the best model so far." if stopped else "Done."
        self.summary.setText(training_summary(event.model))
        self._show_busy(f"{self._outcome} Computing its latent maps …")
        checkpoint = None if self._folder is None else self._folder / "checkpoints" / "last.ckpt"
        if stopped and checkpoint is not None and checkpoint.is_file():
            self._resumable[event.model] = checkpoint

    def _on_ended(self) -> None:
        self.live_latents.clear()
        self.state.setText(self._outcome)
        super()._on_ended()

    def _refresh(self) -> None:
        session, running = self.scan.session, self.job.session is not None
        idle = session is not None and not session.busy and not running
        self.train.setEnabled(idle)
        self.continue_button.setEnabled(idle and session is not None and session.model is not None)
        self.stop_button.setEnabled(running)
        for widget in (self.form, self.masks, self.baselines, self.folder):
            widget.setEnabled(not running)
