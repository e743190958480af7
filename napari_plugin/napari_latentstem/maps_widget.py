"""Dock with the latent maps of the active scan: ranked, as a stack, and three of them as one picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from latentstem.scan.scan.virtual_images import VIRTUAL_IMAGES
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QIcon, QPixmap
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QListView,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
)

from latentstem.inference.latent_importance import carried, spread
from latentstem.inference.smoothing import MAX_SMOOTH

from . import layers, writer
from .background import Latest, message_of
from .dock import Dock, Note
from .picture_widget import colours, to_image
from .state import Session, sessions_of

if TYPE_CHECKING:
    import napari.viewer

    from latentstem import Embedding, LatentModel

__all__ = ["MapsWidget"]

_THUMBNAIL = 64  # pixels
_CHANNELS = ("Red", "Green", "Blue")


class MapsWidget(Dock):
    """The latent maps, ranked by how much each carries.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Its active scan is shown.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._sessions = sessions_of(viewer)
        self._viewer = self._sessions.viewer
        self._session: Session | None = None
        self._ranking, self._smoothing, self._writing = (Latest(self, self._failed) for _ in range(3))
        self._build()
        self._sessions.active_changed.connect(self._follow)
        self._viewer.dims.events.current_step.connect(self._on_step)
        self._follow(self._sessions.active)

    # ---- what it is made of ----

    def _build(self) -> None:
        self.image = QComboBox()
        self.image.addItems(VIRTUAL_IMAGES)
        self.image.setToolTip(
            "Bring a virtual image to the front: of the whole detector, of the direct beam, or of all but that"
        )
        self.image.activated.connect(lambda _: self._show_virtual_image())
        self.list = QListWidget()
        self.list.setViewMode(QListView.ViewMode.IconMode)
        self.list.setMovement(QListView.Movement.Static)
        self.list.setResizeMode(QListView.ResizeMode.Adjust)
        self.list.setIconSize(QSize(_THUMBNAIL, _THUMBNAIL))
        self.list.setSpacing(4)
        self.list.setMinimumHeight(110)
        self.list.currentItemChanged.connect(self._on_chosen)
        self.clip = QDoubleSpinBox(value=0.5, minimum=0, maximum=20, singleStep=0.5, decimals=1, suffix=" %")
        self.clip.setToolTip("Percent of the scan positions that saturate at each end of the contrast")
        self.clip.valueChanged.connect(self._on_clip)
        self.smooth = QSpinBox(minimum=0, maximum=MAX_SMOOTH, specialValueText="not")
        self.smooth.setToolTip(
            "Radius, in scan positions, over which latents are smoothed where neighbours are alike"
        )
        self.smooth.valueChanged.connect(self._on_smooth)
        self.channels = [QComboBox() for _ in _CHANNELS]
        for channel in self.channels:
            channel.setToolTip("Which latent has this colour")
            channel.setMinimumWidth(70)
            channel.activated.connect(lambda _: self._show_composite())
        self.show_composite = QPushButton("Show composite")
        self.show_composite.setToolTip("Three latents as red, green and blue in one picture")
        self.show_composite.clicked.connect(lambda: self._show_composite())
        self.save_latents, self.save_patterns = QPushButton("Latents …"), QPushButton("Reconstructions …")
        self.save_latents.clicked.connect(
            lambda: self._save("latents", writer.export_latents, writer.LATENT_FILES)
        )
        self.save_patterns.clicked.connect(
            lambda: self._save("reconstructions", writer.export_reconstructions, writer.PATTERN_FILES)
        )
        self.message, self.ranked_by = Note(), Note()
        self.maps_box, rgb_box, save_box = QGroupBox("Latent maps"), QGroupBox("Composite"), QGroupBox("Save")
        top, contrast = QHBoxLayout(), QHBoxLayout()
        top.addWidget(QLabel("Virtual image"))
        top.addWidget(self.image, 1)
        contrast.addWidget(QLabel("Saturated at each end"))
        contrast.addWidget(self.clip, 1)
        contrast.addWidget(QLabel("Smoothed"))
        contrast.addWidget(self.smooth, 1)
        maps = QVBoxLayout(self.maps_box)
        maps.addWidget(self.ranked_by)
        maps.addWidget(self.list, 1)
        maps.addLayout(contrast)
        rgb = QGridLayout(rgb_box)
        for n, (name, channel) in enumerate(zip(_CHANNELS, self.channels, strict=True)):
            rgb.addWidget(QLabel(name), 0, n)
            rgb.addWidget(channel, 1, n)
        rgb.addWidget(self.show_composite, 2, 0, 1, 3)
        save = QHBoxLayout(save_box)
        save.addWidget(self.save_latents)
        save.addWidget(self.save_patterns)
        layout = QVBoxLayout(self)
        layout.addLayout(top)
        layout.addWidget(self.maps_box, 1)
        layout.addWidget(rgb_box)
        layout.addWidget(save_box)
        layout.addWidget(self.message)
        self._of_latents = (self.maps_box, rgb_box, self.save_latents)

    def stop(self) -> None:
        """Let go of the viewer."""
        self._follow(None)
        self._sessions.active_changed.disconnect(self._follow)
        self._viewer.dims.events.current_step.disconnect(self._on_step)
        self._ranking.close()
        self._smoothing.close()
        self._writing.close()

    # ---- what is shown ----

    def _follow(self, session: Session | None) -> None:
        if self._session is not None:
            self._session.events.embedding.disconnect(self._on_embedding)
            self._session.events.model.disconnect(self._enable)
        self._session = session
        if session is not None:
            session.events.embedding.connect(self._on_embedding)
            session.events.model.connect(self._enable)
        self._refresh()

    def _enable(self, *_: Any) -> None:
        session = self._session
        self.image.setEnabled(session is not None)
        for widget in self._of_latents:
            widget.setEnabled(session is not None and session.embedding is not None)
        self.save_patterns.setEnabled(session is not None and session.model is not None)

    def _on_embedding(self, *_: Any) -> None:
        if self._session.embedding is not None:
            layers.show_embedding(self._viewer, self._session)
        self._refresh(renewed=True)

    def _refresh(self, renewed: bool = False) -> None:
        """List the latents of the active scan, and rank them."""
        session = self._session
        self._enable()
        self._ranking.cancel()
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
        self.smooth.setEnabled(embedding.own is not None)
        if model is not None and int(model.config.latent_dim) != embedding.latent_dim:
            model = None
        self._ranking.ask(
            lambda: _ranked(model, embedding), lambda ranked: self._fill(embedding, renewed, *ranked)
        )

    def _fill(self, embedding: Embedding, renewed: bool, shares: np.ndarray, of_what: str) -> None:
        """List the latents in the order of what they carry."""
        order = np.argsort(-shares, kind="stable")
        changed = self.list.count() != len(order)
        self.ranked_by.setText(f"Ranked by the share of each {of_what}")
        self.list.blockSignals(True)
        self.list.clear()
        for latent in order:
            item = QListWidgetItem(
                _thumbnail(embedding.maps[..., latent]), f"{latent}: {100 * shares[latent]:.0f} %"
            )
            item.setData(Qt.ItemDataRole.UserRole, int(latent))
            item.setToolTip(f"Latent {latent}: {100 * shares[latent]:.1f} % {of_what}")
            item.setTextAlignment(Qt.AlignmentFlag.AlignHCenter)
            self.list.addItem(item)
        self.list.blockSignals(False)
        for n, channel in enumerate(self.channels):
            chosen = channel.currentData()
            channel.clear()
            for latent in order:
                channel.addItem(str(latent), int(latent))
            keep = not changed and chosen is not None and self._composite_is_shown()
            channel.setCurrentIndex(channel.findData(chosen) if keep else min(n, len(order) - 1))
        if renewed and self._composite_is_shown():  # it is of the latents before
            self._show_composite(front=False)
        self._on_step()

    # ---- what the user does ----

    def _show_virtual_image(self) -> None:
        if self._session is not None:
            layers.show_virtual_image(self._viewer, self._session, self.image.currentText())

    def _on_chosen(self, item: QListWidgetItem | None) -> None:
        """Show the latent that was clicked."""
        if item is None or self._session is None or self._session.embedding is None:
            return
        layer = layers.show_embedding(self._viewer, self._session)
        layers.bring_to_front(self._viewer, layer)
        self._viewer.dims.set_current_step(self._viewer.dims.ndim - 3, item.data(Qt.ItemDataRole.UserRole))
        self._set_contrast()

    def _on_step(self, *_: Any) -> None:
        """Mark the latent that is shown, and give it its own contrast."""
        latent = self._shown_latent()
        for row in range(self.list.count()):
            if self.list.item(row).data(Qt.ItemDataRole.UserRole) == latent:
                self.list.blockSignals(True)
                self.list.setCurrentRow(row)
                self.list.blockSignals(False)
        self._set_contrast()

    def _shown_latent(self) -> int | None:
        if self._session is None or self._session.embedding is None or self._viewer.dims.ndim < 3:
            return None
        return layers.shown_latent(self._viewer, self._session)

    def _set_contrast(self) -> None:
        latent = self._shown_latent()
        layer = None if latent is None else layers.layer_of(self._viewer, self._session, "latents")
        if layer is not None:
            layer.contrast_limits = layers.robust_limits(layer.data[latent], self.clip.value())

    def _on_clip(self, _: float) -> None:
        self._set_contrast()
        if self._composite_is_shown():
            self._show_composite()

    def _on_smooth(self, radius: int) -> None:
        session = self._session
        if session is not None and session.embedding is not None:
            before = session.embedding

            def put(embedding: Embedding) -> None:
                if session.embedding is before:  # not one of another model
                    session.embedding = embedding

            self._smoothing.ask(lambda: iter([before.smoothed(radius)]), put)

    def _composite_is_shown(self) -> bool:
        return self._session is not None and layers.layer_of(self._viewer, self._session, "RGB") is not None

    def _show_composite(self, front: bool = True) -> None:
        chosen = tuple(channel.currentData() for channel in self.channels)
        if self._session is not None and None not in chosen:
            layer = layers.show_composite(self._viewer, self._session, chosen, self.clip.value())
            if front:
                layers.bring_to_front(self._viewer, layer)

    def _save(
        self, what: str, export: Callable[[Session, str], Path], kinds: dict[str, str], path: str = ""
    ) -> None:
        session = self._session
        if session is None:
            return
        if not path:
            suffixes = ";;".join(f"{library} (*{suffix})" for suffix, library in kinds.items())
            suggestion = f"{session.name} {what}{next(iter(kinds))}"
            path, _ = QFileDialog.getSaveFileName(self, f"Save {what}", suggestion, suffixes)
        if path:
            self.message.setText(f"Writing {path} …")
            self._writing.ask(lambda: iter([export(session, path)]), self._on_written)

    def _on_written(self, path: Path) -> None:
        self.message.setText(f"Written: {path}")

    def _failed(self, error: Exception) -> None:
        self.message.setText(message_of(error))


def _ranked(model: LatentModel | None, embedding: Embedding) -> Iterator[tuple[np.ndarray, str]]:
    """Shares of the latents, and in what: at once, and by what the model draws where there is one."""
    yield spread(embedding), "in the variance of all"
    if model is not None:
        yield carried(model, embedding), "in what tells the decoded patterns apart"


def _thumbnail(image: np.ndarray) -> QIcon:
    """A latent map in small."""
    step = max(1, -(-max(image.shape) // (2 * _THUMBNAIL)))
    image = image[::step, ::step]
    low, high = layers.robust_limits(image)
    picture = to_image(colours(np.clip((image - low) / (high - low), 0, 1), "viridis"))
    pixels = QPixmap.fromImage(picture).scaled(
        _THUMBNAIL, _THUMBNAIL, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.FastTransformation
    )
    icon = QIcon(pixels)
    icon.addPixmap(pixels, QIcon.Mode.Selected)  # the colours stay as they are
    return icon
