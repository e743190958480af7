"""Pictures of latent maps and of reconstructions, as image files.

Drawn on matplotlib figures of their own: no backend is chosen and ``pyplot`` is left alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from .atomic import written_whole
from .embedding import Embedding
from .errors import ArgumentError
from .scan import Axis

__all__ = ["latent_maps", "pixel_aspect", "printed_units", "reconstructions", "residual", "scale_bar"]

MAX_MAPS = 16
_EXCLUDED = "0.6"  # grey of what was excluded
_PANEL = 2.3  # inches
_DPI = 150


def latent_maps(
    embedding: Embedding, path: str | Path, truth: Mapping[str, np.ndarray] | None = None
) -> Path:
    """Draw the maps of the latents that vary most, the most varying first.

    Parameters
    ----------
    embedding : Embedding
        Maps of shape (Ny, Nx, k); at most 16 of them are drawn.
    path : str or Path
        Image file; its suffix says which kind.
    truth : mapping of str to ndarray of int, shape (Ny, Nx), optional
        Label maps to draw first, such as known grains, by title. Negative labels are left blank.

    Returns
    -------
    Path
        Where it was written.
    """
    labels = dict(truth or {})
    for title, values in labels.items():
        if values.shape != embedding.maps.shape[:2]:
            raise ArgumentError(
                f"the map {title!r} does not fit the latent maps",
                expected=f"shape {embedding.maps.shape[:2]}",
                received=f"shape {values.shape}",
                advice="Give one label per scan position.",
            )
    spread = np.ma.masked_invalid(embedding.maps).std(axis=(0, 1)).filled(0)
    shown = np.argsort(-spread, kind="stable")[:MAX_MAPS]
    panels = len(labels) + len(shown)
    columns = panels if panels <= 4 else min((4, 5, 6), key=lambda n: (-panels % n, n))
    y, x = embedding.axes
    height = _PANEL * float(np.clip(pixel_aspect(y, x) * y.size / x.size, 0.35, 2.5))
    figure, grid = _figure(-(-panels // columns), columns, _PANEL + 0.7, height + 0.4)
    for n, (title, values) in enumerate(labels.items()):
        image = np.ma.masked_less(values, 0)
        colours = Normalize(-0.5, max(19.5, float(values.max()) + 0.5))
        _image(grid.flat[n], image, (y, x), _colours("tab20"), colours, first=n == 0)
        grid.flat[n].set_title(title, fontsize=10)
    for n, latent in enumerate(shown, start=len(labels)):
        values = embedding.maps[..., latent]
        image = _image(grid.flat[n], values, (y, x), _colours("viridis"), _robust(values), first=n == 0)
        grid.flat[n].set_title(f"latent {latent}", fontsize=10)
        _colour_bar(figure, image, grid.flat[n])
    for unused in grid.flat[panels:]:
        unused.set_axis_off()
    if len(shown) < embedding.latent_dim:
        title = f"the {len(shown)} of {embedding.latent_dim} latents that vary most"
        figure.suptitle(title, fontsize=10)
    return _written(figure, path)


def reconstructions(
    patterns: np.ndarray,
    reconstructed: np.ndarray,
    positions: Mapping[str, tuple[int, int]],
    path: str | Path,
    clean: np.ndarray | None = None,
    axes: tuple[Axis, Axis] | None = None,
) -> Path:
    """Draw diffraction patterns beside their reconstructions and what is left over.

    The patterns of each row share one grey scale, by the square root of the intensity.
    The residual is that of `residual`: in counts, it is in standard deviations of the counting noise.

    Parameters
    ----------
    patterns, reconstructed : ndarray, shape (n, H, W)
        As detected, and as the model has them (0 where a pixel was excluded).
    positions : mapping of str to (int, int)
        Scan row and column of each pattern, by what it is an example of ("typical", "worst").
    path : str or Path
        Image file; its suffix says which kind.
    clean : ndarray, shape (n, H, W), optional
        The noise-free patterns, where they are known.
    axes : (Axis, Axis), optional
        The two diffraction axes.

    Returns
    -------
    Path
        Where it was written.
    """
    stacks = {"raw": patterns, "reconstruction": reconstructed}
    if clean is not None:
        stacks["clean expectation"] = clean
    shapes = {name: np.shape(stack) for name, stack in stacks.items()}
    if np.ndim(patterns) != 3 or set(shapes.values()) != {(len(positions), *np.shape(patterns)[1:])}:
        raise ArgumentError(
            "the patterns do not belong together",
            expected=f"one stack (n, H, W) of each kind, n = {len(positions)} as there are positions",
            received=", ".join(f"{name} {shape}" for name, shape in shapes.items()),
            advice="Read the same scan positions of the scan and of its reconstruction.",
        )
    height, width = np.shape(patterns)[1:]
    ky, kx = axes or (Axis("ky", height), Axis("kx", width))
    tall = _PANEL * float(np.clip(pixel_aspect(ky, kx) * height / width, 0.35, 2.5))
    figure, grid = _figure(len(positions), len(stacks) + 1, _PANEL + 0.35, tall + 0.35)
    left_over = residual(patterns, reconstructed)
    most = float(np.nanpercentile(np.abs(left_over), 99.5)) if np.isfinite(left_over).any() else 0.0
    for row, (label, position) in enumerate(positions.items()):
        likely = np.concatenate([stack[row].ravel() for name, stack in stacks.items() if name != "raw"])
        low, high = min(0.0, float(likely.min())), float(np.percentile(likely, 99.5))
        grey = PowerNorm(0.5, low, high if high > low else low + 1, clip=True)
        for column, (name, stack) in enumerate(stacks.items()):
            image = _image(grid[row, column], stack[row], (ky, kx), _colours("gray"), grey, first=column == 0)
            grid[row, column].set_title(name if row == 0 else "", fontsize=10)
        _colour_bar(figure, image, grid[row, len(stacks) - 1])
        ends = Normalize(-(most or 1.0), most or 1.0)
        image = _image(grid[row, -1], left_over[row], (ky, kx), _colours("RdBu_r"), ends, first=False)
        _colour_bar(figure, image, grid[row, -1])
        about = f"{label}, row {position[0]}, column {position[1]}"
        grid[row, 0].set_ylabel(about, fontsize=9)
    grid[0, -1].set_title(r"(raw $-$ rec) / $\sqrt{\mathrm{rec}}$", fontsize=10)
    return _written(figure, path)


def residual(patterns: np.ndarray, reconstructed: np.ndarray) -> np.ndarray:
    """What a reconstruction leaves of a pattern, over the square root of the reconstruction.

    In counts this is in standard deviations of the counting noise. The divisor is at least the root of a
    tenth of the pattern's mean, so that one electron in the dark does not outshine everything else.

    Parameters
    ----------
    patterns, reconstructed : ndarray, shape (n, H, W)

    Returns
    -------
    ndarray, shape (n, H, W), float64
        NaN where the reconstruction is exactly 0: excluded pixels.
    """
    expected = np.asarray(reconstructed, dtype=np.float64)
    floor = 0.1 * np.abs(expected).mean((1, 2), keepdims=True)
    root = np.sqrt(np.maximum(expected, np.maximum(floor, np.finfo(np.float64).tiny)))
    return np.where(expected == 0, np.nan, (patterns - expected) / root)


def scale_bar(axis: Axis) -> tuple[float, str]:
    """Length of a scale bar, about a quarter of the image: in pixels, and as text in round numbers with units."""
    step = abs(axis.scale) if axis.units and axis.scale else 1.0
    quarter = step * axis.size / 4
    power = 10.0 ** math.floor(math.log10(quarter))
    length = max(n * power for n in (1, 2, 5) if n * power <= quarter * (1 + 1e-9))
    return length / step, f"{length:g} {printed_units(axis.units) or 'px'}"


def printed_units(units: str) -> str:
    """Units as they are printed: ``"1/angstrom"`` is Å⁻¹."""
    reciprocal = units.startswith("1/")
    printed = units.removeprefix("1/").replace("angstrom", "Å").replace("um", "µm")
    return f"{printed}⁻¹" if reciprocal else printed


def pixel_aspect(y: Axis, x: Axis) -> float:
    """Height over width of a pixel, if both axes have the same units; else 1."""
    calibrated = y.units == x.units != "" and x.scale and y.scale
    return abs(y.scale / x.scale) if calibrated else 1.0


def _figure(rows: int, columns: int, width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(columns * width, rows * height + 0.3), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _image(
    ax: Axes, values: Any, axes: tuple[Axis, Axis], colours: Colormap, norm: Normalize, first: bool
) -> AxesImage:
    """One panel, with a scale bar or the numbers of the positions where it is the first."""
    y, x = axes
    aspect = pixel_aspect(y, x)
    thin = not 0.3 < aspect * y.size / x.size < 3
    image = ax.imshow(
        values, cmap=colours, norm=norm, interpolation="nearest", aspect="auto" if thin else aspect
    )
    ax.set_xticks([])
    ax.set_yticks([])
    if first and x.units and x.scale:
        _scale_bar(ax, x, y.size)
    elif first:
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(4, integer=True))
            axis.set_tick_params(labelsize=8)
    return image


def _drawable(units: str) -> str:
    """Units as matplotlib can draw them: short, and no formula."""
    shown = units if len(units) < 30 else f"{units[:27]}..."
    return "".join(c if c.isprintable() else "?" for c in shown).replace("$", r"\$")


def _scale_bar(ax: Axes, axis: Axis, rows: int) -> None:
    length, label = scale_bar(replace(axis, units=_drawable(axis.units)))
    label = label.replace("⁻¹", "$^{-1}$")  # few fonts have the superscript minus
    bar = AnchoredSizeBar(
        ax.transData, length, label, "lower left", pad=0.4, sep=5, color="white",
        frameon=False, size_vertical=rows / 60, fontproperties={"size": 9}, label_top=True,
    )  # fmt: skip
    outline = [patheffects.withStroke(linewidth=2.5, foreground="black")]
    bar.txt_label._text.set_path_effects(outline)
    for piece in bar.size_bar.get_children():
        piece.set_path_effects(outline)
    ax.add_artist(bar)


def _colour_bar(figure: Figure, image: AxesImage, ax: Axes) -> None:
    bar = figure.colorbar(image, ax=ax, shrink=0.85, pad=0.02, aspect=18)
    bar.ax.tick_params(labelsize=7)
    low, high = image.get_clim()
    bar.set_ticks([tick for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high])


def _robust(values: np.ndarray) -> Normalize:
    """Contrast from the 1st to the 99th percentile."""
    if not np.isfinite(values).any():
        return Normalize(0, 1)
    low, high = np.nanpercentile(values, (1, 99))
    return Normalize(low, high if high > low else low + 1)


def _colours(name: str) -> Colormap:
    return matplotlib.colormaps[name].with_extremes(bad=_EXCLUDED)


def _written(figure: Figure, path: str | Path) -> Path:
    path = Path(path)
    with written_whole(path) as beside:
        figure.savefig(beside, dpi=_DPI)
    return path
