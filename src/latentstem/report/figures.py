"""Figures of results and reports, as image files. The suffix of a path selects the format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import Normalize, PowerNorm

from ..inference.embedding import Embedding
from ..scan.scan import Axis
from .examples import residual, unsmoothed_latents
from .panels import draw_image, new_figure, percentile_norm, relative_height, save_figure, symmetric_norm

if TYPE_CHECKING:
    from ..inference.model import LatentModel
    from ..scan.scan import Scan
    from .virtual_image_comparison import VirtualImageComparison

__all__ = [
    "draw_comparison",
    "draw_curves",
    "draw_examples",
    "draw_latent_maps",
    "draw_reconstructions",
    "draw_virtual_images",
]

_MAX_MAPS = 16
_PANEL_WIDTH = 2.3  # inches


def draw_latent_maps(
    embedding: Embedding, path: str | Path, label_maps: Mapping[str, np.ndarray] | None = None
) -> Path:
    """Draw the maps of the latents with the largest variance, at most 16, in order of variance.

    Parameters
    ----------
    label_maps : mapping of str to ndarray of int, shape (Ny, Nx), optional
        Label maps to draw first, such as known grains, by title. Negative labels are left blank.
    """
    label_maps = label_maps or {}
    std = np.ma.masked_invalid(embedding.maps).std(axis=(0, 1)).filled(0)
    latents = np.argsort(-std, kind="stable")[:_MAX_MAPS]
    n_panels = len(label_maps) + len(latents)
    columns = n_panels if n_panels <= 4 else min((4, 5, 6), key=lambda n: (-n_panels % n, n))
    height = _PANEL_WIDTH * relative_height(*embedding.axes)
    figure, grid = new_figure(-(-n_panels // columns), columns, _PANEL_WIDTH + 0.7, height + 0.4)
    panels = iter(grid.flat)
    for title, labels in label_maps.items():
        ax, norm = next(panels), Normalize(-0.5, max(19.5, float(labels.max()) + 0.5))
        image = np.ma.masked_less(labels, 0)
        first = ax is grid[0, 0]
        draw_image(ax, image, embedding.axes, "tab20", norm, with_scale_bar=first, with_colour_bar=False)
        ax.set_title(title, fontsize=10)
    for latent in latents:
        ax, values = next(panels), embedding.maps[..., latent]
        first = ax is grid[0, 0]
        draw_image(ax, values, embedding.axes, "viridis", percentile_norm(values), with_scale_bar=first)
        ax.set_title(f"latent {latent}", fontsize=10)
    for ax in panels:
        ax.set_axis_off()
    if len(latents) < embedding.latent_dim:
        title = f"the {len(latents)} of {embedding.latent_dim} latents that vary most"
        figure.suptitle(title, fontsize=10)
    return save_figure(figure, path)


def draw_examples(
    model: LatentModel,
    scan: Scan,
    embedding: Embedding,
    positions: Mapping[str, tuple[int, int]],
    path: Path,
    noise_free: np.ndarray | None = None,
) -> Path:
    """Draw the patterns at some scan positions with their reconstructions; see `draw_reconstructions`.

    `noise_free` are the noise-free patterns of the scan, shape (Ny, Nx, H, W), if they are known.
    """
    index = tuple(np.array(list(positions.values())).T)
    patterns = scan.read(np.ravel_multi_index(index, scan.scan_shape))
    if scan.pattern_mask is not None:
        patterns = np.where(scan.pattern_mask, 0, patterns)
    reconstructed = model.decode(unsmoothed_latents(embedding)[index])
    noise_free = None if noise_free is None else noise_free[index]
    return draw_reconstructions(patterns, reconstructed, positions, path, noise_free, scan.axes[2:])


def draw_reconstructions(
    patterns: np.ndarray,
    reconstructed: np.ndarray,
    positions: Mapping[str, tuple[int, int]],
    path: str | Path,
    noise_free: np.ndarray | None = None,
    axes: tuple[Axis, Axis] | None = None,
) -> Path:
    """Draw patterns, reconstructions and residuals.

    The patterns of a row share one grey scale (square root of the intensity).
    The residual is that of `residual`: for counts, in standard deviations of the Poisson noise.

    Parameters
    ----------
    patterns, reconstructed : ndarray, shape (n, H, W)
        Recorded and reconstructed patterns (0 at excluded pixels).
    positions : mapping of str to (int, int)
        Scan row and column of each pattern, by what it is an example of ("typical", "worst").
    noise_free : ndarray, shape (n, H, W), optional
        The noise-free patterns, if they are known.
    axes : (Axis, Axis), optional
        The two diffraction axes.
    """
    stacks = {"recorded": patterns, "reconstruction": reconstructed}
    if noise_free is not None:
        stacks["noise-free"] = noise_free
    axes = axes or (Axis("ky", patterns.shape[1]), Axis("kx", patterns.shape[2]))
    panel_height = _PANEL_WIDTH * relative_height(*axes)
    figure, grid = new_figure(len(positions), len(stacks) + 1, _PANEL_WIDTH + 0.35, panel_height + 0.35)
    residuals = residual(patterns, reconstructed)
    norm = symmetric_norm(residuals, 99.5)
    for row, (label, position) in enumerate(positions.items()):
        predicted = np.stack([stack[row] for name, stack in stacks.items() if name != "recorded"])
        low, high = min(0.0, float(predicted.min())), float(np.percentile(predicted, 99.5))
        intensity_norm = PowerNorm(0.5, low, high if high > low else low + 1, clip=True)
        for column, stack in enumerate(stacks.values()):
            draw_image(
                grid[row, column], stack[row], axes, "gray", intensity_norm,
                with_scale_bar=column == 0, with_colour_bar=column == len(stacks) - 1,
            )  # fmt: skip
        draw_image(grid[row, -1], residuals[row], axes, "RdBu_r", norm)
        grid[row, 0].set_ylabel(f"{label}, row {position[0]}, column {position[1]}", fontsize=9)
    for ax, title in zip(grid[0], (*stacks, r"residual / $\sqrt{\mathrm{reconstruction}}$"), strict=True):
        ax.set_title(title, fontsize=10)
    return save_figure(figure, path)


def draw_curves(history: dict[str, list[float]], path: Path) -> Path:
    """Draw losses, and the terms of the objective, over the patterns seen; `history` is that of a `LatentModel`."""
    figure, grid = new_figure(1, 2, 4.5, 3.0)
    seen = history.get("patterns_seen", [])
    terms = [name.removeprefix("train/") for name in history if name.startswith("train/")]
    terms.remove("loss")
    for ax, names in zip(grid.flat, (["loss"], terms), strict=True):
        kinds = ("train", "-", "training positions"), ("val", "--", "held-out positions")
        for prefix, line, positions in kinds:
            for number, name in enumerate(names):
                values = history.get(f"{prefix}/{name}", [])
                label = positions if name == "loss" else f"{name}, {positions}"
                ax.plot(seen[: len(values)], values[: len(seen)], line, color=f"C{number}", label=label)
        ax.set_xlabel("patterns seen")
        ax.legend(fontsize=7)
        ax.ticklabel_format(axis="x", style="sci", scilimits=(0, 4))
    grid[0, 0].set_title("loss", fontsize=10)
    grid[0, 1].set_title("its terms, unweighted", fontsize=10)
    return save_figure(figure, path)


def draw_comparison(comparison: dict[str, Any], path: Path) -> Path:
    """Draw the held-out loss over the number of components; see `baseline_comparison.compare_with_baselines`."""
    figure, grid = new_figure(1, 1, 6.0, 3.4)
    ax, methods = grid[0, 0], comparison["methods"]
    for name, method in methods.items():
        if "by_components" in method:
            sizes = sorted(method["by_components"])
            losses = [method["by_components"][size] for size in sizes]
            (line,) = ax.plot(sizes, losses, ".-", label=name)
            ax.plot(method["best"]["components"], method["best"]["loss"], "o", color=line.get_color())
    model = methods["autoencoder"]["best"]
    ax.axhline(model["loss"], color="k", linewidth=0.8, linestyle=":")
    ax.plot(model["components"], model["loss"], "k*", markersize=12, label="this autoencoder")
    lowest = min(method["best"]["loss"] for method in methods.values())
    same_size = [method["same_size"]["loss"] for name, method in methods.items() if name != "autoencoder"]
    span = max(min(same_size), model["loss"]) - lowest or 1.0
    ax.set_ylim(lowest - 0.1 * span, lowest + 1.8 * span)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("components, or latents")
    unit = "Poisson deviance" if comparison["kind"] == "counts" else "squared error / noise variance"
    ax.set_ylabel(f"held-out {unit}\nper pattern (lower is better)")
    ax.legend(fontsize=8)
    return save_figure(figure, path)


def draw_virtual_images(images: VirtualImageComparison, axes: tuple[Axis, Axis], path: Path) -> Path:
    """Draw each virtual image recorded, reconstructed and their difference; then the map of chi squared per pixel."""
    height = 2.6 * relative_height(*axes)
    figure, grid = new_figure(len(images.recorded) + 1, 3, 3.4, height + 0.35)
    for row, (name, recorded) in enumerate(images.recorded.items()):
        reconstructed = images.reconstructed[name]
        norm = percentile_norm(np.stack([recorded, reconstructed]))
        difference = reconstructed - recorded
        draw_image(grid[row, 0], recorded, axes, "viridis", norm, with_scale_bar=row == 0)
        draw_image(grid[row, 1], reconstructed, axes, "viridis", norm)
        draw_image(grid[row, 2], difference, axes, "RdBu_r", symmetric_norm(difference))
        for ax, title in zip(grid[row], (f"{name}, recorded", "reconstructed", "difference"), strict=True):
            ax.set_title(title, fontsize=9)
    draw_image(grid[-1, 0], images.chi_squared, axes, "magma", percentile_norm(images.chi_squared))
    grid[-1, 0].set_title("χ² per pixel", fontsize=9)
    histogram = grid[-1, 1]
    histogram.hist(images.chi_squared[np.isfinite(images.chi_squared)], bins=60, color="0.4", log=True)
    histogram.axvline(1, color="C3", linewidth=1)
    histogram.set_xlabel("χ² per pixel (1: only noise is left)", fontsize=8)
    histogram.set_ylabel("scan positions", fontsize=8)
    histogram.tick_params(labelsize=7)
    grid[-1, 2].set_axis_off()
    return save_figure(figure, path)
