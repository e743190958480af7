"""Calibrated napari layers over a scan, and its virtual images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..model.map_contrast import robust_limits
from ..model.session import Session
from .sessions import SESSION_KEY, sessions_of

if TYPE_CHECKING:
    from napari.layers import Image, Layer
    from napari.viewer import Viewer

__all__ = [
    "KIND_KEY",
    "bring_to_front",
    "kind_of",
    "layer_of",
    "restore_active_layer",
    "scan_kwargs",
    "show_scale_bar",
    "show_virtual_image",
    "virtual_image_kwargs",
]

#: key of a layer's metadata for its kind: a virtual image, "latents", "RGB", "clusters", "selection", "region" ...
KIND_KEY = "latentstem_kind"


def scan_kwargs(session: Session, kind: str = "") -> dict[str, Any]:
    """Arguments of any layer over the scan, shape (Ny, Nx): Image, Labels, Shapes or Points.

    World coordinates are the calibrated coordinates of the scan, so that ``layer.world_to_data`` gives scan positions.

    Parameters
    ----------
    session : Session
        Session of the layer.
    kind : str
        Kind of the layer.
    """
    axes = session.scan.axes[:2]
    return {
        "scale": tuple(axis.scale or 1.0 for axis in axes),
        "translate": tuple(axis.offset for axis in axes),
        "units": tuple(_units(axis.units) for axis in axes),
        "axis_labels": ("y", "x"),
        "metadata": {SESSION_KEY: session, KIND_KEY: kind},
    }


def _units(units: str) -> str:
    """Units, or "pixel" for those that napari does not know."""
    import pint

    try:
        parsed = str(pint.get_application_registry().parse_expression(units).units)
    except Exception:  # pint's parser raises various exceptions on free text
        return "pixel"
    return "pixel" if parsed == "dimensionless" else units


def virtual_image_kwargs(session: Session, kind: str = "sum") -> dict[str, Any]:
    """Arguments of ``viewer.add_image`` for a virtual image of a session."""
    image = session.images[kind]
    return {
        "data": image,
        "name": session.name if kind == "sum" else f"{session.name} {kind}",
        "colormap": "gray",
        "contrast_limits": tuple(robust_limits(image)),
        **scan_kwargs(session, kind),
    }


def show_virtual_image(viewer: Viewer, session: Session, kind: str) -> Image:
    """Bring a virtual image to the front: "sum", "bright field" or "dark field"."""
    layer = layer_of(viewer, session, kind)
    if layer is None:
        layer = viewer.add_image(**virtual_image_kwargs(session, kind))
    bring_to_front(viewer, layer)
    return layer


def show_scale_bar(viewer: Viewer) -> None:
    """Show the viewer's scale bar, in the units of the layers."""
    viewer.canvas.overlays.scale_bar.visible = True


def kind_of(layer: Layer) -> str:
    """Kind of a layer, see `KIND_KEY`; empty for layers without a session."""
    return str(layer.metadata.get(KIND_KEY, ""))


def layer_of(viewer: Viewer, session: Session, kind: str) -> Any:
    """The layer of this kind of a session, if there is one."""
    layers = sessions_of(viewer).layers_of(session)
    return next((layer for layer in layers if kind_of(layer) == kind), None)


def bring_to_front(viewer: Viewer, layer: Image) -> None:
    """Move a layer to the top, and make it visible and active."""
    viewer = sessions_of(viewer).viewer
    viewer.layers.move(viewer.layers.index(layer), len(viewer.layers))
    layer.visible = True
    viewer.layers.selection.active = layer


def restore_active_layer(viewer: Viewer, layer: Layer | None) -> None:
    """Make a layer active again, if it still exists; napari makes each new layer active."""
    layers = sessions_of(viewer).viewer.layers
    if layer is not None and layer in layers:
        layers.selection.active = layer
