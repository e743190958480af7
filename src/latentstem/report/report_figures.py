"""Pictures that only a report has: curves, the comparison with baselines, images of the scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import Normalize

from ..scan.scan import Axis
from .figures import _colour_bar, _colours, _figure, _image, _robust, _written
from .virtual_image_comparison import Survey

__all__ = ["comparison", "curves", "scan_images"]


def curves(history: dict[str, list[float]], path: Path) -> Path:
    """Draw losses, and the terms of the objective, over the patterns seen.

    Parameters
    ----------
    history : dict
        `LatentModel.history`.
    path : Path
        Image file.
    """
    figure, grid = _figure(1, 2, 4.5, 3.0)
    seen = history.get("patterns_seen", [])
    for ax, names in zip(grid.flat, (["loss"], _terms(history)), strict=True):
        for part, line in (("train", "-"), ("val", "--")):
            for colour, name in enumerate(names):
                values = history.get(f"{part}/{name}", [])
                label = {"train": "training", "val": "held-out positions"}[part]
                ax.plot(
                    seen[: len(values)], values[: len(seen)], line, color=f"C{colour}",
                    label=label if names == ["loss"] else f"{name}, {label}",
                )  # fmt: skip
        ax.set_xlabel("patterns seen")
        ax.legend(fontsize=7)
        ax.ticklabel_format(axis="x", style="sci", scilimits=(0, 4))
    grid[0, 0].set_title("loss", fontsize=10)
    grid[0, 1].set_title("its terms, unweighted", fontsize=10)
    return _written(figure, path)


def comparison(found: dict[str, Any], path: Path) -> Path:
    """Draw the held-out loss over the number of components, for the model and the baselines.

    Parameters
    ----------
    found : dict
        What `evidence.compare` gives.
    path : Path
        Image file.
    """
    figure, grid = _figure(1, 1, 6.0, 3.4)
    ax, methods = grid[0, 0], found["methods"]
    for name, method in methods.items():
        if "by_components" in method:
            sizes = sorted(method["by_components"])
            losses = [method["by_components"][size] for size in sizes]
            (line,) = ax.plot(sizes, losses, ".-", label=name)
            ax.plot(method["best"]["components"], method["best"]["loss"], "o", color=line.get_color())
    own = methods["autoencoder"]["best"]
    ax.axhline(own["loss"], color="k", linewidth=0.8, linestyle=":")
    ax.plot(own["components"], own["loss"], "k*", markersize=12, label="this autoencoder")
    lowest = min(method["best"]["loss"] for method in methods.values())
    others = [method["same_size"]["loss"] for name, method in methods.items() if name != "autoencoder"]
    span = max(min(others), own["loss"]) - lowest or 1.0
    ax.set_ylim(lowest - 0.1 * span, lowest + 1.8 * span)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("components, or latents")
    unit = "Poisson deviance" if found["kind"] == "counts" else "squared error / noise variance"
    ax.set_ylabel(f"held-out {unit}\nper pattern (lower is better)")
    ax.legend(fontsize=8)
    return _written(figure, path)


def scan_images(seen: Survey, axes: tuple[Axis, Axis], path: Path) -> Path:
    """Draw each image of the scan before, after, and their difference; then the map of residuals.

    Parameters
    ----------
    seen : Survey
        The images.
    axes : (Axis, Axis)
        The two scan axes.
    path : Path
        Image file.
    """
    ny, nx = seen.residual.shape
    height = 2.6 * float(np.clip(ny / nx, 0.35, 2.5))
    figure, grid = _figure(len(seen.before) + 1, 3, 3.4, height + 0.35)
    for row, (name, before) in enumerate(seen.before.items()):
        after = seen.after[name]
        shared, difference = _robust(np.stack([before, after])), after - before
        most = float(np.nanpercentile(np.abs(difference), 99)) or 1.0
        panels = (
            (name + ", recorded", before, "viridis", shared),
            ("reconstructed", after, "viridis", shared),
            ("difference", difference, "RdBu_r", Normalize(-most, most)),
        )
        for column, (title, values, colours, norm) in enumerate(panels):
            ax = grid[row, column]
            image = _image(ax, values, axes, _colours(colours), norm, first=row == column == 0)
            ax.set_title(title, fontsize=9)
            _colour_bar(figure, image, ax)
    image = _image(grid[-1, 0], seen.residual, axes, _colours("magma"), _robust(seen.residual), first=False)
    grid[-1, 0].set_title("residual: χ² per pixel", fontsize=9)
    _colour_bar(figure, image, grid[-1, 0])
    finite = seen.residual[np.isfinite(seen.residual)]
    grid[-1, 1].hist(finite, bins=60, color="0.4", log=True)
    grid[-1, 1].axvline(1, color="C3", linewidth=1)
    grid[-1, 1].set_xlabel("χ² per pixel (1: only noise is left)", fontsize=8)
    grid[-1, 1].set_ylabel("scan positions", fontsize=8)
    grid[-1, 1].tick_params(labelsize=7)
    grid[-1, 2].set_axis_off()
    return _written(figure, path)


def _terms(history: dict[str, list[float]]) -> list[str]:
    names = [name.removeprefix("train/") for name in history if name.startswith("train/")]
    return [name for name in names if name != "loss"]
