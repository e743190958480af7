"""Panels of figures: images with scale bars and colour bars, in one style.

Uses matplotlib figures directly, without ``pyplot`` or a backend.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from ..scan.scale_bar import pixel_aspect, scale_bar
from ..scan.scan import Axis
from ..util.whole_file import atomic_write

__all__ = [
    "draw_image",
    "new_figure",
    "percentile_norm",
    "relative_height",
    "save_figure",
    "symmetric_norm",
]

_EXCLUDED_GREY = "0.6"
_DPI = 150


def new_figure(rows: int, columns: int, width: float, height: float) -> tuple[Figure, Any]:
    """A figure and its grid of panels, each of this size in inches."""
    figure = Figure(figsize=(columns * width, rows * height + 0.3), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def draw_image(
    ax: Axes,
    values: Any,
    axes: tuple[Axis, Axis],
    colours: str,
    norm: Normalize,
    *,
    with_scale_bar: bool = False,
    with_colour_bar: bool = True,
) -> None:
    """Draw one panel; the one with the scale bar gets axis ticks instead if it is uncalibrated."""
    y, x = axes
    aspect = pixel_aspect(y, x)
    is_elongated = not 0.3 < aspect * y.size / x.size < 3
    image = ax.imshow(
        values,
        cmap=matplotlib.colormaps[colours].with_extremes(bad=_EXCLUDED_GREY),
        norm=norm,
        interpolation="nearest",
        aspect="auto" if is_elongated else aspect,
    )
    ax.set_xticks([])
    ax.set_yticks([])
    if with_scale_bar and x.units and x.scale:
        _draw_scale_bar(ax, x, y.size)
    elif with_scale_bar:
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(4, integer=True))
            axis.set_tick_params(labelsize=8)
    if with_colour_bar:
        _draw_colour_bar(ax, image)


def _draw_colour_bar(ax: Axes, image: AxesImage) -> None:
    """Draw a colour bar beside a panel."""
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.85, pad=0.02, aspect=18)
    bar.ax.tick_params(labelsize=7)
    low, high = image.get_clim()
    bar.set_ticks([tick for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high])


def relative_height(y: Axis, x: Axis) -> float:
    """Height of a panel relative to its width, within limits."""
    return float(np.clip(pixel_aspect(y, x) * y.size / x.size, 0.35, 2.5))


def percentile_norm(values: np.ndarray) -> Normalize:
    """Contrast from the 1st to the 99th percentile."""
    if not np.isfinite(values).any():
        return Normalize(0, 1)
    low, high = np.nanpercentile(values, (1, 99))
    return Normalize(low, high if high > low else low + 1)


def symmetric_norm(values: np.ndarray, percentile: float = 99.0) -> Normalize:
    """Contrast symmetric about 0, to a percentile of the magnitude."""
    limit = float(np.nanpercentile(np.abs(values), percentile)) if np.isfinite(values).any() else 0.0
    return Normalize(-(limit or 1.0), limit or 1.0)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure to an image file; the suffix selects the format."""
    path = Path(path)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=_DPI)
    return path


def _draw_scale_bar(ax: Axes, axis: Axis, rows: int) -> None:
    length, label = scale_bar(replace(axis, units=_escape_units(axis.units)))
    bar = AnchoredSizeBar(
        ax.transData, length, label, "lower left", pad=0.4, sep=5, color="white", frameon=False,
        size_vertical=rows / 60, fontproperties={"size": 9}, label_top=True,
    )  # fmt: skip
    outline = [patheffects.withStroke(linewidth=2.5, foreground="black")]
    for artist in (bar.txt_label._text, *bar.size_bar.get_children()):
        artist.set_path_effects(outline)
    ax.add_artist(bar)


def _escape_units(units: str) -> str:
    """Units that matplotlib can draw: short, and no formula."""
    short = units if len(units) < 30 else f"{units[:27]}..."
    return "".join(c if c.isprintable() else "?" for c in short).replace("$", r"\$")
