"""A simulated polycrystal, an autoencoder trained on it, and whether it finds the grains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..io.open import as_scan
from ..report.html import figures, page, picture, sentences
from ..report.output_folder import RESULT_FILES, write_results
from ..simulation.simulate import SimulatedScan, simulate
from ..util.folders import keep_earlier_results
from ..util.whole_file import atomic_write

if TYPE_CHECKING:
    from ..inference.embedding import Embedding
    from ..inference.model import LatentModel

__all__ = ["SCAN", "TRAINING", "find_grains", "run_demo"]

#: what is simulated: 64 x 64 positions of 64 x 64 pixels, 500 electrons a pattern
SCAN: dict[str, Any] = {"scan_shape": (64, 64), "pattern_shape": (64, 64), "dose": 500.0, "n_grains": 12}
#: about a minute on two idle cores
TRAINING: dict[str, Any] = {"latent_dim": 16}


def run_demo(
    folder: Path, *, seed: int = 0, progress: bool = True, say: Callable[[str], object] = print
) -> float:
    """Simulate a scan, train on it, and write data, model, pictures and a report.

    Parameters
    ----------
    folder : Path
        Where everything goes. Results of an earlier run are moved to ``earlier-1`` (2, 3 ...) in there.
    seed : int
        Seed of specimen, noise and training.
    progress : bool
        Show a progress bar and the summary.
    say : callable
        Told if there are results of an earlier run.

    Returns
    -------
    float
        Adjusted Rand index of true and found grains: 1 is perfect, 0 is chance.
    """
    from ..functions import train_autoencoder
    from ..scan.quality import measure_quality

    simulated = simulate(**SCAN, seed=seed)
    scan = as_scan(simulated)
    folder.mkdir(parents=True, exist_ok=True)
    with keep_earlier_results(folder, (*RESULT_FILES, "scan.npz"), say):
        _save(simulated, folder / "scan.npz")
        model = train_autoencoder(scan, output_dir=folder, progress=progress, seed=seed, **TRAINING)
    agreement = []

    def grains(embedding: Embedding) -> dict[str, np.ndarray]:
        labels, index = find_grains(embedding, simulated.truth["grain"])
        agreement.append(index)
        return {"true grains": simulated.truth["grain"], "found in the latents": labels}

    write_results(model, scan, folder, expectation=simulated.expectation, labels=grains)
    content = _page(model, measure_quality(scan).lines(), agreement[0], folder)
    with atomic_write(folder / "report.html") as beside:
        beside.write_text(content, encoding="utf-8")
    return agreement[0]


def find_grains(embedding: Embedding, truth: np.ndarray) -> tuple[np.ndarray, float]:
    """Grains as HDBSCAN finds them in the latents, and how well they agree with the true ones.

    Parameters
    ----------
    embedding : Embedding
        Latents, maps of shape (Ny, Nx, k).
    truth : ndarray of int, shape (Ny, Nx)
        Number of each position's true grain. It gives each found grain the number of the true one that it overlaps
        most; it is not used to find them.

    Returns
    -------
    labels : ndarray of int, shape (Ny, Nx)
        -1 where a position belongs to no grain.
    agreement : float
        Adjusted Rand index; positions of no grain count as one more.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.cluster import HDBSCAN
    from sklearn.metrics import adjusted_rand_score
    from sklearn.metrics.cluster import contingency_matrix

    latents = embedding.maps.reshape(
        -1, embedding.latent_dim
    )  # as they are: distances are those between patterns
    labels = HDBSCAN(min_cluster_size=20, copy=True).fit_predict(latents.astype(np.float64))
    number, found = {}, labels >= 0
    if found.any():
        overlap = contingency_matrix(truth.ravel()[found], labels[found])
        true_number, found_number = linear_sum_assignment(-overlap)
        number = dict(zip(found_number, np.unique(truth.ravel()[found])[true_number], strict=True))
    named = [-1 if label < 0 else number.get(label, int(truth.max()) + 1 + label) for label in labels]
    return np.array(named).reshape(truth.shape), float(adjusted_rand_score(truth.ravel(), labels))


def _save(simulated: SimulatedScan, path: Path) -> None:
    """Counts and truth as a file that `latentstem train --data` reads too."""
    np.savez_compressed(path, counts=simulated.counts, **{f"true_{k}": v for k, v in simulated.truth.items()})


def _page(model: LatentModel, quality: list[str], agreement: float, folder: Path) -> str:
    summary = model.summary
    verdicts = [f"{'met' if met else 'not met'}: {name}" for name, met in summary.verdicts.items()]
    return page(
        "LatentSTEM: demonstration",
        {
            "Latent maps": picture(
                folder / "latent_maps.png",
                "One value per scan position and latent. HDBSCAN, which is not told how many there are, finds the "
                f"grains in the latents with an adjusted Rand index of {agreement:.3f} (1 is perfect agreement, 0 is "
                "chance), and leaves grey what belongs to none.",
            ),
            "Reconstructions": picture(
                folder / "reconstructions.png",
                "Diffraction patterns as detected, as the model reconstructs them, and as they are without "
                "counting noise; on the right what is left over, in standard deviations of that noise.",
            ),
            "Training": figures(summary.figures) + sentences([*verdicts, *summary.advice]),
            "Data": sentences(quality),
            "Choices": sentences(summary.choices),
            "Configuration": figures(model.config.model_dump(mode="json")),
        },
    )
