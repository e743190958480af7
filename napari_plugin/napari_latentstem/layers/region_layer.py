"""The region of the scan over which patterns are averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from ..model.session import Session
from .scan_layers import kind_of, layer_of, scan_kwargs
from .sessions import sessions_of

if TYPE_CHECKING:
    from napari.layers import Shapes
    from napari.viewer import Viewer

__all__ = ["RegionLayer"]

_DEBOUNCE_MS = 100  # time without a change after which the region is updated


class RegionLayer:
    """Updates the region of a session from the outlines in a Shapes layer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Viewer of the layer.
    parent : QObject
        Owner of the timer.
    """

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        self._sessions = sessions_of(viewer)
        self._viewer = self._sessions.viewer
        self._changed_layers: set[Shapes] = set()
        self._timer = QTimer(parent)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DEBOUNCE_MS)
        self._timer.timeout.connect(self._update_regions)
        self._viewer.layers.events.removed.connect(self._on_removed)

    def close(self) -> None:
        """Disconnect from the viewer; the layers stay."""
        self._timer.stop()
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        for layer in self._viewer.layers:
            if kind_of(layer) == "region":
                layer.events.data.disconnect(self._on_data)

    def draw(self, session: Session) -> Shapes:
        """Let the user draw outlines."""
        layer: Shapes | None = layer_of(self._viewer, session, "region")
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
        self._changed_layers.add(event.source)
        self._timer.start()

    def _on_removed(self, event: Any) -> None:
        session = self._sessions.of_layer(event.value)
        if session is not None and kind_of(event.value) == "region":
            session.region = None

    def _update_regions(self) -> None:
        layers, self._changed_layers = self._changed_layers, set()
        for layer in layers:
            session = self._sessions.of_layer(layer)
            if session is not None and layer in self._viewer.layers:
                region = layer.to_labels(session.scan.scan_shape) > 0
                session.region = region if region.any() else None
