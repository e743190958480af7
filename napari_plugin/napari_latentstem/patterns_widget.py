"""Dock with the diffraction patterns of the position under the marker, of a region, and of any latents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
)

from . import patterns as looking
from .background import Latest, message_of
from .dock import Dock, Note
from .latent_sliders import LatentSliders
from .marker import PositionMarker
from .picture_widget import Picture, colours
from .region import RegionLayer
from .state import Session, sessions_of

if TYPE_CHECKING:
    import napari.viewer
    from napari.viewer import Viewer

__all__ = ["PatternsWidget"]

KEY = "h"  # held, it averages over the region
_TITLES = ("raw", "reconstruction", "residual", "decoded latents")
_WIDE = 2.0  # width over height from which pictures lie side by side


class PatternsWidget(Dock):
    """Raw pattern, reconstruction and what is missing, at the scan position under a marker.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Its active scan is looked at.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._sessions = sessions_of(viewer)
        self._viewer = self._sessions.viewer
        self._session: Session | None = None
        self._averaging = False
        self._shown: looking.Patterns | None = None
        self._decoded: np.ndarray | None = None
        self._latest, self._decoder = Latest(self, self._failed), Latest(self, self._failed)
        self.pictures = [Picture(title) for title in _TITLES]
        self._build()
        self.marker, self.region = PositionMarker(viewer), RegionLayer(viewer, self)
        self._viewer.bind_key(KEY, self._on_key, overwrite=True)
        self._sessions.active_changed.connect(self._follow)
        self._follow(self._sessions.active)

    # ---- what it is made of ----

    def _build(self) -> None:
        self.where, self.message = QLabel(), Note()
        self.where.setWordWrap(True)
        self.scale = QComboBox()
        self.scale.addItems(looking.SCALES)
        self.scale.setCurrentText("square root")
        self.scale.setToolTip("How intensity becomes brightness")
        self.pictures[2].setToolTip(
            "Raw pattern minus reconstruction: of counts, over the square root of the reconstruction, which is\n"
            "in standard deviations of the counting noise (σ); else in the data's own units."
        )
        self.scale.currentTextChanged.connect(self._draw)
        self.shared = QCheckBox("shared contrast")
        self.shared.setToolTip("Show the raw pattern with the limits of its reconstruction")
        self.shared.setChecked(True)
        self.shared.toggled.connect(self._draw)
        self.draw_region = QPushButton("Draw region")
        self.draw_region.setToolTip("Draw an outline on the map, around positions to average over")
        self.draw_region.clicked.connect(self._on_draw_region)
        self.average = QPushButton(f"Hold to average ({KEY.upper()})")
        self.average.setToolTip(
            f"While it is held, or {KEY.upper()} over the map, the region is averaged over"
        )
        self.average.pressed.connect(lambda: self.set_averaging(True))
        self.average.released.connect(lambda: self.set_averaging(False))
        self.sliders = LatentSliders()
        self.sliders.changed.connect(self._decode)
        self.sliders.returned.connect(lambda: self._show_decoded(None))
        self._grid = QGridLayout()
        self._grid.setSpacing(6)
        for picture in self.pictures:
            picture.hovered.connect(lambda row, column, p=picture: self._describe(p, row, column))
            picture.left.connect(self._describe_position)
        first, second = QHBoxLayout(), QHBoxLayout()
        for above, below in ((self.scale, self.draw_region), (self.shared, self.average)):
            first.addWidget(above)
            second.addWidget(below)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addLayout(self._grid, 3)
        layout.addWidget(self.where)
        layout.addLayout(first)
        layout.addLayout(second)
        layout.addWidget(self.message)
        layout.addWidget(self.sliders, 1)
        self._arrange()

    def resizeEvent(self, event: Any) -> None:
        """Pictures lie side by side where there is room, else two by two."""
        super().resizeEvent(event)
        self._arrange()

    def _arrange(self) -> None:
        columns = 4 if self.width() > _WIDE * self.height() else 2
        for n, picture in enumerate(self.pictures):
            self._grid.addWidget(picture, n // columns, n % columns)

    def stop(self) -> None:
        """Stop what is going on and take the marker away; nothing is shown any more."""
        self._follow(None)
        self._sessions.active_changed.disconnect(self._follow)
        self._latest.close()
        self._decoder.close()
        self.marker.close()
        self.region.close()
        self._viewer.bind_key(KEY, None)

    # ---- what is shown ----

    def _follow(self, session: Session | None) -> None:
        if self._session is not None:
            for name, callback in self._listened():
                getattr(self._session.events, name).disconnect(callback)
        self._session = session
        self._shown = self._decoded = None
        if session is not None:
            for name, callback in self._listened():
                getattr(session.events, name).connect(callback)
        self._on_model()

    def _listened(self) -> tuple[tuple[str, Any], ...]:
        return (
            ("scan", self._look),
            ("position", self._on_position),
            ("model", self._on_model),
            ("embedding", self._on_model),
            ("region", self._look),
        )

    def _on_model(self, *_: Any) -> None:
        session = self._session
        self.sliders.set_latents(*((None, None) if session is None else (session.model, session.embedding)))
        self._on_position()

    def _on_position(self, *_: Any) -> None:
        if self._session is not None:
            self.sliders.go_to(self._session.position)
        self._look()

    def _look(self, *_: Any) -> None:
        """Ask for the patterns to show."""
        session = self._session
        if session is None:
            self._latest.cancel()
            self._draw()
            return
        scan, model, position, region = session.scan, session.model, session.position, session.region
        averaging, look = self._averaging, (self.scale.currentText(), self.shared.isChecked())
        if averaging and (region is None or not region.any()):
            self.message.setText(
                "There is no region to average over: draw one on the map first (Draw region)."
            )
            return

        def work() -> Iterator[tuple[looking.Patterns, list[Any]]]:
            if averaging and region is not None:
                found = looking.mean_patterns(scan, region, model)
            else:
                found = iter([looking.at_position(scan, position, model)])
            for seen in found:
                yield seen, _pixels(seen, None, *look)

        self._latest.ask(work, self._show)

    def _show(self, found: tuple[looking.Patterns, list[Any]]) -> None:
        self._shown, self._decoded = found[0], None
        self.message.setText("")
        self._draw(pixels=found[1])

    def _decode(self, latents: np.ndarray) -> None:
        session = self._session
        if session is None or session.model is None:
            return
        model, position = session.model, session.position

        def then(pattern: np.ndarray) -> None:
            if session is self._session and session.position == position:
                self._show_decoded(pattern)

        self._decoder.ask(lambda: iter([model.decode(latents)]), then)

    def _show_decoded(self, pattern: np.ndarray | None) -> None:
        self._decoded = pattern
        self._draw()

    def _failed(self, error: Exception) -> None:
        self._shown = self._decoded = None  # not what belongs to another position, or model
        self._draw()
        self.message.setText(message_of(error))

    def _draw(self, *_: Any, pixels: list[Any] | None = None) -> None:
        """Show what there is."""
        self._describe_position()
        seen, session = self._shown, self._session
        if seen is None or session is None:
            for picture in self.pictures:
                picture.show_hint("Open a scan." if session is None else "")
            return
        hint = "Train a model, or load one." if session.model is None else "This position is excluded."
        axes, pixels = (
            session.scan.axes[2:],
            pixels or _pixels(seen, self._decoded, self.scale.currentText(), self.shared.isChecked()),
        )
        for picture, shown in zip(self.pictures, pixels, strict=True):
            if shown is None:
                picture.show_hint(hint)
            else:
                picture.show_pixels(*shown, looking.pixel_aspect(axes), looking.scale_bar(axes[1]))

    def images(self) -> list[np.ndarray | None]:
        """Values of the four pictures, (H, W) each: raw, reconstruction, residual, decoded latents."""
        return [None] * 4 if self._shown is None else _values(self._shown, self._decoded)

    def _describe_position(self) -> None:
        session, seen = self._session, self._shown
        if session is None:
            self.where.setText("")
        elif self._averaging and seen is not None and seen.size[0] > 1:
            self.where.setText(f"mean of {seen.n[0]:,} of the region's {seen.size[0]:,} positions")
        else:
            self.where.setText(looking.describe_position(session.scan.axes[:2], session.position))

    def _describe(self, picture: Picture, row: int, column: int) -> None:
        values = self.images()[self.pictures.index(picture)]
        if values is not None and self._session is not None:
            text = looking.describe_pixel(
                self._session.scan.axes[2:], row, column, float(values[row, column])
            )
            self.where.setText(text)

    # ---- averaging ----

    def set_averaging(self, averaging: bool) -> None:
        """Show the mean over the session's region, or the position under the marker again."""
        self._averaging = averaging
        if not averaging:
            self.message.setText("")
        self._look()

    def _on_key(self, viewer: Viewer) -> Iterator[None]:
        self.set_averaging(True)
        yield
        self.set_averaging(False)

    def _on_draw_region(self) -> None:
        if self._session is None:
            self.message.setText("Open a scan first.")
        else:
            self.region.draw(self._session)


def _values(seen: looking.Patterns, decoded: np.ndarray | None) -> list[np.ndarray | None]:
    """What the four pictures show; as long as no slider is moved, the decoded latents are the reconstruction's."""
    if seen.reconstruction is None or seen.residual is None:
        return [seen.raw[0], None, None, decoded]
    own = seen.reconstruction[0]
    return [seen.raw[0], own, seen.residual[0], own if decoded is None else decoded]


def _pixels(seen: looking.Patterns, decoded: np.ndarray | None, scale: str, shared: bool) -> list[Any]:
    """Colours and caption of each picture, or None."""
    raw, own, left_over = looking.contrast(seen, shared=shared)
    made: list[Any] = []
    for title, values, (low, high) in zip(
        _TITLES, _values(seen, decoded), (raw, own, left_over, own), strict=True
    ):
        caption = f"{low:.3g} to {high:.3g}"
        if values is None:
            made.append(None)
        elif title == "residual":
            shares = np.clip((values - low) / (high - low), 0, 1)
            made.append((colours(shares, "RdBu_r"), caption + (" σ" if seen.counts else "")))
        else:
            made.append((colours(looking.brightness(values, (low, high), scale), "gray"), caption))
    return made
