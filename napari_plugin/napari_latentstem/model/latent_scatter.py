"""Scatter plots of latents as images: density, or points in the colours of their clusters.

A million points take a few hundredths of a second, because they are binned into pixels instead of drawn one by one.
"""

from __future__ import annotations

import colorsys

import matplotlib
import numpy as np

__all__ = ["SELECTED_COLOUR", "STYLES", "cluster_colours", "draw_scatter", "pixel_index", "topmost_points"]

STYLES = ("density", "points")
SELECTED_COLOUR = (255, 60, 172)  # magenta, which is not in the colour map of the density
_NO_CLUSTER_COLOUR = (140, 140, 150)
_UNSELECTED_ALPHA = 70  # of 255, of the points outside a selection
_MAX_BIN_SIZE = 6  # pixels: largest bin of the density
_RADIUS_2_POINTS = 5_000  # largest number of points drawn with a radius of 2 pixels
_RADIUS_1_POINTS = 100_000  # ... and of 1 pixel


def cluster_colours(n: int) -> np.ndarray:
    """A colour for each cluster, shape (n + 1, 3), uint8; the first is for points in no cluster."""
    tab10 = np.rint(matplotlib.colormaps["tab10"](np.arange(10))[:, :3] * 255)
    turns = np.arange(max(0, n - 10)) * 0.618034
    further_colours = [
        colorsys.hsv_to_rgb((0.05 + turn) % 1, 0.55 + 0.35 * (turn * 7 % 1), 0.9) for turn in turns
    ]
    palette = [
        np.array([_NO_CLUSTER_COLOUR]),
        tab10[:n],
        np.rint(np.array(further_colours).reshape(-1, 3) * 255),
    ]
    return np.concatenate(palette).astype(np.uint8)


def draw_scatter(
    xy: np.ndarray,
    view: tuple[float, float, float, float],
    shape: tuple[int, int],
    style: str,
    labels: np.ndarray | None = None,
    selected: np.ndarray | None = None,
) -> np.ndarray:
    """Draw a scatter plot of latents.

    Parameters
    ----------
    xy : ndarray, shape (n, 2)
        Points.
    view : (float, float, float, float)
        Left, right, bottom and top of the plot.
    shape : (int, int)
        Rows and columns of the image; a density of few points has fewer.
    style : {"density", "points"}
        The density has a logarithmic scale.
    labels : ndarray of int, shape (n,), optional
        Cluster numbers, which give the points their colours; 0 for no cluster.
    selected : ndarray of bool, shape (n,), optional
        Points to highlight.

    Returns
    -------
    ndarray, shape (rows, columns, 4), uint8
        Transparent where there are no points.
    """
    if style == "density":
        bin_size = int(np.clip(np.sqrt(shape[0] * shape[1] / max(len(xy), 1)), 1, _MAX_BIN_SIZE))
        shape = max(1, shape[0] // bin_size), max(1, shape[1] // bin_size)
        return _draw_density(pixel_index(xy, view, shape), shape, selected)
    index = pixel_index(xy, view, shape)
    order = np.random.default_rng(0).permutation(len(xy))  # so that no cluster covers the others
    if selected is not None:
        order = np.concatenate([order[~selected[order]], order[selected[order]]])
    radius = 2 if len(xy) <= _RADIUS_2_POINTS else 1 if len(xy) <= _RADIUS_1_POINTS else 0
    topmost = topmost_points(index, shape, radius, order)
    cluster_numbers = np.zeros(len(xy), np.int64) if labels is None else labels
    palette = cluster_colours(int(cluster_numbers.max(initial=0)))
    image = np.zeros((*shape, 4), np.uint8)
    is_drawn = topmost >= 0
    point = topmost[is_drawn]
    image[is_drawn, :3], image[is_drawn, 3] = palette[cluster_numbers[point]], 255
    if selected is not None and selected.any():
        highlighted = selected[point]
        unlabelled = highlighted & (cluster_numbers[point] == 0)
        image[is_drawn, 3] = np.where(highlighted, 255, _UNSELECTED_ALPHA)
        image[is_drawn, :3] = np.where(unlabelled[:, None], SELECTED_COLOUR, image[is_drawn, :3])
    return image


def _draw_density(index: np.ndarray, shape: tuple[int, int], selected: np.ndarray | None) -> np.ndarray:
    counts = _counts(index, shape)
    level = np.log1p(counts) / max(float(np.log1p(counts.max(initial=0))), 1e-9)
    # without the darkest colours, so that single points are visible on a dark background
    image = matplotlib.colormaps["viridis"](0.2 + 0.8 * level, bytes=True)
    image[..., 3] = np.where(counts > 0, 255, 0)
    if selected is not None and selected.any():
        highlighted = 2 * _counts(index[selected], shape) >= np.maximum(counts, 1)
        brightness = (0.6 + 0.4 * level[highlighted])[:, None]
        image[highlighted, :3] = np.rint(brightness * SELECTED_COLOUR)
    return image


def _counts(index: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.bincount(index + 1, minlength=shape[0] * shape[1] + 1)[1:].reshape(shape)


def pixel_index(
    xy: np.ndarray, view: tuple[float, float, float, float], shape: tuple[int, int]
) -> np.ndarray:
    """Index of the image pixel that contains each point.

    Parameters
    ----------
    xy : ndarray, shape (n, 2)
        Points.
    view : (float, float, float, float)
        Left, right, bottom and top of the image.
    shape : (int, int)
        Rows (from the top) and columns of the image.

    Returns
    -------
    ndarray of int, shape (n,)
        Row-major index; -1 for points outside the image.
    """
    (rows, columns), (x0, x1, y0, y1) = shape, view
    column = np.floor((xy[:, 0] - x0) * np.float32(columns / (x1 - x0)))
    row = np.floor((y1 - xy[:, 1]) * np.float32(rows / (y1 - y0)))
    is_inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    return np.where(is_inside, row * columns + column, -1).astype(np.int64)


def topmost_points(index: np.ndarray, shape: tuple[int, int], radius: int, order: np.ndarray) -> np.ndarray:
    """The topmost point at each pixel, where points are overlapping disks.

    Parameters
    ----------
    index : ndarray of int, shape (n,)
        Pixel of each point; see `pixel_index`.
    shape : (int, int)
        Rows and columns of the image.
    radius : int
        Radius of the disks in pixels.
    order : ndarray of int, shape (m,)
        Points to draw, from bottom to top.

    Returns
    -------
    ndarray of int, shape (rows, columns)
        Point number; -1 for none.
    """
    from scipy.ndimage import grey_dilation

    rank = np.full(shape[0] * shape[1] + 1, -1, np.int64)  # the last entry is for points outside
    rank[index[order]] = np.arange(len(order))
    rank = rank[:-1].reshape(shape)
    if radius:
        step = np.arange(-radius, radius + 1)
        rank = grey_dilation(rank, footprint=np.hypot(*np.meshgrid(step, step)) <= radius + 0.5)
    return np.append(order, -1)[rank]
