"""The latents of all scan positions as points: table, projections to two dimensions, selection by an outline.

The points are the rows of a table (n, k), one per scan position that is not excluded, in row-major order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latentstem.errors import ArgumentError

if TYPE_CHECKING:
    from latentstem import Embedding

__all__ = [
    "PROJECTIONS",
    "ProjectedLatents",
    "Projection",
    "in_polygon",
    "latent_table",
    "project",
    "subsample",
    "view_limits",
]

PROJECTIONS = ("two latents", "PCA", "UMAP")
_UMAP_POINTS = 10_000  # points that UMAP is fitted to; the others are then transformed


class Projection(NamedTuple):
    """Latents in two dimensions.

    Parameters
    ----------
    xy : ndarray, shape (n, 2), float32
        Coordinates of each point.
    axis_labels : (str, str)
        Labels of the two axes.
    latents : (int, int), optional
        Numbers of the two latents, if these are the axes.
    """

    xy: np.ndarray
    axis_labels: tuple[str, str]
    latents: tuple[int, int] | None = None


class ProjectedLatents(NamedTuple):
    """The latents of a scan and their projection.

    Parameters
    ----------
    table : ndarray, shape (n, k)
        Latents.
    positions : ndarray of int, shape (n,)
        Flat scan position of each row.
    projection : Projection
        The table in two dimensions.
    """

    table: np.ndarray
    positions: np.ndarray
    projection: Projection

    @classmethod
    def of(cls, embedding: Embedding, method: str, latents: tuple[int, int] | None) -> ProjectedLatents:
        """Project an embedding; `latents` defaults to the two of largest variance."""
        table, positions = latent_table(embedding)
        if latents is None and embedding.latent_dim > 1:
            first, second = np.argsort(-table.std(0), kind="stable")[:2]
            latents = int(first), int(second)
        return cls(table, positions, project(table, method, latents or (0, 0)))


def latent_table(embedding: Embedding) -> tuple[np.ndarray, np.ndarray]:
    """Latents of the scan positions that are not excluded.

    Returns
    -------
    table : ndarray, shape (n, k), float32
    positions : ndarray of int, shape (n,)
        Flat scan position of each row.
    """
    flat = embedding.maps.reshape(-1, embedding.latent_dim)
    positions = np.flatnonzero(np.isfinite(flat).all(1))
    return flat[positions], positions


def project(table: np.ndarray, method: str, latents: tuple[int, int] = (0, 1)) -> Projection:
    """Project latents to two dimensions.

    Parameters
    ----------
    table : ndarray, shape (n, k)
        Latents.
    method : {"two latents", "PCA", "UMAP"}
        UMAP is fitted to at most 10,000 of the points.
    latents : (int, int)
        Numbers of the two latents to show.

    Raises
    ------
    ArgumentError
        If there are fewer than two latents or three points, or umap-learn is not installed.
    """
    n, k = table.shape
    if k < 2 or n < 3:
        raise ArgumentError(
            "the latents cannot be projected to two dimensions",
            expected="at least 2 latents and 3 scan positions",
            received=f"{k} latents of {n} positions",
            advice="Train with latent_dim=2 or more, or exclude fewer positions.",
        )
    if method == "UMAP":
        return Projection(_umap(table), ("UMAP 1", "UMAP 2"))
    if method == "PCA":
        centred = table - table.mean(0)
        variance, directions = np.linalg.eigh(centred.T.astype(np.float64) @ centred / n)
        first, second = variance[::-1][:2] / (variance.sum() or 1.0)
        labels = f"PC 1 ({first:.0%} of the variance)", f"PC 2 ({second:.0%} of the variance)"
        return Projection(centred @ directions[:, ::-1][:, :2].astype(np.float32), labels)
    labels = f"latent {latents[0]}", f"latent {latents[1]}"
    return Projection(table[:, list(latents)], labels, latents)


def view_limits(xy: np.ndarray) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of a view of the points (n, 2), without a few outliers."""
    low, high = np.percentile(xy, (0.1, 99.9), axis=0)
    margin = 0.08 * (high - low) + 1e-6 * (np.abs(low) + np.abs(high)) + 1e-12
    (x0, y0), (x1, y1) = low - margin, high + margin
    return float(x0), float(x1), float(y0), float(y1)


def in_polygon(xy: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Whether each of the points (n, 2) is inside a polygon (m, 2), shape (n,), bool."""
    from matplotlib.path import Path

    result = np.zeros(len(xy), bool)
    if len(polygon) >= 3:
        in_bounding_box = ((xy >= polygon.min(0)) & (xy <= polygon.max(0))).all(1)
        result[in_bounding_box] = Path(polygon).contains_points(xy[in_bounding_box])
    return result


def _umap(table: np.ndarray) -> np.ndarray:
    try:
        from umap import UMAP
    except ImportError:
        raise ArgumentError(
            "UMAP is not installed",
            expected="the package umap-learn",
            received="an environment without it",
            advice="Run `pip install umap-learn` and start napari again, or choose PCA.",
        ) from None
    fitted = UMAP(n_components=2, random_state=0, n_jobs=1).fit(subsample(table, _UMAP_POINTS, 0))
    projected = fitted.embedding_ if len(table) <= _UMAP_POINTS else fitted.transform(table)
    return np.asarray(projected, dtype=np.float32)


def subsample(points: np.ndarray, max_points: int, seed: int) -> np.ndarray:
    """At most `max_points` of the points (n, k), drawn at random, in their order."""
    if len(points) <= max_points:
        return points
    return points[np.sort(np.random.default_rng(seed).choice(len(points), max_points, replace=False))]
