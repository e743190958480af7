"""Dock with the latent maps of the active scan: list, stack, and RGB composite of three."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QFileDialog,
    QGridLayout,
    QGroupBox,
    QLabel,
    QListWidgetItem,
    QSpinBox,
)

from latentstem.inference.smoothing import MAX_RADIUS
from latentstem.io.output_files import latent_suffixes, pattern_suffixes
from latentstem.scan.virtual_images import VIRTUAL_IMAGES

from ..layers.latent_layers import set_latent_contrast, show_composite, show_embedding, shown_latent
from ..layers.scan_layers import bring_to_front, layer_of, show_virtual_image
from ..layers.writer import export_latents, export_reconstructions
from ..model.session import Session
from .building_blocks import combo_box, horizontal, push_button, vertical
from .dock import Note, ScanDock
from .latent_map_list import LatentMapList, latent_importance
from .latest_task_worker import LatestTaskWorker, error_message

if TYPE_CHECKING:
    from latentstem import Embedding

__all__ = ["MapsWidget"]

_CHANNELS = ("Red", "Green", "Blue")


class MapsWidget(ScanDock):
    """The latent maps, in the order of their importance; see `Dock`."""

    def _build(self) -> None:
        self._workers = [LatestTaskWorker(self, self._on_error) for _ in range(3)]
        self._rank_worker, self._smooth_worker, self._write_worker = self._workers
        self._viewer.dims.events.current_step.connect(self._on_step)
        self.image = combo_box(
            VIRTUAL_IMAGES, "Show a virtual image: of the whole detector, of the direct beam, or of the rest"
        )
        self.image.activated.connect(lambda _: self._show_virtual_image())
        self.list = LatentMapList()
        self.list.currentItemChanged.connect(self._on_item)
        self.clip = QDoubleSpinBox(value=0.5, minimum=0, maximum=20, singleStep=0.5, decimals=1, suffix=" %")
        self.clip.setToolTip("Percentage of scan positions that are saturated at each end of the contrast")
        self.clip.valueChanged.connect(self._on_clip)
        self.smooth = QSpinBox(minimum=0, maximum=MAX_RADIUS)
        self.smooth.setSpecialValueText("not")
        self.smooth.setToolTip(
            "Radius, in scan positions, within which latents of similar neighbours are averaged"
        )
        self.smooth.valueChanged.connect(self._on_smooth)
        self.channels = [combo_box([], "Latent shown in this colour") for _ in _CHANNELS]
        for channel in self.channels:
            channel.setMinimumWidth(70)
            channel.activated.connect(lambda _: self._show_composite())
        self.show_composite = push_button(
            "Show composite", "Show three latents as red, green and blue in one image", self._show_composite
        )
        self.save_latents = push_button(
            "Latents …",
            "Save the latent maps with the calibration of the scan",
            lambda: self._save("latents", export_latents, latent_suffixes()),
        )
        self.save_patterns = push_button(
            "Reconstructions …",
            "Save the reconstructed patterns",
            lambda: self._save("reconstructions", export_reconstructions, pattern_suffixes()),
        )
        self.message, self.ranked_by = Note(), Note()
        self.maps_box, rgb_box, save_box = QGroupBox("Latent maps"), QGroupBox("Composite"), QGroupBox("Save")
        top = horizontal(QLabel("Virtual image"), self.image, stretch=self.image)
        contrast = horizontal(QLabel("Saturated at each end"), self.clip, stretch=self.clip)
        contrast.addWidget(QLabel("Smoothed"))
        contrast.addWidget(self.smooth, 1)
        vertical(self.maps_box, self.ranked_by, self.list, contrast, stretch=self.list)
        rgb = QGridLayout(rgb_box)
        for n, (name, channel) in enumerate(zip(_CHANNELS, self.channels, strict=True)):
            rgb.addWidget(QLabel(name), 0, n)
            rgb.addWidget(channel, 1, n)
        rgb.addWidget(self.show_composite, 2, 0, 1, 3)
        save_box.setLayout(horizontal(self.save_latents, self.save_patterns))
        vertical(self, top, self.maps_box, rgb_box, save_box, self.message, stretch=self.maps_box)
        self._latent_widgets = (self.maps_box, rgb_box, self.save_latents)

    def stop(self) -> None:
        """Stop all tasks, and disconnect from the viewer."""
        super().stop()
        self._viewer.dims.events.current_step.disconnect(self._on_step)
        for worker in self._workers:
            worker.close()

    # the session

    def _callbacks(self) -> dict[str, Callable[..., Any]]:
        return {"embedding": self._on_embedding, "model": self._enable}

    def _on_session(self) -> None:
        self._refresh()

    def _enable(self, *_: Any) -> None:
        session = self._session
        self.image.setEnabled(session is not None)
        for widget in self._latent_widgets:
            widget.setEnabled(session is not None and session.embedding is not None)
        self.save_patterns.setEnabled(session is not None and session.model is not None)

    def _on_embedding(self, *_: Any) -> None:
        if self._session is not None and self._session.embedding is not None:
            show_embedding(self._viewer, self._session)
        self._refresh(is_new=True)

    def _refresh(self, is_new: bool = False) -> None:
        """List the latents of the active scan."""
        session = self._session
        self._enable()
        self._rank_worker.cancel()
        if session is None or session.embedding is None:
            self.list.clear()
            self.ranked_by.clear()
            for channel in self.channels:
                channel.clear()
            self.message.setText(
                "Open a scan." if session is None else "No latents yet: train or load a model."
            )
            return
        self.message.setText("")
        embedding, model = session.embedding, session.model
        self.smooth.blockSignals(True)
        self.smooth.setValue(embedding.provenance.get("smooth", 0))
        self.smooth.blockSignals(False)
        self.smooth.setEnabled(embedding.unsmoothed is not None)
        if model is not None and int(model.config.latent_dim) != embedding.latent_dim:
            model = None
        self._rank_worker.submit(
            lambda: latent_importance(model, embedding),
            lambda importance: self._show_maps(embedding, is_new, *importance),
        )

    def _show_maps(self, embedding: Embedding, is_new: bool, shares: np.ndarray, share_of: str) -> None:
        same_number = self.list.count() == len(shares)
        self.ranked_by.setText(f"Sorted by the share of each latent {share_of}")
        order = self.list.show_maps(embedding.maps, shares, share_of)
        for n, channel in enumerate(self.channels):
            selected = channel.currentData()
            channel.clear()
            for latent in order:
                channel.addItem(str(latent), latent)
            keep = same_number and selected is not None and self._composite_is_shown()
            channel.setCurrentIndex(channel.findData(selected) if keep else min(n, len(order) - 1))
        if is_new and self._composite_is_shown():
            self._show_composite(to_front=False)
        self._on_step()

    # actions of the user

    def _show_virtual_image(self) -> None:
        if self._session is not None:
            show_virtual_image(self._viewer, self._session, self.image.currentText())

    def _on_item(self, item: QListWidgetItem | None) -> None:
        """Show the latent that was clicked."""
        if item is None or self._session is None or self._session.embedding is None:
            return
        bring_to_front(self._viewer, show_embedding(self._viewer, self._session))
        self._viewer.dims.set_current_step(self._viewer.dims.ndim - 3, item.data(Qt.ItemDataRole.UserRole))
        self._set_contrast()

    def _on_step(self, *_: Any) -> None:
        """Another latent is shown: select it in the list, and set its contrast."""
        embedding = None if self._session is None else self._session.embedding
        if embedding is not None and self._viewer.dims.ndim >= 3:
            self.list.select_latent(shown_latent(self._viewer, embedding.latent_dim))
        self._set_contrast()

    def _set_contrast(self) -> None:
        session = self._session
        if session is not None and session.embedding is not None and self._viewer.dims.ndim >= 3:
            set_latent_contrast(self._viewer, session, self.clip.value())

    def _on_clip(self, _: float) -> None:
        self._set_contrast()
        if self._composite_is_shown():
            self._show_composite()

    def _on_smooth(self, radius: int) -> None:
        session = self._session
        if session is not None and session.embedding is not None:
            previous = session.embedding

            def on_smoothed(embedding: Embedding) -> None:
                if session.embedding is previous:  # unless it has been replaced meanwhile
                    session.embedding = embedding

            self._smooth_worker.submit(lambda: iter([previous.smoothed(radius)]), on_smoothed)

    def _composite_is_shown(self) -> bool:
        return self._session is not None and layer_of(self._viewer, self._session, "RGB") is not None

    def _show_composite(self, to_front: bool = True) -> None:
        red, green, blue = (channel.currentData() for channel in self.channels)
        if self._session is not None and None not in (red, green, blue):
            layer = show_composite(self._viewer, self._session, (red, green, blue), self.clip.value())
            if to_front:
                bring_to_front(self._viewer, layer)

    def _save(
        self, content: str, export: Callable[[Session, str], Path], formats: dict[str, str], path: str = ""
    ) -> None:
        session = self._session
        if session is None:
            return
        if not path:
            filters = ";;".join(f"{library} (*{suffix})" for suffix, library in formats.items())
            suggestion = f"{session.name} {content}{next(iter(formats))}"
            path, _ = QFileDialog.getSaveFileName(self, f"Save {content}", suggestion, filters)
        if path:
            self.message.setText(f"Writing {path} …")
            self._write_worker.submit(
                lambda: iter([export(session, path)]),
                lambda written: self.message.setText(f"Written: {written}"),
            )

    def _on_error(self, error: Exception) -> None:
        self.message.setText(error_message(error))
