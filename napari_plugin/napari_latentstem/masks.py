"""What is drawn in Labels and Shapes layers, as masks of scan positions or detector pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latentstem.errors import MaskError

from .layers import scan_kwargs
from .state import Session

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer
    from napari.viewer import Viewer

    from latentstem import Scan

__all__ = ["PATTERN", "drawing_layer", "mask_of", "masked", "pattern_kwargs", "show_mean_pattern"]

#: kind of the layer with the mean pattern, on which detector pixels are marked
PATTERN = "mean pattern"

_GAP = 0.05  # of the scan's width, between the scan and the mean pattern beside it


def pattern_kwargs(session: Session, kind: str = "") -> dict[str, Any]:
    """Arguments of a layer over the detector, shape (H, W), which lies beside the scan and is as tall.

    Its units are those of the scan, since all layers of a viewer share theirs; it is there to draw on.
    """
    arguments = scan_kwargs(session, kind)
    (ny, nx), (height, _) = session.scan.scan_shape, session.scan.pattern_shape
    scale, (top, left) = [abs(step) for step in arguments["scale"]], arguments["translate"]
    pixel = ny * scale[0] / height
    left = left + nx * max(arguments["scale"][1], 0) + _GAP * nx * scale[1]
    # the outer edges of pixels are half a pixel from their centres
    arguments["scale"] = (pixel, pixel)
    arguments["translate"] = (top + (pixel - scale[0]) / 2, left + (pixel - scale[1]) / 2)
    return arguments


def show_mean_pattern(viewer: Viewer, session: Session, pattern: np.ndarray) -> Image:
    """Add the mean pattern (H, W) beside the scan, on a square-root scale."""
    return viewer.add_image(
        pattern,
        name=f"{session.name} {PATTERN}",
        colormap="gray",
        gamma=0.5,
        contrast_limits=(0.0, max(float(np.percentile(pattern, 99.9)), 1e-12)),
        **pattern_kwargs(session, PATTERN),
    )


def drawing_layer(viewer: Viewer, session: Session, of_pixels: bool) -> Labels:
    """A Labels layer over the scan, or over the mean pattern, ready to paint what is to be excluded."""
    what, shape = "excluded positions", session.scan.scan_shape
    arguments = scan_kwargs(session, what)
    if of_pixels:
        what, shape = "excluded pixels", session.scan.pattern_shape
        arguments = pattern_kwargs(session, what)
    layer = viewer.add_labels(np.zeros(shape, np.uint8), name=f"{session.name} {what}", **arguments)
    layer.brush_size = max(2, min(shape) // 12)
    layer.mode = "paint"
    return layer


def mask_of(layer: Layer, over: dict[str, Any], shape: tuple[int, int]) -> np.ndarray:
    """Where something is drawn.

    Parameters
    ----------
    layer : Labels or Shapes
        Any scale and offset, and any axes before the last two; rotations are not looked at.
    over : dict
        ``scale`` and ``translate`` of the picture it is drawn over: `scan_kwargs` or `pattern_kwargs`.
    shape : (int, int)
        Of that picture.

    Returns
    -------
    ndarray of `shape`, bool

    Raises
    ------
    MaskError
        If nothing is drawn there.
    """
    from napari.layers import Labels

    scale, offset = np.array(over["scale"]), np.array(over["translate"])
    own_scale, own_offset = np.array(layer.scale[-2:]), np.array(layer.translate[-2:])
    if isinstance(layer, Labels):
        drawn = np.asarray(layer.data) > 0
        drawn = drawn.any(axis=tuple(range(drawn.ndim - 2)))
        mask = np.ones(shape, bool)
        at = []
        for axis, size in enumerate(drawn.shape):
            world = offset[axis] + scale[axis] * np.arange(shape[axis])
            index = np.round((world - own_offset[axis]) / own_scale[axis]).astype(int)
            inside = (index >= 0) & (index < size)
            mask &= np.expand_dims(inside, 1 - axis)
            at.append(np.clip(index, 0, size - 1))
        mask &= drawn[np.ix_(*at)]
    else:
        vertices = [(data[:, -2:] * own_scale + own_offset - offset) / scale for data in layer.data]
        mask = _rasterised(vertices, list(layer.shape_type), shape)
    if not mask.any():
        raise MaskError(
            "nothing is excluded",
            expected=f"labels or shapes in the layer {layer.name!r}, over what they are to exclude",
            received="none there",
            advice="Draw on it what is to be excluded, or choose 'nothing'.",
        )
    return mask


def _rasterised(vertices: list[np.ndarray], kinds: list[str], shape: tuple[int, int]) -> np.ndarray:
    from napari.layers import Shapes

    if not vertices:
        return np.zeros(shape, bool)
    return Shapes(vertices, shape_type=kinds).to_labels(shape) > 0


def masked(session: Session, positions: Layer | None, pixels: Layer | None) -> Scan:
    """The scan of a session, where what is drawn in these layers is excluded as well.

    Raises
    ------
    MaskError
        If nothing is drawn, or nothing is left.
    """
    scan = session.scan
    masks: list[np.ndarray | None] = []
    for layer, over, shape, before in (
        (positions, scan_kwargs(session), scan.scan_shape, scan.scan_mask),
        (pixels, pattern_kwargs(session), scan.pattern_shape, scan.pattern_mask),
    ):
        drawn = None if layer is None else mask_of(layer, over, shape)
        masks.append(drawn if drawn is None or before is None else drawn | before)
    return scan.with_masks(*masks)
