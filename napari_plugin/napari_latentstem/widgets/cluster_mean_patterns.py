"""Row of mean patterns: of the selection and of each cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QScrollArea, QWidget

from latentstem.scan.scale_bar import pixel_aspect, scale_bar

from ..model.pattern_display import apply_colormap, normalise, pattern_limits
from ..model.patterns import Patterns
from .picture import Picture

if TYPE_CHECKING:
    from latentstem import Scan

__all__ = ["ClusterMeanPatterns"]

_SIZE = 116  # pixels of an image


class ClusterMeanPatterns(QScrollArea):
    """Images side by side; ``clicked`` is emitted with the number of the clicked image."""

    clicked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFixedHeight(_SIZE + 58)
        self.pictures: list[Picture] = []
        self.clear()

    def clear(self) -> None:
        """Remove all images."""
        self.setVisible(False)
        self._create_pictures(0)

    def show_means(self, means: Patterns, scan: Scan, titles: list[str], frames: np.ndarray) -> None:
        """Show recorded mean patterns.

        Parameters
        ----------
        means : Patterns
            One group for each image.
        scan : Scan
            Their scan.
        titles : list of str
            Titles of the images.
        frames : ndarray, shape (groups, 3)
            Colours of the frames.
        """
        if len(self.pictures) != len(titles):
            self._create_pictures(len(titles))
        y, x = scan.axes[2:]
        for n, picture in enumerate(self.pictures):
            picture.title = titles[n]
            red, green, blue = (int(value) for value in frames[n])
            picture.frame = red, green, blue
            brightness = normalise(means.recorded[n], pattern_limits(means.recorded[n]), "square root")
            caption = f"{means.n[n]:,} patterns"
            pixels = apply_colormap(brightness, "gray")
            picture.show_pixels(pixels, caption, pixel_aspect(y, x), scale_bar(x))
        self.setVisible(True)

    def _create_pictures(self, n: int) -> None:
        content = QWidget()
        row = QHBoxLayout(content)
        row.setContentsMargins(2, 2, 2, 2)
        row.setSpacing(6)
        self.pictures = []
        for index in range(n):
            picture = Picture()
            picture.setFixedWidth(_SIZE)
            picture.clicked.connect(lambda index=index: self.clicked.emit(index))
            row.addWidget(picture)
            self.pictures.append(picture)
        row.addStretch(1)
        self.setWidget(content)
