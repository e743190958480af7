"""The files that a training run leaves in its output folder, and what becomes of those of earlier runs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..inference.series import embedding_of_series
from ..scan.series import Series
from ..util.whole_file import atomic_write
from .figures import latent_maps, reconstructions, residual

if TYPE_CHECKING:
    from ..inference.embedding import Embedding
    from ..inference.model import LatentModel
    from ..scan.scan import Scan

__all__ = [
    "RESULT_FILES",
    "Examples",
    "file_names",
    "select_examples",
    "write_results",
]

#: what a run may write into its output folder, and what each is
RESULT_FILES = {
    "ae.ckpt": "the model",
    "latents.npz": "latent maps, with calibration",
    "latent_maps.png": "picture of the latent maps",
    "reconstructions.png": "picture of patterns beside their reconstructions",
    "scans": "the same of each scan of a series",
    "summary.json": "figures, verdicts, configuration and choices",
    "report.html": "all of it on one page",
    "tb_logs": "curves, shown by: tensorboard --logdir {folder}/tb_logs",
    "checkpoints": "best.ckpt, and last.ckpt for --resume",
}
_LOOKED_AT = 1024  # patterns among which typical, best and worst are sought


@dataclass(frozen=True, eq=False)
class Examples:
    """Diffraction patterns that tell how good a model is, and their reconstructions.

    Parameters
    ----------
    positions : dict of str to (int, int)
        Scan row and column, by what it is an example of: ``typical``, ``best``, ``worst``.
    patterns, reconstructed : ndarray, shape (3, H, W)
        As stored, and as the model has them.
    """

    positions: dict[str, tuple[int, int]]
    patterns: np.ndarray
    reconstructed: np.ndarray


def select_examples(model: LatentModel, scan: Scan, embedding: Embedding) -> Examples:
    """The typical, the best and the worst pattern among about a thousand, spread over the scan.

    Best and worst are the least and the largest mean square of `figures.residual`, typical is the median.
    """
    excluded = np.zeros(scan.n_positions, bool) if scan.scan_mask is None else scan.scan_mask.ravel()
    own = embedding.maps if embedding.unsmoothed is None else embedding.unsmoothed
    latents = own.reshape(scan.n_positions, -1)
    blocks = list(scan.blocks(32))
    every = max(1, round(scan.n_positions / _LOOKED_AT))
    looked_at, left_over = [], []
    for block in blocks[::every]:
        for positions in np.array_split(block, -(-len(block) // 256)):
            positions = positions[~excluded[positions]]
            if len(positions):
                difference = residual(scan.read(positions), model.decode(latents[positions]))
                looked_at.append(positions)
                left_over.append(np.nanmean(difference**2, axis=(1, 2)))
    order = np.argsort(np.concatenate(left_over), kind="stable")
    ranks = {"typical": order[len(order) // 2], "best": order[0], "worst": order[-1]}
    flat = np.concatenate(looked_at)[list(ranks.values())]
    places = {name: divmod(int(at), scan.scan_shape[1]) for name, at in zip(ranks, flat, strict=True)}
    return Examples(places, scan.read(flat), model.decode(latents[flat]))


def write_results(
    model: LatentModel,
    scan: Scan,
    folder: Path,
    *,
    expectation: np.ndarray | None = None,
    labels: Callable[[Embedding], dict[str, np.ndarray]] | None = None,
) -> Embedding:
    """Write model, latents, pictures and summary of a run into its output folder.

    Parameters
    ----------
    model : LatentModel
        The trained model.
    scan : Scan
        What it was trained on, with its masks.
    folder : Path
        Output folder; made where it is missing.
    expectation : ndarray, shape (Ny, Nx, H, W), optional
        The noise-free patterns, where they are known.
    labels : callable, optional
        Makes of the `Embedding` the label maps that are drawn beside the latent maps.

    Returns
    -------
    Embedding
        The latents of the scan; of a series, those of all scans together.
    """
    model.save(folder / "ae.ckpt")
    write_summary(model, scan, folder / "summary.json")
    if not isinstance(scan, Series):
        return _write_latents(model, scan, folder, expectation, labels)
    names = file_names(scan)
    embeddings = [
        _write_latents(model, part, folder / "scans" / name)
        for part, name in zip(scan.scans, names, strict=True)
    ]
    return embedding_of_series(scan, embeddings)


def _write_latents(
    model: LatentModel,
    scan: Scan,
    folder: Path,
    expectation: np.ndarray | None = None,
    labels: Callable[[Embedding], dict[str, np.ndarray]] | None = None,
) -> Embedding:
    """Write the latents of one scan, and the pictures."""
    embedding = model.embed(scan)
    embedding.save(folder / "latents.npz")
    latent_maps(embedding, folder / "latent_maps.png", labels(embedding) if labels else None)
    examples = select_examples(model, scan, embedding)
    at = tuple(np.array(list(examples.positions.values())).T)
    reconstructions(
        examples.patterns, examples.reconstructed, examples.positions, folder / "reconstructions.png",
        clean=None if expectation is None else expectation[at], axes=scan.axes[2:],
    )  # fmt: skip
    return embedding


def file_names(series: Series) -> list[str]:
    """The names of the scans of a series as names of files, no two alike."""
    names = [re.sub(r"[^\w.-]+", "_", scan.name).strip("._") for scan in series.scans]
    return [
        name if name and names.count(name) == 1 else f"{name or 'scan'}_{number}"
        for number, name in enumerate(names)
    ]


def write_summary(model: LatentModel, scan: Scan, path: Path) -> None:
    """Figures, verdicts, advice, choices, configuration, scans and versions as JSON, null for NaN."""
    about = {**model.summary.as_dict(), **model.describe(), "scan": scan.signature(), **scan.metadata}
    about["figures"] = {
        name: value if math.isfinite(value) else None for name, value in model.summary.figures.items()
    }
    with atomic_write(path) as beside:
        beside.write_text(json.dumps(about, indent=2, default=str) + "\n", encoding="utf-8")
