"""Dock with diffraction patterns: at the current position, averaged over a region, and decoded from any latents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QCheckBox, QGridLayout, QLabel, QPushButton

from latentstem.scan.scale_bar import pixel_aspect, scale_bar

from ..layers.position_marker import PositionMarker
from ..layers.region_layer import RegionLayer
from ..model.pattern_display import (
    SCALES,
    TITLES,
    DisplayedImage,
    describe_pixel,
    describe_position,
    display,
    image_values,
)
from ..model.patterns import Patterns, mean_patterns, patterns_at
from .building_blocks import combo_box, horizontal, push_button, vertical
from .dock import Note, ScanDock
from .latent_sliders import LatentSliders
from .latest_task_worker import LatestTaskWorker, error_message
from .picture import Picture

if TYPE_CHECKING:
    from napari.viewer import Viewer

__all__ = ["PatternsWidget"]

AVERAGE_KEY = "h"
_WIDE = 2.0  # width over height of the dock above which the images are in one row


class PatternsWidget(ScanDock):
    """Recorded pattern, reconstruction, residual, and the pattern decoded from the sliders' latents; see `Dock`."""

    def _build(self) -> None:
        self._averaging = False
        self._patterns: Patterns | None = None
        self._decoded: np.ndarray | None = None
        self._pattern_worker = LatestTaskWorker(self, self._on_error)
        self._decode_worker = LatestTaskWorker(self, self._on_error)
        self.pictures = [Picture(title) for title in TITLES]
        self.marker, self.region = PositionMarker(self._viewer), RegionLayer(self._viewer, self)
        self._viewer.bind_key(AVERAGE_KEY, self._on_key, overwrite=True)
        self.description, self.message = QLabel(), Note()
        self.description.setWordWrap(True)
        self.scale = combo_box(SCALES, "Brightness as a function of intensity")
        self.scale.setCurrentText("square root")
        self.pictures[2].setToolTip(
            "Recorded pattern minus reconstruction: for counts, divided by the square root of the reconstruction, that is\n"
            "in standard deviations of the counting noise (σ); else in the data's own units."
        )
        self.scale.currentTextChanged.connect(self._draw)
        self.shared_contrast = QCheckBox("shared contrast")
        self.shared_contrast.setToolTip(
            "Show the recorded pattern with the contrast limits of its reconstruction"
        )
        self.shared_contrast.setChecked(True)
        self.shared_contrast.toggled.connect(self._draw)
        self.draw_region = push_button(
            "Draw region", "Draw an outline on the map around positions to average over", self._on_draw_region
        )
        self.average = QPushButton(f"Hold to average ({AVERAGE_KEY.upper()})")
        self.average.setToolTip(
            f"Averages over the region while this button, or {AVERAGE_KEY.upper()} over the map, is pressed"
        )
        self.average.pressed.connect(lambda: self.set_averaging(True))
        self.average.released.connect(lambda: self.set_averaging(False))
        self.sliders = LatentSliders()
        self.sliders.changed.connect(self._decode)
        self.sliders.reset.connect(lambda: self._show_decoded(None))
        self._grid = QGridLayout()
        self._grid.setSpacing(6)
        for picture in self.pictures:
            picture.hovered.connect(lambda row, column, p=picture: self._describe_pixel(p, row, column))
            picture.unhovered.connect(self._describe_position)
        first, second = (
            horizontal(self.scale, self.shared_contrast),
            horizontal(self.draw_region, self.average),
        )
        items = (self._grid, self.description, first, second, self.message, self.sliders)
        layout = vertical(self, *items, stretch=self.sliders, margin=4)
        layout.setStretch(0, 3)
        self._arrange()

    def resizeEvent(self, event: Any) -> None:
        """Arrange the images in one row if the dock is wide, else two by two."""
        super().resizeEvent(event)
        self._arrange()

    def _arrange(self) -> None:
        columns = 4 if self.width() > _WIDE * self.height() else 2
        for n, picture in enumerate(self.pictures):
            self._grid.addWidget(picture, n // columns, n % columns)

    def stop(self) -> None:
        """Stop all tasks, remove the marker, and disconnect from the viewer."""
        super().stop()
        self._pattern_worker.close()
        self._decode_worker.close()
        self.marker.close()
        self.region.close()
        self._viewer.bind_key(AVERAGE_KEY, None)

    # the session

    def _callbacks(self) -> dict[str, Callable[..., Any]]:
        return {
            "scan": self._request_patterns,
            "position": self._on_position,
            "model": self._on_model,
            "embedding": self._on_model,
            "region": self._request_patterns,
        }

    def _on_session(self) -> None:
        self._patterns = self._decoded = None
        self._on_model()

    def _on_model(self, *_: Any) -> None:
        session = self._session
        self.sliders.set_latents(*((None, None) if session is None else (session.model, session.embedding)))
        self._on_position()

    def _on_position(self, *_: Any) -> None:
        if self._session is not None:
            self.sliders.set_position(self._session.position)
        self._request_patterns()

    # patterns

    def _request_patterns(self, *_: Any) -> None:
        session = self._session
        if session is None:
            self._pattern_worker.cancel()
            self._draw()
            return
        scan, model, position, region = session.scan, session.model, session.position, session.region
        averaging, contrast = self._averaging, (self.scale.currentText(), self.shared_contrast.isChecked())
        if averaging and (region is None or not region.any()):
            self.message.setText(
                "There is no region to average over: draw one on the map first (Draw region)."
            )
            return

        def task() -> Iterator[tuple[Patterns, list[DisplayedImage | None]]]:
            if averaging and region is not None:
                results = mean_patterns(scan, region, model)
            else:
                results = iter([patterns_at(scan, position, model)])
            for patterns in results:
                yield patterns, display(patterns, None, *contrast)

        self._pattern_worker.submit(task, self._show_patterns)

    def _show_patterns(self, result: tuple[Patterns, list[DisplayedImage | None]]) -> None:
        self._patterns, self._decoded = result[0], None
        self.message.setText("")
        self._draw(images=result[1])

    def _decode(self, latents: np.ndarray) -> None:
        session = self._session
        if session is None or session.model is None:
            return
        model, position = session.model, session.position

        def on_decoded(pattern: np.ndarray) -> None:
            if session is self._session and session.position == position:
                self._show_decoded(pattern)

        self._decode_worker.submit(lambda: iter([model.decode(latents)]), on_decoded)

    def _show_decoded(self, pattern: np.ndarray | None) -> None:
        self._decoded = pattern
        self._draw()

    def _on_error(self, error: Exception) -> None:
        self._patterns = self._decoded = None  # they belong to another position or model
        self._draw()
        self.message.setText(error_message(error))

    def _draw(self, *_: Any, images: list[DisplayedImage | None] | None = None) -> None:
        self._describe_position()
        patterns, session = self._patterns, self._session
        if patterns is None or session is None:
            for picture in self.pictures:
                picture.show_hint("Open a scan." if session is None else "")
            return
        hint = "Train a model, or load one." if session.model is None else "This position is excluded."
        if images is None:
            scale, shared = self.scale.currentText(), self.shared_contrast.isChecked()
            images = display(patterns, self._decoded, scale, shared)
        y, x = session.scan.axes[2:]
        for picture, image in zip(self.pictures, images, strict=True):
            if image is None:
                picture.show_hint(hint)
            else:
                picture.show_pixels(image.pixels, image.caption, pixel_aspect(y, x), scale_bar(x))

    def images(self) -> list[np.ndarray | None]:
        """Values of the four images, (H, W) each; see `image_values`."""
        return [None] * 4 if self._patterns is None else image_values(self._patterns, self._decoded)

    def _describe_position(self) -> None:
        session, patterns = self._session, self._patterns
        if session is None:
            self.description.setText("")
        elif self._averaging and patterns is not None and patterns.size[0] > 1:
            self.description.setText(
                f"mean of {patterns.n[0]:,} of the region's {patterns.size[0]:,} positions"
            )
        else:
            self.description.setText(describe_position(session.scan.axes[:2], session.position))

    def _describe_pixel(self, picture: Picture, row: int, column: int) -> None:
        values = self.images()[self.pictures.index(picture)]
        if values is not None and self._session is not None:
            text = describe_pixel(self._session.scan.axes[2:], row, column, float(values[row, column]))
            self.description.setText(text)

    # averaging

    def set_averaging(self, averaging: bool) -> None:
        """Show the mean over the region, or the current position again."""
        self._averaging = averaging
        if not averaging:
            self.message.setText("")
        self._request_patterns()

    def _on_key(self, viewer: Viewer) -> Iterator[None]:
        self.set_averaging(True)
        yield
        self.set_averaging(False)

    def _on_draw_region(self) -> None:
        if self._session is None:
            self.message.setText("Open a scan first.")
        else:
            self.region.draw(self._session)
