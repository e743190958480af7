"""The marker on the map: the scan position whose pattern is shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer

from .layers import scan_kwargs
from .state import Session, sessions_of

if TYPE_CHECKING:
    from napari.layers import Points
    from napari.viewer import Viewer

__all__ = ["PositionMarker"]

_SIZE = 18.0  # canvas pixels
_GRASP = 14.0  # canvas pixels from the marker within which a press takes hold of it


class PositionMarker:
    """Marks the position of the active session, and sets it.

    It is dragged with the mouse, or jumps to where the map is clicked, whatever layer is active (but not while that
    layer is painted or drawn on). It stays above all other layers.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Its sessions' positions are marked.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._sessions = sessions_of(viewer)
        self._viewer = self._sessions.viewer
        self._session: Session | None = None
        self.layer: Points | None = None
        self._viewer.mouse_drag_callbacks.append(self._on_press)
        self._viewer.layers.events.inserted.connect(self._raise_later)
        self._viewer.layers.events.reordered.connect(self._raise_later)
        self._viewer.layers.events.removed.connect(self._on_removed)
        self._sessions.active_changed.connect(self._follow)
        self._follow(self._sessions.active)

    def close(self) -> None:
        """Take the marker away."""
        layer = self.layer
        self._follow(None)
        self._discard(layer)
        self._sessions.active_changed.disconnect(self._follow)
        self._viewer.layers.events.inserted.disconnect(self._raise_later)
        self._viewer.layers.events.reordered.disconnect(self._raise_later)
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._viewer.mouse_drag_callbacks.remove(self._on_press)

    def _follow(self, session: Session | None) -> None:
        if self._session is not None:
            self._session.events.position.disconnect(self._place)
        layer, self.layer, self._session = self.layer, None, session
        # later, because this may be told in the midst of the removal of several layers
        QTimer.singleShot(0, lambda: self._discard(layer))
        if session is None:
            return
        session.events.position.connect(self._place)
        active = self._viewer.layers.selection.active
        arguments = scan_kwargs(session)
        self.layer = self._viewer.add_points(
            np.array([session.position], float),
            name=f"{session.name} position",
            size=1,
            canvas_size_limits=(_SIZE, _SIZE),
            face_color="#ffffff70",  # so that it stands out from a map of its own colour
            border_color="#ff3b30",
            border_width=0.15,
            **{**arguments, "metadata": {}},  # a scan is open without it, and closed with it
        )
        self.layer.editable = False
        if active is not None:
            self._viewer.layers.selection.active = active

    def _discard(self, layer: Points | None) -> None:
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _place(self, position: tuple[int, int], _: Any = None) -> None:
        if self.layer is not None:
            self.layer.data = np.array([position], float)

    def _on_removed(self, event: Any) -> None:
        if event.value is self.layer:
            self.layer = None  # the user's own wish; it comes back with the next scan that is chosen

    def _raise_later(self, event: Any = None) -> None:
        QTimer.singleShot(0, self._raise)

    def _raise(self) -> None:
        layers = self._viewer.layers
        if self.layer is not None and self.layer in layers and layers[-1] is not self.layer:
            layers.move(layers.index(self.layer), len(layers))

    def _on_press(self, viewer: Viewer, event: Any) -> Iterator[None]:
        """Drag the marker, or let it jump to a click."""
        if not self._can_be_set(event):
            return
        scene = getattr(viewer, "scene", viewer)
        held = self._pixels_away(event.position, scene.camera.zoom) <= _GRASP
        panned, scene.camera.mouse_pan = scene.camera.mouse_pan, scene.camera.mouse_pan and not held
        moved = False
        try:
            yield
            while event.type == "mouse_move":
                moved = True
                if held:
                    self._set(event.position, nearest=True)
                yield
            if not moved:
                self._set(event.position)
        finally:
            scene.camera.mouse_pan = panned

    def _can_be_set(self, event: Any) -> bool:
        active = self._viewer.layers.selection.active
        drawing = active is not None and str(getattr(active, "mode", "pan_zoom")) != "pan_zoom"
        shown_flat = self._viewer.dims.ndisplay == 2
        return (
            self.layer is not None
            and event.button == 1
            and not event.modifiers
            and not drawing
            and shown_flat
        )

    def _pixels_away(self, world: Any, zoom: float) -> float:
        away = self._at(world) - np.asarray(self._session.position)
        return float(np.hypot(*(away * self.layer.scale[-2:])) * zoom)

    def _at(self, world: Any) -> np.ndarray:
        """Scan row and column of world coordinates, not rounded."""
        return np.asarray(self.layer.world_to_data(world), float)[-2:]

    def _set(self, world: Any, nearest: bool = False) -> None:
        if self.layer is None or self._session is None:
            return
        at, last = np.rint(self._at(world)), np.array(self._session.scan.scan_shape) - 1
        if nearest:
            at = np.clip(at, 0, last)
        if ((at >= 0) & (at <= last)).all():
            self._session.position = int(at[0]), int(at[1])
