"""Masks of scan positions and detector pixels from Labels and Shapes layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latentstem.errors import MaskError

from ..model.session import Session
from .scan_layers import scan_kwargs

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer
    from napari.viewer import Viewer

    from latentstem import Scan

__all__ = ["MEAN_PATTERN", "add_drawing_layer", "mask_from_layer", "scan_with_masks", "show_mean_pattern"]

#: kind of the layer with the mean pattern, on which the user marks detector pixels
MEAN_PATTERN = "mean pattern"

_GAP = 0.05  # between the scan and the mean pattern, as a fraction of the scan's width


def pattern_kwargs(session: Session, kind: str = "") -> dict[str, Any]:
    """Arguments of a layer over the detector, shape (H, W), beside the scan and of the same height.

    Its units are those of the scan, because all layers of a viewer have the same units.
    """
    arguments = scan_kwargs(session, kind)
    (ny, nx), (height, _) = session.scan.scan_shape, session.scan.pattern_shape
    scale, (top, left) = [abs(step) for step in arguments["scale"]], arguments["translate"]
    pixel = ny * scale[0] / height
    left = left + nx * max(arguments["scale"][1], 0) + _GAP * nx * scale[1]
    # `translate` is the centre of the first pixel; the edges are to be aligned
    arguments["scale"] = (pixel, pixel)
    arguments["translate"] = (top + (pixel - scale[0]) / 2, left + (pixel - scale[1]) / 2)
    return arguments


def show_mean_pattern(viewer: Viewer, session: Session, pattern: np.ndarray) -> Image:
    """Add the mean pattern (H, W) as a layer beside the scan, on a square-root scale."""
    return viewer.add_image(
        pattern,
        name=f"{session.name} {MEAN_PATTERN}",
        colormap="gray",
        gamma=0.5,
        contrast_limits=(0.0, max(float(np.percentile(pattern, 99.9)), 1e-12)),
        **pattern_kwargs(session, MEAN_PATTERN),
    )


def add_drawing_layer(viewer: Viewer, session: Session, of_pixels: bool) -> Labels:
    """Add a Labels layer over the scan or the mean pattern, in paint mode, for what is to be excluded."""
    kind, shape = "excluded positions", session.scan.scan_shape
    arguments = scan_kwargs(session, kind)
    if of_pixels:
        kind, shape = "excluded pixels", session.scan.pattern_shape
        arguments = pattern_kwargs(session, kind)
    layer = viewer.add_labels(np.zeros(shape, np.uint8), name=f"{session.name} {kind}", **arguments)
    layer.brush_size = max(2, min(shape) // 12)
    layer.mode = "paint"
    return layer


def mask_from_layer(layer: Layer, target: dict[str, Any], shape: tuple[int, int]) -> np.ndarray:
    """Mask of what is drawn in a layer.

    Parameters
    ----------
    layer : Labels or Shapes
        With any scale and offset; axes before the last two are merged, rotations are ignored.
    target : dict
        ``scale`` and ``translate`` of the masked image: `scan_kwargs` or `pattern_kwargs`.
    shape : (int, int)
        Shape of the masked image.

    Returns
    -------
    ndarray of `shape`, bool

    Raises
    ------
    MaskError
        If nothing is drawn over that image.
    """
    from napari.layers import Labels
    from scipy.ndimage import affine_transform

    scale, offset = np.array(target["scale"]), np.array(target["translate"])
    layer_scale, layer_offset = np.array(layer.scale[-2:]), np.array(layer.translate[-2:])
    if isinstance(layer, Labels):
        drawn = np.asarray(layer.data) > 0
        drawn = drawn.any(axis=tuple(range(drawn.ndim - 2)))
        zoom, shift = scale / layer_scale, (offset - layer_offset) / layer_scale
        mask = affine_transform(drawn, zoom, shift, shape, order=0, mode="grid-constant")
    else:
        vertices = [(data[:, -2:] * layer_scale + layer_offset - offset) / scale for data in layer.data]
        mask = _rasterise(vertices, list(layer.shape_type), shape)
    if not mask.any():
        raise MaskError(
            "nothing is excluded",
            expected=f"labels or shapes in the layer {layer.name!r}, over what is to be excluded",
            received="none there",
            advice="Draw on it what is to be excluded, or choose 'nothing'.",
        )
    return mask


def _rasterise(vertices: list[np.ndarray], kinds: list[str], shape: tuple[int, int]) -> np.ndarray:
    from napari.layers import Shapes

    if not vertices:
        return np.zeros(shape, bool)
    return Shapes(vertices, shape_type=kinds).to_labels(shape) > 0


def scan_with_masks(session: Session, positions: Layer | None, pixels: Layer | None) -> Scan:
    """The scan of a session, with what is drawn in these layers excluded in addition.

    Raises
    ------
    MaskError
        If a layer is empty, or everything is excluded.
    """
    scan = session.scan
    masks: list[np.ndarray | None] = []
    for layer, target, shape, existing_mask in (
        (positions, scan_kwargs(session), scan.scan_shape, scan.scan_mask),
        (pixels, pattern_kwargs(session), scan.pattern_shape, scan.pattern_mask),
    ):
        drawn = None if layer is None else mask_from_layer(layer, target, shape)
        masks.append(drawn if drawn is None or existing_mask is None else drawn | existing_mask)
    return scan.with_masks(*masks)
