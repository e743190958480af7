"""Scale bars, printed units and pixel aspect ratios of axes, for figures and napari."""

from __future__ import annotations

import math

from .scan import Axis

__all__ = ["pixel_aspect", "printed_units", "scale_bar"]


def scale_bar(axis: Axis) -> tuple[float, str]:
    """Scale bar of about a quarter of an axis: its length in pixels, and its label, a round number with units."""
    is_calibrated = bool(axis.units and axis.scale)
    step = abs(axis.scale) if is_calibrated else 1.0
    quarter = step * axis.size / 4
    power = 10.0 ** math.floor(math.log10(quarter))
    length = max(n * power for n in (1, 2, 5) if n * power <= quarter * (1 + 1e-9))
    return length / step, f"{length:g} {printed_units(axis.units) if is_calibrated else 'px'}"


def printed_units(units: str) -> str:
    """Units as they are printed: ``"1/angstrom"`` is Å⁻¹."""
    reciprocal = units.startswith("1/")
    printed = units.removeprefix("1/").replace("angstrom", "Å").replace("um", "µm")
    return f"{printed}⁻¹" if reciprocal else printed


def pixel_aspect(y: Axis, x: Axis) -> float:
    """Pixel aspect ratio (height / width) if both axes have the same units, else 1."""
    is_calibrated = y.units == x.units != "" and x.scale and y.scale
    return abs(y.scale / x.scale) if is_calibrated else 1.0
