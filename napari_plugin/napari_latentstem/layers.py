"""What a session looks like as napari layers: calibrated, with units, and named after the scan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latentstem.errors import ArgumentError

from .state import KEY, Session, sessions_of

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

    from latentstem import Embedding

__all__ = [
    "KIND",
    "bring_to_front",
    "composite",
    "latent_layer",
    "layer_of",
    "robust_limits",
    "scan_kwargs",
    "show_composite",
    "show_embedding",
    "show_scale_bar",
    "show_virtual_image",
    "shown_latent",
    "virtual_image_layer",
]

#: where the metadata of a layer tell which picture of its session it is: a virtual image, "latents" or "RGB"
KIND = "latentstem_kind"

_SAMPLE = 20_000  # scan positions from which limits of contrast are taken


def scan_kwargs(session: Session, kind: str = "") -> dict[str, Any]:
    """Arguments of any layer over the scan, shape (Ny, Nx): Image, Labels, Shapes or Points.

    The world coordinates are the calibrated ones of the scan, so that ``layer.world_to_data`` gives scan positions.

    Parameters
    ----------
    session : Session
        Whose scan.
    kind : str
        Which picture of it the layer is.
    """
    axes = session.scan.axes[:2]
    return {
        "scale": tuple(axis.scale or 1.0 for axis in axes),
        "translate": tuple(axis.offset for axis in axes),
        "units": tuple(_units(axis.units) for axis in axes),
        "axis_labels": ("y", "x"),
        "metadata": {KEY: session, KIND: kind},
    }


def _units(units: str) -> str:
    """Units as napari knows them; what it does not know are pixels."""
    import pint

    try:
        known = str(pint.get_application_registry().parse_expression(units).units)
    except Exception:  # pint's parser raises whatever free text makes it raise
        return "pixel"
    return "pixel" if known == "dimensionless" else units


def virtual_image_layer(session: Session, kind: str = "sum") -> dict[str, Any]:
    """Arguments of ``viewer.add_image`` for a virtual image that the session holds."""
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
        layer = viewer.add_image(**virtual_image_layer(session, kind))
    bring_to_front(viewer, layer)
    return layer


def latents_of(session: Session) -> Embedding:
    """The latents of a session, or an error that says how to come by them."""
    if session.embedding is None:
        raise ArgumentError(
            "no latent maps",
            expected="a scan whose latents have been computed",
            received=f"{session.name!r}, which has none yet",
            advice="Train a model, or load one and apply it to this scan.",
        )
    return session.embedding


def latent_layer(session: Session) -> dict[str, Any]:
    """Arguments of ``viewer.add_image`` for the stack of latent maps: (k, Ny, Nx), axis labels latent, y, x."""
    maps = np.moveaxis(latents_of(session).maps, -1, 0)
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
    """Add the stack of latent maps as the layer ``"<name> latents"``, or update the one that is there."""
    layer, arguments = layer_of(viewer, session, "latents"), latent_layer(session)
    if layer is None:
        layer = viewer.add_image(**arguments)
        viewer.dims.set_current_step(0, 0)
    else:
        layer.data = arguments["data"]
        layer.contrast_limits = robust_limits(arguments["data"][shown_latent(viewer, session)])
    return layer


def composite(maps: np.ndarray, channels: tuple[int, int, int], clip: float = 0.5) -> np.ndarray:
    """Three latent maps as red, green and blue.

    Parameters
    ----------
    maps : ndarray, shape (Ny, Nx, k)
        Latents; NaN where a position is excluded, which is transparent.
    channels : (int, int, int)
        Which latents.
    clip : float
        Percent of the positions that saturate, at each end and in each channel.

    Returns
    -------
    ndarray, shape (Ny, Nx, 4), float32, between 0 and 1
    """
    chosen = maps[..., list(channels)]
    limits = np.array([robust_limits(chosen[..., channel], clip) for channel in range(3)], np.float32)
    scaled = np.clip((chosen - limits[:, 0]) / (limits[:, 1] - limits[:, 0]), 0, 1)
    known = np.isfinite(scaled).all(-1, keepdims=True)
    return np.concatenate([np.where(known, scaled, 0), known], axis=-1).astype(np.float32)


def show_composite(
    viewer: Viewer, session: Session, channels: tuple[int, int, int], clip: float = 0.5
) -> Image:
    """Add the composite of three latents as the layer ``"<name> RGB"``, or update the one that is there."""
    latent_layer(session)  # tells what to do where there are no latents
    picture = composite(session.embedding.maps, channels, clip)
    layer = layer_of(viewer, session, "RGB")
    if layer is None:
        return viewer.add_image(picture, rgb=True, name=f"{session.name} RGB", **scan_kwargs(session, "RGB"))
    layer.data = picture
    return layer


def robust_limits(image: np.ndarray, clip: float = 0.5) -> tuple[float, float]:
    """Limits of contrast that leave out `clip` percent of the finite values at each end, never equal."""
    values = image.reshape(-1)
    values = values[:: max(1, values.size // _SAMPLE)]
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(limit) for limit in np.percentile(values, (clip, 100 - clip)))
    return (low, high) if high > low else (low, low + max(1e-6, 1e-6 * abs(low)))


def show_scale_bar(viewer: Viewer) -> None:
    """Show the scale bar, in the units of the layers."""
    viewer.canvas.overlays.scale_bar.visible = True


def layer_of(viewer: Viewer, session: Session, kind: str) -> Any:
    """The layer that shows this picture of a session, if there is one."""
    layers = sessions_of(viewer).layers_of(session)
    return next((layer for layer in layers if layer.metadata.get(KIND) == kind), None)


def bring_to_front(viewer: Viewer, layer: Image) -> None:
    """Make a layer visible above the others, and the active one."""
    viewer = sessions_of(viewer).viewer
    viewer.layers.move(viewer.layers.index(layer), len(viewer.layers))
    layer.visible = True
    viewer.layers.selection.active = layer


def shown_latent(viewer: Viewer, session: Session) -> int:
    """Which latent of the stack the viewer's slider shows."""
    dims = sessions_of(viewer).viewer.dims
    return min(int(dims.current_step[dims.ndim - 3]), session.embedding.latent_dim - 1)
