"""The region on the map that patterns are averaged over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from .layers import KIND, scan_kwargs
from .state import Session, sessions_of

if TYPE_CHECKING:
    from napari.layers import Shapes
    from napari.viewer import Viewer

__all__ = ["RegionLayer"]

_PAUSE = 100  # ms without a change, after which the region is taken over


class RegionLayer:
    """Outlines drawn in a Shapes layer, as the region of the session they lie on.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Where regions are drawn.
    parent : QObject
        A widget.
    """

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        self._sessions = sessions_of(viewer)
        self._viewer = self._sessions.viewer
        self._changed: set[Shapes] = set()
        self._pause = QTimer(parent)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE)
        self._pause.timeout.connect(self._take_over)
        self._viewer.layers.events.removed.connect(self._on_removed)

    def close(self) -> None:
        """Let go of the viewer; the outlines stay."""
        self._pause.stop()
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        for layer in self._viewer.layers:
            if layer.metadata.get(KIND) == "region":
                layer.events.data.disconnect(self._on_data)

    def draw(self, session: Session) -> Shapes:
        """Let the user draw outlines."""
        layers = self._sessions.layers_of(session)
        layer = next((layer for layer in layers if layer.metadata.get(KIND) == "region"), None)
        if layer is None:
            layer = self._viewer.add_shapes(
                name=f"{session.name} region",
                ndim=2,
                face_color="#ffcc0040",
                edge_color="#ffcc00",
                edge_width=0.3,
                **scan_kwargs(session, "region"),
            )
        layer.events.data.disconnect(self._on_data)
        layer.events.data.connect(self._on_data)
        self._viewer.layers.selection.active = layer
        layer.visible = True
        layer.mode = "add_polygon_lasso"
        return layer

    def _on_data(self, event: Any) -> None:
        self._changed.add(event.source)
        self._pause.start()

    def _on_removed(self, event: Any) -> None:
        session = self._sessions.of_layer(event.value)
        if session is not None and event.value.metadata.get(KIND) == "region":
            session.region = None

    def _take_over(self) -> None:
        changed, self._changed = self._changed, set()
        for layer in changed:
            session = self._sessions.of_layer(layer)
            if session is not None and layer in self._viewer.layers:
                drawn = layer.to_labels(session.scan.scan_shape) > 0
                session.region = drawn if drawn.any() else None
