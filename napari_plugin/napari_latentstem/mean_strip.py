"""A row of mean patterns: of what is selected, and of each cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QScrollArea, QWidget

from . import patterns as looking
from .picture_widget import Picture, colours

if TYPE_CHECKING:
    from latentstem import Scan

__all__ = ["MeanStrip", "means_of"]

_SIZE = 116  # pixels of a picture


class MeanStrip(QScrollArea):
    """Pictures side by side; ``clicked`` is emitted with the number of the one that is clicked."""

    clicked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFixedHeight(_SIZE + 58)
        self.pictures: list[Picture] = []
        self.clear()

    def clear(self) -> None:
        """Show nothing."""
        self.setVisible(False)
        self._make(0)

    def show_means(self, seen: looking.Patterns, scan: Scan, titles: list[str], frames: np.ndarray) -> None:
        """Show the raw means.

        Parameters
        ----------
        seen : Patterns
            One group a picture.
        scan : Scan
            What they are means of.
        titles : list of str
            Of each picture.
        frames : ndarray, shape (groups, 3)
            Colours of their frames.
        """
        if len(self.pictures) != len(titles):
            self._make(len(titles))
        axes = scan.axes[2:]
        for n, picture in enumerate(self.pictures):
            picture.title, picture.frame = titles[n], tuple(int(c) for c in frames[n])
            share = looking.brightness(seen.raw[n], looking.limits(seen.raw[n]), "square root")
            caption = f"{seen.n[n]:,} patterns"
            picture.show_pixels(
                colours(share, "gray"), caption, looking.pixel_aspect(axes), looking.scale_bar(axes[1])
            )
        self.setVisible(True)

    def _make(self, n: int) -> None:
        inner = QWidget()
        row = QHBoxLayout(inner)
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
        self.setWidget(inner)


def means_of(scan: Scan, groupings: list[np.ndarray]) -> Iterator[looking.Patterns]:
    """Mean patterns of groups that may overlap, better and better.

    Parameters
    ----------
    scan : Scan
        Where from.
    groupings : list of ndarray of int or bool, shape (Ny, Nx)
        Numbers of groups, as for `patterns.mean_patterns`; taken one after the other.

    Yields
    ------
    Patterns
        Of the groups of all groupings so far.
    """
    empty = np.zeros(0, np.int64)
    done = joined = looking.Patterns(np.zeros((0, *scan.pattern_shape), np.float32), None, empty, empty)
    for groups in groupings:
        for seen in looking.mean_patterns(scan, groups):
            pairs = (done.raw, seen.raw), (done.n, seen.n), (done.size, seen.size)
            raw, n, size = (np.concatenate(pair) for pair in pairs)
            joined = looking.Patterns(raw, None, n, size)
            yield joined
        done = joined
