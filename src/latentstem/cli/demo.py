"""Demo: train on a simulated polycrystal and compare clusters of latents with the true grains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..io.open import as_scan
from ..report.html import write_page
from ..report.output_folder import RESULT_FILES, write_results
from ..simulation.simulate import SimulatedScan, simulate
from ..util.folders import keep_earlier_results

if TYPE_CHECKING:
    from ..inference.embedding import Embedding

__all__ = ["SCAN", "TRAINING", "find_grains", "run_demo"]

#: arguments of the simulation: 64 x 64 positions of 64 x 64 pixels, 500 electrons per pattern
SCAN: dict[str, Any] = {"scan_shape": (64, 64), "pattern_shape": (64, 64), "dose": 500.0, "n_grains": 12}
#: arguments of the training, which takes about a minute on two idle cores
TRAINING: dict[str, Any] = {"latent_dim": 16}


def run_demo(folder: Path, *, seed: int = 0, report: Callable[[str], object] = print) -> float:
    """Simulate a scan, train on it, and write data, model, pictures and a report.

    Results of an earlier run are moved to ``earlier-1`` (2, 3 ...) in the folder, and `report` gets a message about it.
    The result is the adjusted Rand index of true and found grains: 1 is perfect, 0 is chance.
    """
    from ..functions import train_autoencoder
    from ..scan.quality import measure_quality

    simulated = simulate(**SCAN, seed=seed)
    scan = as_scan(simulated)
    folder.mkdir(parents=True, exist_ok=True)
    with keep_earlier_results(folder, (*RESULT_FILES, "scan.npz"), report):
        _save_scan(simulated, folder / "scan.npz")
        model = train_autoencoder(scan, output_dir=folder, seed=seed, **TRAINING)
    agreement = []

    def grain_maps(embedding: Embedding) -> dict[str, np.ndarray]:
        labels, index = find_grains(embedding, simulated.truth["grain"])
        agreement.append(index)
        return {"true grains": simulated.truth["grain"], "found in the latents": labels}

    write_results(model, scan, folder, noise_free=simulated.expectation, label_maps=grain_maps)
    write_page(
        folder / "report.html",
        "demo.html",
        name="demonstration",
        model=model,
        quality=measure_quality(scan),
        agreement=agreement[0],
        folder=folder,
    )
    return agreement[0]


def find_grains(embedding: Embedding, truth: np.ndarray) -> tuple[np.ndarray, float]:
    """Grains found by HDBSCAN in the latents, and their agreement with the true grains.

    The numbers of the true grains, `truth` (Ny, Nx), only number the found ones: each gets the number of the true one that
    it overlaps most.

    Returns
    -------
    labels : ndarray of int, shape (Ny, Nx)
        -1 at positions in no grain.
    agreement : float
        Adjusted Rand index; positions in no grain count as one more.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.cluster import HDBSCAN
    from sklearn.metrics import adjusted_rand_score
    from sklearn.metrics.cluster import contingency_matrix

    # not standardised: distances between latents are those between patterns
    latents = embedding.maps.reshape(-1, embedding.latent_dim)
    labels = HDBSCAN(min_cluster_size=20, copy=True).fit_predict(latents.astype(np.float64))
    numbers, in_cluster = truth.max() + 1 + np.arange(labels.max() + 1), labels >= 0
    if in_cluster.any():
        overlap = contingency_matrix(truth.ravel()[in_cluster], labels[in_cluster])
        grains, clusters = linear_sum_assignment(-overlap)
        numbers[clusters] = np.unique(truth.ravel()[in_cluster])[grains]
    numbers = np.append(numbers, -1)[labels]  # label -1, in no cluster, takes the last
    return numbers.reshape(truth.shape), float(adjusted_rand_score(truth.ravel(), labels))


def _save_scan(simulated: SimulatedScan, path: Path) -> None:
    """Write counts and truth to a file that `latentstem train --data` reads, too."""
    np.savez_compressed(path, counts=simulated.counts, **{f"true_{k}": v for k, v in simulated.truth.items()})
