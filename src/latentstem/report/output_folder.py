"""Result files of a training run in its output folder."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..scan.series import Series
from ..util.whole_file import atomic_write
from .examples import example_positions, sample_chi_squared
from .figures import draw_examples, draw_latent_maps

if TYPE_CHECKING:
    from ..inference.embedding import Embedding
    from ..inference.model import LatentModel
    from ..scan.scan import Scan

__all__ = ["RESULT_FILES", "file_names", "write_results"]

#: what a run may write into its output folder, and what each is
RESULT_FILES = {
    "ae.ckpt": "the model",
    "latents.npz": "latent maps, with calibration",
    "latent_maps.png": "picture of the latent maps",
    "reconstructions.png": "picture of patterns beside their reconstructions",
    "scans": "the same files for each scan of a series",
    "summary.json": "figures, verdicts, configuration and choices",
    "report.html": "HTML report",
    "tb_logs": "curves, shown by: tensorboard --logdir {folder}/tb_logs",
    "checkpoints": "best.ckpt, and last.ckpt for --resume",
}


def write_results(
    model: LatentModel,
    scan: Scan,
    folder: Path,
    *,
    noise_free: np.ndarray | None = None,
    label_maps: Callable[[Embedding], dict[str, np.ndarray]] | None = None,
) -> None:
    """Write model, latents, pictures and summary of a run into its output folder, which is created if it is missing.

    Parameters
    ----------
    model, scan
        The trained model, and the training scan with its masks.
    noise_free : ndarray, shape (Ny, Nx, H, W), optional
        The noise-free patterns, if they are known.
    label_maps : callable, optional
        Function from `Embedding` to label maps, drawn beside the latent maps.
    """
    model.save(folder / "ae.ckpt")
    _write_summary(model, scan, folder / "summary.json")
    scans = {folder: scan}
    if isinstance(scan, Series):
        scans = {
            folder / "scans" / name: part for name, part in zip(file_names(scan), scan.scans, strict=True)
        }
    for subfolder, part in scans.items():
        embedding = model.embed(part)
        embedding.save(subfolder / "latents.npz")
        labels = label_maps(embedding) if label_maps else None
        draw_latent_maps(embedding, subfolder / "latent_maps.png", labels)
        positions = example_positions(sample_chi_squared(model, part, embedding))
        draw_examples(model, part, embedding, positions, subfolder / "reconstructions.png", noise_free)


def file_names(series: Series) -> list[str]:
    """Unique file names for the scans of a series."""
    names = [re.sub(r"[^\w.-]+", "_", scan.name).strip("._") for scan in series.scans]
    return [
        name if name and names.count(name) == 1 else f"{name or 'scan'}_{scan_index}"
        for scan_index, name in enumerate(names)
    ]


def _write_summary(model: LatentModel, scan: Scan, path: Path) -> None:
    """Figures, verdicts, advice, choices, configuration, scans and versions as JSON, null for NaN."""
    content = {**model.summary.as_dict(), **model.describe(), "scan": scan.signature(), **scan.metadata}
    content["figures"] = {
        name: value if math.isfinite(value) else None for name, value in model.summary.figures.items()
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
