"""Latent maps as a HyperSpy signal, registered in ``hyperspy_extension.yaml`` as the type ``latent_maps``."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hyperspy.signals import LazySignal, Signal2D

from ..inference.embedding import Embedding

__all__ = ["LatentMaps", "LazyLatentMaps"]


class LatentMaps(Signal2D):
    """Latent maps of a scan, one image per latent: the result of ``signal.embed(model)``.

    The latents lie on the navigation axis, named ``latent``; the two signal axes are the scan axes of the
    embedded signal, with their calibration. ``data`` has the shape (k, Ny, Nx), float32, NaN where a scan
    position was excluded. It is a `Signal2D` and is saved, plotted and sliced like one. For a series,
    ``data`` has shape (T, k, Ny, Nx), and the slowest navigation axis follows ``latent``.

    Examples
    --------
    Plot all maps, and take the map of the third latent as an image:

    >>> maps = signal.embed(model)  # doctest: +SKIP
    >>> maps.plot()  # doctest: +SKIP
    >>> third = maps.inav[2]  # doctest: +SKIP

    Cluster with HyperSpy, which needs the scan on the navigation axes, hence the transpose:

    >>> signal.cluster_analysis(cluster_source=maps.T, n_clusters=4)  # doctest: +SKIP
    >>> grains = signal.get_cluster_labels()  # doctest: +SKIP

    Cluster with scikit-learn:

    >>> labels = KMeans(4).fit_predict(maps.as_loadings()).reshape(maps.data.shape[1:])  # doctest: +SKIP
    """

    _signal_type = "latent_maps"

    @classmethod
    def from_embedding(
        cls, embedding: Embedding | list[Embedding], axes: list[dict[str, Any]], title: str = ""
    ) -> LatentMaps:
        """The latent maps of a scan, or of the scans of a series, as one signal.

        Parameters
        ----------
        embedding : Embedding or list of Embedding
            Maps of shape (Ny, Nx, k), of a series one for each scan.
        axes : list of dict
            The two scan axes, rows first, as ``get_axis_dictionary()`` of a HyperSpy axis gives them; of a series, the
            axis along it comes first.
        title : str
            Title of the embedded signal.
        """
        embeddings = embedding if isinstance(embedding, list) else [embedding]
        *series_axes, y, x = axes
        data = np.stack([np.moveaxis(part.maps, -1, 0) for part in embeddings])
        navigation_axes = [*series_axes, {"name": "latent", "size": data.shape[1]}]
        maps = cls(
            data if series_axes else data[0],
            axes=[{**a, "navigate": True} for a in navigation_axes]
            + [{**a, "navigate": False} for a in (y, x)],
        )
        maps.metadata.General.title = f"Latent maps of {title}" if title else "Latent maps"
        provenance = dict(embeddings[0].provenance)
        if series_axes:
            provenance["applied_to"] = [part.provenance.get("applied_to") for part in embeddings]
        maps.metadata.set_item("LatentSTEM.provenance", json.dumps(provenance))
        return maps

    @property
    def provenance(self) -> dict[str, Any]:
        """What the maps were made from and with; kept in ``metadata.LatentSTEM``."""
        return dict(json.loads(self.metadata.get_item("LatentSTEM.provenance", "{}")))

    def as_loadings(self) -> np.ndarray:
        """The latents as a matrix, one row per scan position.

        Returns
        -------
        ndarray, shape (Ny * Nx, k), float32
            Rows in row-major order of the scan, as ``learning_results.loadings`` has them; of a series, one scan
            after the other.
        """
        maps = np.asarray(self.data)
        return np.moveaxis(maps, -3, -1).reshape(-1, maps.shape[-3])


class LazyLatentMaps(LazySignal, LatentMaps):
    """`LatentMaps` whose data are a dask array, as ``hs.load(..., lazy=True)`` gives them."""
