"""List of latent maps as thumbnails, in the order of their importance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QIcon, QPixmap
from qtpy.QtWidgets import QListView, QListWidget, QListWidgetItem

from latentstem.inference.latent_importance import by_decoding, by_variance

from ..model.map_contrast import robust_limits
from ..model.pattern_display import apply_colormap, normalise
from .picture import to_qimage

if TYPE_CHECKING:
    from latentstem import Embedding, LatentModel

__all__ = ["LatentMapList", "latent_importance"]

_THUMBNAIL = 64  # pixels of its longer side


def latent_importance(model: LatentModel | None, embedding: Embedding) -> Iterator[tuple[np.ndarray, str]]:
    """Share of each latent, and what it is a share of: first of the variance, then of the model's decoded patterns."""
    yield by_variance(embedding), "in the variance of all latents"
    if model is not None:
        yield by_decoding(model, embedding), "in the differences between decoded patterns"


class LatentMapList(QListWidget):
    """Thumbnails of the latent maps."""

    def __init__(self) -> None:
        super().__init__()
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setMovement(QListView.Movement.Static)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setIconSize(QSize(_THUMBNAIL, _THUMBNAIL))
        self.setSpacing(4)
        self.setMinimumHeight(110)

    def show_maps(self, maps: np.ndarray, shares: np.ndarray, share_of: str) -> list[int]:
        """List latent maps (Ny, Nx, k) by decreasing share; return the latents in this order."""
        order = [int(latent) for latent in np.argsort(-shares, kind="stable")]
        blocked = self.blockSignals(True)
        self.clear()
        for latent in order:
            item = QListWidgetItem(_thumbnail(maps[..., latent]), f"{latent}: {100 * shares[latent]:.0f} %")
            item.setData(Qt.ItemDataRole.UserRole, latent)
            item.setToolTip(f"Latent {latent}: {100 * shares[latent]:.1f} % {share_of}")
            item.setTextAlignment(Qt.AlignmentFlag.AlignHCenter)
            self.addItem(item)
        self.blockSignals(blocked)
        return order

    def select_latent(self, latent: int | None) -> None:
        """Select the map of a latent, without emitting signals."""
        for row in range(self.count()):
            if self.item(row).data(Qt.ItemDataRole.UserRole) == latent:
                blocked = self.blockSignals(True)
                self.setCurrentRow(row)
                self.blockSignals(blocked)


def _thumbnail(image: np.ndarray) -> QIcon:
    step = max(1, -(-max(image.shape) // (2 * _THUMBNAIL)))
    image = image[::step, ::step]
    colours = to_qimage(apply_colormap(normalise(image, robust_limits(image)), "viridis"))
    pixmap = QPixmap.fromImage(colours).scaled(
        _THUMBNAIL, _THUMBNAIL, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.FastTransformation
    )
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Selected)  # Qt would tint a selected icon
    return icon
