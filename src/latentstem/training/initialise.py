"""Fit statistics to the data, and initialise the weights of a run."""

from __future__ import annotations

import numpy as np

from ..nn.autoencoder import Autoencoder
from ..nn.scan_sample import sample_values, sample_with_neighbour_means
from ..scan.scan import Scan

__all__ = ["initialise", "sample_size"]

_MAX_SAMPLE_PATTERNS = 2048
_MAX_SAMPLE_VALUES = 2**26  # limit on sampled detector values (at least 64 patterns are used)


def initialise(
    autoencoder: Autoencoder, scan: Scan, positions: np.ndarray, counts: bool, start: Autoencoder | None
) -> None:
    """Fit statistics and principal components, and set the initial weights, of the autoencoder in place.

    Parameters
    ----------
    autoencoder, scan
    positions : ndarray of int
        Flat training positions.
    counts : bool
        Whether the data are electron counts.
    start : Autoencoder, optional
        Autoencoder of the checkpoint that gives the weights and their statistics.
    """
    seed, network = autoencoder.config.seed, autoencoder.network
    components, detector = autoencoder.principal_components, autoencoder.preprocessing.detector
    detector.set_mask(scan.pattern_mask)
    autoencoder.preprocessing.fit(sample_values(scan, positions, detector, seed), counts=counts)
    n_sample = sample_size(int(np.prod(detector.shape)))
    sample = np.sort(np.random.default_rng([seed, 5]).permutation(positions)[:n_sample])
    patterns, neighbour_means = sample_with_neighbour_means(scan, sample, detector)
    if start is not None:
        autoencoder.preprocessing.load_statistics(start.preprocessing)
        network.load_state_dict(start.network.state_dict())
        if network.n_components:
            components.load_state_dict(start.principal_components.state_dict())
            components.fit_noise(patterns)
    elif len(sample) > 1:  # principal components need more than one pattern
        if network.n_components:
            components.fit(patterns, neighbour_means, counts=counts, seed=seed)
        autoencoder.initialise(neighbour_means)


def sample_size(pixels: int) -> int:
    """Largest number of patterns of so many pixels in the sample that initialises a network."""
    return min(_MAX_SAMPLE_PATTERNS, max(64, _MAX_SAMPLE_VALUES // pixels))
