"""The cloud of latents as pixels: density, or points in the colours of their clusters.

Nothing here knows of Qt or napari. A million points take a few hundredths of a second, because they are counted into
pixels and not drawn one by one.
"""

from __future__ import annotations

import colorsys

import matplotlib
import numpy as np

from .latent_space import pixels, topmost

__all__ = ["SELECTED", "STYLES", "cluster_colours", "draw"]

STYLES = ("density", "points")
SELECTED = (255, 60, 172)  # magenta, which the colour map of the density has not
_NEUTRAL = (140, 140, 150)
_DIMMED = 70  # alpha, of 255, of points that are not selected while others are
_COARSEST = 6  # pixels along the edge of a bin of the density
_LARGE, _SMALL = 5_000, 100_000  # numbers of points up to which they are drawn with a radius of 2, and of 1


def cluster_colours(n: int) -> np.ndarray:
    """A colour for each cluster, shape (n + 1, 3), uint8; the first is for points of none."""
    first = np.rint(matplotlib.colormaps["tab10"](np.arange(10))[:, :3] * 255)
    turns = np.arange(max(0, n - 10)) * 0.618034
    more = [colorsys.hsv_to_rgb((0.05 + turn) % 1, 0.55 + 0.35 * (turn * 7 % 1), 0.9) for turn in turns]
    everything = [np.array([_NEUTRAL]), first[:n], np.rint(np.array(more).reshape(-1, 3) * 255)]
    return np.concatenate(everything).astype(np.uint8)


def draw(
    xy: np.ndarray,
    view: tuple[float, float, float, float],
    shape: tuple[int, int],
    style: str,
    labels: np.ndarray | None = None,
    selected: np.ndarray | None = None,
) -> np.ndarray:
    """A picture of the cloud.

    Parameters
    ----------
    xy : ndarray, shape (n, 2)
        The cloud.
    view : (float, float, float, float)
        Left, right, bottom, top.
    shape : (int, int)
        Rows and columns of the picture; those of a density are fewer where points are few.
    style : {"density", "points"}
        The density is on a logarithmic scale.
    labels : ndarray of int, shape (n,), optional
        Numbers of clusters, that points are coloured by; 0 for none.
    selected : ndarray of bool, shape (n,), optional
        Points that stand out.

    Returns
    -------
    ndarray, shape (rows, columns, 4), uint8
        Transparent where nothing is.
    """
    if style == "density":
        edge = int(np.clip(np.sqrt(shape[0] * shape[1] / max(len(xy), 1)), 1, _COARSEST))
        shape = max(1, shape[0] // edge), max(1, shape[1] // edge)
        return _density(pixels(xy, view, shape), shape, selected)
    where = pixels(xy, view, shape)
    order = np.random.default_rng(0).permutation(len(xy))  # so that no cluster covers the others
    if selected is not None:
        order = np.concatenate([order[~selected[order]], order[selected[order]]])
    seen = topmost(where, shape, 2 if len(xy) <= _LARGE else 1 if len(xy) <= _SMALL else 0, order)
    groups = np.zeros(len(xy), np.int64) if labels is None else labels
    palette = cluster_colours(int(groups.max(initial=0)))
    picture = np.zeros((*shape, 4), np.uint8)
    there = seen >= 0
    point = seen[there]
    picture[there, :3], picture[there, 3] = palette[groups[point]], 255
    if selected is not None and selected.any():
        chosen = selected[point]
        plain = chosen & (groups[point] == 0)
        picture[there, 3] = np.where(chosen, 255, _DIMMED)
        picture[there, :3] = np.where(plain[:, None], SELECTED, picture[there, :3])
    return picture


def _density(where: np.ndarray, shape: tuple[int, int], selected: np.ndarray | None) -> np.ndarray:
    counts = _counts(where, shape)
    share = np.log1p(counts) / max(float(np.log1p(counts.max(initial=0))), 1e-9)
    # the darkest part of the map is left out: single points are to be seen on a dark window, too
    picture = matplotlib.colormaps["viridis"](0.2 + 0.8 * share, bytes=True)
    picture[..., 3] = np.where(counts > 0, 255, 0)
    if selected is not None and selected.any():
        chosen = 2 * _counts(where[selected], shape) >= np.maximum(counts, 1)
        brightness = (0.6 + 0.4 * share[chosen])[:, None]
        picture[chosen, :3] = np.rint(brightness * SELECTED)
    return picture


def _counts(where: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.bincount(where + 1, minlength=shape[0] * shape[1] + 1)[1:].reshape(shape)
