"""Napari layers of latent maps: the stack of all maps, and the RGB composite of three."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latentstem.errors import ArgumentError

from ..model.map_contrast import composite, robust_limits
from ..model.session import Session
from .scan_layers import layer_of, scan_kwargs
from .sessions import sessions_of

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

    from latentstem import Embedding

__all__ = [
    "latent_layer_kwargs",
    "latents_of",
    "set_latent_contrast",
    "show_composite",
    "show_embedding",
    "shown_latent",
]


def latents_of(session: Session) -> Embedding:
    """The latents of a session.

    Raises
    ------
    ArgumentError
        If they have not been computed.
    """
    if session.embedding is None:
        raise ArgumentError(
            "no latent maps",
            expected="a scan whose latents have been computed",
            received=f"{session.name!r}, which has none yet",
            advice="Train a model, or load one and apply it to this scan.",
        )
    return session.embedding


def latent_layer_kwargs(session: Session, latent_maps: np.ndarray) -> dict[str, Any]:
    """Arguments of ``viewer.add_image`` for the stack (k, Ny, Nx) of latent maps (Ny, Nx, k)."""
    maps = np.moveaxis(latent_maps, -1, 0)
    arguments = scan_kwargs(session, "latents")
    return {
        "data": maps,
        "name": f"{session.name} latents",
        "colormap": "viridis",
        "contrast_limits": tuple(robust_limits(maps[0])),
        **arguments,
        "scale": (1.0, *arguments["scale"]),
        "translate": (0.0, *arguments["translate"]),
        "units": ("dimensionless", *arguments["units"]),
        "axis_labels": ("latent", *arguments["axis_labels"]),
    }


def show_embedding(viewer: Viewer, session: Session) -> Image:
    """Add the stack of latent maps as the layer ``"<name> latents"``, or update that layer."""
    layer = layer_of(viewer, session, "latents")
    arguments = latent_layer_kwargs(session, latents_of(session).maps)
    if layer is None:
        layer = viewer.add_image(**arguments)
        viewer.dims.set_current_step(0, 0)
    else:
        layer.data = arguments["data"]
        set_latent_contrast(viewer, session)
    return layer


def show_composite(
    viewer: Viewer, session: Session, channels: tuple[int, int, int], clip: float = 0.5
) -> Image:
    """Add the composite of three latents as the layer ``"<name> RGB"``, or update that layer."""
    image = composite(latents_of(session).maps, channels, clip)
    layer = layer_of(viewer, session, "RGB")
    if layer is None:
        return viewer.add_image(image, rgb=True, name=f"{session.name} RGB", **scan_kwargs(session, "RGB"))
    layer.data = image
    return layer


def shown_latent(viewer: Viewer, n_latents: int) -> int:
    """Number of the latent that the viewer's slider shows, out of `n_latents`."""
    dims = sessions_of(viewer).viewer.dims
    return min(int(dims.current_step[dims.ndim - 3]), n_latents - 1)


def set_latent_contrast(viewer: Viewer, session: Session, clip: float = 0.5) -> None:
    """Set the contrast of the stack of latent maps to that of the shown latent; latents differ in range."""
    layer = layer_of(viewer, session, "latents")
    if layer is not None:
        layer.contrast_limits = robust_limits(layer.data[shown_latent(viewer, len(layer.data))], clip)
