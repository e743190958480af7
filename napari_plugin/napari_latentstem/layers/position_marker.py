"""The marker of the current scan position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer

from ..model.session import Session
from .scan_layers import restore_active_layer, scan_kwargs
from .sessions import sessions_of

if TYPE_CHECKING:
    from napari.layers import Points
    from napari.viewer import Viewer

__all__ = ["PositionMarker"]

_SIZE = 18.0  # canvas pixels
_GRAB_RADIUS = 14.0  # canvas pixels: a press this close to the marker drags it


class PositionMarker:
    """Shows the current position of the active session, and lets the user change it.

    The user drags the marker, or clicks on the map, with any layer active (but not while drawing or painting). The
    marker stays above all other layers.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._sessions = sessions_of(viewer)
        self._viewer = self._sessions.viewer
        self._session: Session | None = None
        self.layer: Points | None = None
        self._viewer.mouse_drag_callbacks.append(self._on_press)
        self._viewer.layers.events.inserted.connect(self._move_up_later)
        self._viewer.layers.events.reordered.connect(self._move_up_later)
        self._viewer.layers.events.removed.connect(self._on_removed)
        self._sessions.active_changed.connect(self._set_session)
        self._set_session(self._sessions.active)

    def close(self) -> None:
        """Remove the marker, and disconnect from the viewer."""
        layer = self.layer
        self._set_session(None)
        self._remove(layer)
        self._sessions.active_changed.disconnect(self._set_session)
        self._viewer.layers.events.inserted.disconnect(self._move_up_later)
        self._viewer.layers.events.reordered.disconnect(self._move_up_later)
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._viewer.mouse_drag_callbacks.remove(self._on_press)

    def _set_session(self, session: Session | None) -> None:
        if self._session is not None:
            self._session.events.position.disconnect(self._move_to)
        layer, self.layer, self._session = self.layer, None, session
        # later, because napari may be removing several layers at the moment
        QTimer.singleShot(0, lambda: self._remove(layer))
        if session is None:
            return
        session.events.position.connect(self._move_to)
        active = self._viewer.layers.selection.active
        arguments = scan_kwargs(session)
        self.layer = self._viewer.add_points(
            np.array([session.position], float),
            name=f"{session.name} position",
            size=1,
            canvas_size_limits=(_SIZE, _SIZE),
            face_color="#ffffff70",  # visible on any map
            border_color="#ff3b30",
            border_width=0.15,
            **{**arguments, "metadata": {}},  # without the session: the marker does not keep a scan open
        )
        self.layer.editable = False
        restore_active_layer(self._viewer, active)

    def _remove(self, layer: Points | None) -> None:
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _move_to(self, position: tuple[int, int], _: Any = None) -> None:
        if self.layer is not None:
            self.layer.data = np.array([position], float)

    def _on_removed(self, event: Any) -> None:
        if event.value is self.layer:
            self.layer = None  # by the user; it is added again when another scan becomes active

    def _move_up_later(self, event: Any = None) -> None:
        QTimer.singleShot(0, self._move_up)

    def _move_up(self) -> None:
        layers = self._viewer.layers
        if self.layer is not None and self.layer in layers and layers[-1] is not self.layer:
            layers.move(layers.index(self.layer), len(layers))

    def _on_press(self, viewer: Viewer, event: Any) -> Iterator[None]:
        """Drag the marker, or move it to where the map was clicked."""
        if not self._is_enabled(event):
            return
        scene = getattr(viewer, "scene", viewer)
        dragging = self._distance(event.position, scene.camera.zoom) <= _GRAB_RADIUS
        mouse_pan, scene.camera.mouse_pan = scene.camera.mouse_pan, scene.camera.mouse_pan and not dragging
        moved = False
        try:
            yield
            while event.type == "mouse_move":
                moved = True
                if dragging:
                    self._set_position(event.position, nearest=True)
                yield
            if not moved:
                self._set_position(event.position)
        finally:
            scene.camera.mouse_pan = mouse_pan

    def _is_enabled(self, event: Any) -> bool:
        active = self._viewer.layers.selection.active
        drawing = active is not None and str(getattr(active, "mode", "pan_zoom")) != "pan_zoom"
        is_2d = self._viewer.dims.ndisplay == 2
        return self.layer is not None and event.button == 1 and not event.modifiers and not drawing and is_2d

    def _distance(self, world: Any, zoom: float) -> float:
        """Distance of world coordinates from the marker in canvas pixels."""
        if self.layer is None or self._session is None:
            return np.inf
        offset = _to_scan(self.layer, world) - np.asarray(self._session.position)
        return float(np.hypot(*(offset * self.layer.scale[-2:])) * zoom)

    def _set_position(self, world: Any, nearest: bool = False) -> None:
        if self.layer is None or self._session is None:
            return
        position, last = np.rint(_to_scan(self.layer, world)), np.array(self._session.scan.scan_shape) - 1
        if nearest:
            position = np.clip(position, 0, last)
        if ((position >= 0) & (position <= last)).all():
            self._session.position = int(position[0]), int(position[1])


def _to_scan(layer: Points, world: Any) -> np.ndarray:
    """Scan row and column of world coordinates, not rounded."""
    return np.asarray(layer.world_to_data(world), np.float64)[-2:]
