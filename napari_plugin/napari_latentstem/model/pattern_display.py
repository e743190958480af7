"""How diffraction patterns are displayed: contrast, colours, and the description of a pixel."""

from __future__ import annotations

import math
from typing import NamedTuple

import matplotlib
import numpy as np

from latentstem.scan.scale_bar import printed_units
from latentstem.scan.scan import Axis

from .patterns import Patterns

__all__ = [
    "SCALES",
    "TITLES",
    "DisplayedImage",
    "apply_colormap",
    "contrast_limits",
    "describe_pixel",
    "describe_position",
    "display",
    "image_values",
    "normalise",
    "pattern_limits",
    "reciprocal_origin",
]

#: functions that map intensity to brightness
SCALES = ("linear", "square root", "log")
#: titles of the images of `image_values`
TITLES = ("recorded", "reconstruction", "residual", "decoded latents")

_LOG_RANGE = 1000.0  # ratio of the brightest to the darkest intensity on the logarithmic scale
_MIN_SIGMA = 3.0  # residuals of counts are shown over at least this many standard deviations
_EXCLUDED_GREY = "0.51"  # grey


class DisplayedImage(NamedTuple):
    """Colours of an image, shape (H, W, 3), uint8, and the caption with its limits."""

    pixels: np.ndarray
    caption: str


def apply_colormap(values: np.ndarray, name: str) -> np.ndarray:
    """Values between 0 and 1 in a matplotlib colour map, shape (..., 3), uint8; NaN is grey."""
    return matplotlib.colormaps[name].with_extremes(bad=_EXCLUDED_GREY)(values, bytes=True)[..., :3]


def image_values(patterns: Patterns, decoded: np.ndarray | None) -> list[np.ndarray | None]:
    """Values (H, W) of the four images of the first group: recorded, reconstruction, residual, decoded latents.

    Until a slider is moved (`decoded` is None), the decoded latents are the reconstruction.
    """
    if patterns.reconstruction is None or patterns.residual is None:
        return [patterns.recorded[0], None, None, decoded]
    reconstruction = patterns.reconstruction[0]
    decoded = reconstruction if decoded is None else decoded
    return [patterns.recorded[0], reconstruction, patterns.residual[0], decoded]


def display(
    patterns: Patterns, decoded: np.ndarray | None, scale: str, shared_contrast: bool
) -> list[DisplayedImage | None]:
    """The four images of `image_values` as they are displayed."""
    recorded, reconstruction, residual = contrast_limits(patterns, shared=shared_contrast)
    images: list[DisplayedImage | None] = []
    all_limits = (recorded, reconstruction, residual, reconstruction)
    for title, values, limits in zip(TITLES, image_values(patterns, decoded), all_limits, strict=True):
        if values is None:
            images.append(None)
            continue
        scale_name, colormap, unit = scale, "gray", ""
        if title == "residual":
            scale_name, colormap, unit = "linear", "RdBu_r", " σ" if patterns.counts else ""
        pixels = apply_colormap(normalise(values, limits, scale_name), colormap)
        images.append(DisplayedImage(pixels, f"{limits[0]:.3g} to {limits[1]:.3g}{unit}"))
    return images


def contrast_limits(patterns: Patterns, *, shared: bool = True) -> tuple[tuple[float, float], ...]:
    """Contrast limits (low, high) of the first group: recorded, reconstruction, residual.

    Shared limits are those of the reconstruction, which has less noise. Those of the residual are symmetric, and at
    least three standard deviations for counts.
    """
    recorded, residual = pattern_limits(patterns.recorded[0]), patterns.residual
    if patterns.reconstruction is None or residual is None:
        return recorded, recorded, (-1.0, 1.0)
    reconstruction, magnitude = pattern_limits(patterns.reconstruction[0]), np.abs(residual[0])
    limit = float(np.nanpercentile(magnitude, 99.5)) if np.isfinite(magnitude).any() else 0.0
    limit = max(limit, _MIN_SIGMA) if patterns.counts else limit or 1.0
    return reconstruction if shared else recorded, reconstruction, (-limit, limit)


def pattern_limits(values: np.ndarray) -> tuple[float, float]:
    """Contrast limits of a pattern (H, W): 0 or the minimum, and the 99.5th percentile, which excludes hot pixels."""
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = min(0.0, float(values.min())), float(np.percentile(values, 99.5))
    high = high if high > low else float(values.max())  # a few electrons on an empty detector
    return low, high if high > low else low + 1.0


def normalise(values: np.ndarray, limits: tuple[float, float], scale: str = "linear") -> np.ndarray:
    """Map values to 0 (lower limit and below) ... 1 (upper limit and above); NaN stays NaN.

    Parameters
    ----------
    values : ndarray, shape (H, W)
        Intensities.
    limits : (float, float)
        Contrast limits.
    scale : {"linear", "square root", "log"}
        The logarithmic scale spans three decades below the upper limit.
    """
    low, high = limits
    linear = np.clip((np.asarray(values, dtype=np.float32) - low) / ((high - low) or 1.0), 0, 1)
    if scale == "square root":
        return np.sqrt(linear)
    return np.log1p(_LOG_RANGE * linear) / math.log1p(_LOG_RANGE) if scale == "log" else linear


def reciprocal_origin(axes: tuple[Axis, Axis]) -> tuple[float, float]:
    """Detector row and column where both coordinates are 0; the detector's centre if that is not on the detector."""
    y, x = (-axis.offset / axis.scale if axis.scale else 0.0 for axis in axes)
    if 0 < y < axes[0].size - 1 and 0 < x < axes[1].size - 1:
        return y, x
    return (axes[0].size - 1) / 2, (axes[1].size - 1) / 2


def describe_pixel(axes: tuple[Axis, Axis], row: int, column: int, value: float) -> str:
    """Pixel, value, distance from the reciprocal origin, and lattice spacing if units are reciprocal."""
    text = f"row {row}, column {column}: " + ("excluded" if math.isnan(value) else f"{value:.4g}")
    y, x = axes
    if not x.units or x.units != y.units:
        return text
    origin_y, origin_x = reciprocal_origin(axes)
    k = math.hypot((row - origin_y) * y.scale, (column - origin_x) * x.scale)
    text += f"; |k| = {k:.3g} {printed_units(x.units)}"
    return text + (
        f", d = {1 / k:.3g} {printed_units(x.units[2:])}" if x.units.startswith("1/") and k else ""
    )


def describe_position(axes: tuple[Axis, Axis], position: tuple[int, int]) -> str:
    """Scan row and column, and the calibrated coordinates."""
    text = "row {}, column {}".format(*position)
    y, x = axes
    if not x.units or x.units != y.units:
        return text
    down, across = (axis.offset + n * axis.scale for axis, n in zip(axes, position, strict=True))
    return f"{text} (y = {down:.4g}, x = {across:.4g} {printed_units(x.units)})"
