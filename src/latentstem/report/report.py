"""Evidence on the user's own data: is the autoencoder better than PCA, and what does it do to the scan?"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import StorageError
from ..inference.embedding import Embedding
from ..inference.model import LatentModel
from ..inference.series import embedding_of_series
from ..scan.quality import Quality, measure_quality
from ..scan.scan import Scan
from ..scan.series import Series
from ..training.fit import fit
from ..util.paths import local_path
from ..util.whole_file import atomic_write
from .baseline_comparison import compare
from .figures import latent_maps, reconstructions
from .html import figures, page, paragraph, picture, sentences, table
from .report_figures import comparison, curves, scan_images
from .statistics import latent_agreement
from .virtual_image_comparison import DISK_REACH, QUANTITIES, Survey, survey

__all__ = ["evidence", "write_report"]


_HOW_COUNTS = """\
Each pattern is split at random into two with half of its electrons each. A method is given one half, \
and judged by how likely its reconstruction makes the other, which it has not seen: noise cannot be \
learnt by heart. """
_HOW_VALUES = """\
The data are not counts. To each pattern, noise as strong as its own is added for the method, and \
subtracted for the comparison: the two are uncorrelated, so noise cannot be learnt by heart. """
_HELD_OUT = """\
All this at scan positions that were held out from training; PCA and NMF are fitted to the training \
positions. """
_OTHER_SCAN = "The model was trained on another scan; PCA and NMF are fitted to this one. "
_ERROR = """\
The error is that against the unknown noise-free pattern, as a share of the recorded noise: 0 is \
perfect."""
_PATTERNS = """\
Recorded pattern, reconstruction and residual where the residual is typical, least and largest. \
Structure in the residual is what the model does not know."""
_RESIDUAL = """\
Residual, chi squared per pixel: mean {mean:.4g}, median {median:.4g}, largest {largest:.4g}. 1 means \
that only noise is left; where it is larger, something is not reproduced."""
_DISK = """\
Bright field: within {reach:.1f} pixels of the direct beam, found at row {row:.1f}, column {column:.1f}; \
dark field: all other used pixels."""
_SCAN = "Recorded, reconstructed, and reconstructed less recorded, with a scale of its own."


def evidence(
    model: LatentModel,
    data: Any,
    *,
    scan_shape: tuple[int, int] | None = None,
    scan_mask: Any = None,
    seed_agreement: bool = False,
) -> dict[str, Any]:
    """Measure a model against PCA and NMF, and what it does to a scan, without knowing the truth.

    Parameters
    ----------
    model : LatentModel
        A trained model.
    data : DataCube, Signal2D, array or path
        Anything `as_scan` reads; a series is measured as one. With the scan that the model was trained on, only
        positions that were held out from training are compared; give the scan mask of training, on which they depend.
    scan_shape, scan_mask
        See `as_scan`.
    seed_agreement : bool
        Train a second time with the next seed, and compare the latents. Takes as long as training did.

    Returns
    -------
    dict
        Plain values. ``verdict``: a sentence; ``better``: whether the model is worth it; ``comparison``:
        held-out likelihood (or error) of the model, PCA and NMF, see `evidence.compare`; ``bias``: of virtual
        images, total intensity and centre of mass, see `Survey.bias`; ``residual``: chi squared per pixel,
        mean, median and largest; ``seed_agreement``: see `scan_statistics.latent_agreement`, or None.

    Raises
    ------
    ModelMismatchError
        If the patterns have another shape than the model is for.
    """
    return _measure(model, data, scan_shape, scan_mask, seed_agreement)[0]


def write_report(
    model: LatentModel,
    data: Any,
    path: str | Path,
    *,
    scan_shape: tuple[int, int] | None = None,
    scan_mask: Any = None,
    seed_agreement: bool = False,
) -> Path:
    """Write the evidence as one HTML page that needs no other file and no network; the numbers stay with the model.

    Parameters
    ----------
    model, data, scan_shape, scan_mask, seed_agreement
        As for `evidence`.
    path : str or Path
        The page.

    Returns
    -------
    Path
        Where it was written.
    """
    path = local_path(path, StorageError)
    found, scan, quality, seen, embedding = _measure(model, data, scan_shape, scan_mask, seed_agreement)
    model.evidence = found
    with tempfile.TemporaryDirectory(prefix="latentstem-") as folder:
        sections = {
            **_comparison(found, Path(folder)),
            **_images(model, scan, embedding, quality.counts, found, seen, Path(folder)),
            **_training(model, Path(folder)),
            "Data": sentences(quality.lines()) + figures(_about(scan)),
            "Configuration": figures(model.config.model_dump(mode="json")),
            "Versions": figures(model.versions),
        }
    with atomic_write(path) as beside:
        beside.write_bytes(page(f"LatentSTEM: {scan.name}", sections).encode("utf-8", "backslashreplace"))
    return path


def _measure(
    model: LatentModel, data: Any, scan_shape: Any, scan_mask: Any, seed_agreement: bool
) -> tuple[dict[str, Any], Scan, Quality, Survey, Embedding]:
    scan = model.open_matching_scan(data, scan_shape, scan_mask)
    detector = model.autoencoder.preprocessing.detector
    unused = (detector.to_detector(detector.used[None])[0] == 0).numpy()
    scan = scan.with_masks(pattern_mask=unused | (False if scan.pattern_mask is None else scan.pattern_mask))
    quality = measure_quality(scan)
    embedding = _embedding(model, scan)
    found = compare(model, scan, quality.counts)
    seen = survey(model, scan, _own(embedding), quality.counts)
    return (
        {
            "verdict": found["verdict"],
            "better": found["better"],
            "comparison": found,
            "bias": seen.bias(),
            "residual": {
                name: float(function(seen.residual))
                for name, function in (("mean", np.nanmean), ("median", np.nanmedian), ("largest", np.nanmax))
            },
            "seed_agreement": _seed_agreement(model, scan) if seed_agreement else None,
        },
        scan,
        quality,
        seen,
        embedding,
    )


def _seed_agreement(model: LatentModel, scan: Scan) -> dict[str, float]:
    alone = {"devices": 1, "num_nodes": 1}
    config = model.config.model_copy(update={"seed": model.config.seed + 1, **alone})
    other = LatentModel(*fit(scan, config=config, progress=False)[0])
    first, second = (_embedding(m, scan).maps.reshape(scan.n_positions, -1) for m in (model, other))
    both = np.isfinite(first).all(1) & np.isfinite(second).all(1)
    return latent_agreement(first[both], second[both])


def _embedding(model: LatentModel, scan: Scan) -> Embedding:
    found = model.embed(scan)
    return embedding_of_series(scan, found) if isinstance(scan, Series) else found  # type: ignore[arg-type]


def _own(embedding: Embedding) -> np.ndarray:
    """Each position's own latents (Ny, Nx, k)."""
    return embedding.maps if embedding.unsmoothed is None else embedding.unsmoothed


def _comparison(found: dict[str, Any], folder: Path) -> dict[str, str]:
    compared = found["comparison"]
    counts = compared["kind"] == "counts"
    how = (
        (_HOW_COUNTS if counts else _HOW_VALUES)
        + (_HELD_OUT if compared["same_scan"] else _OTHER_SCAN)
        + _ERROR
    )
    unit = "deviance" if counts else "squared error / noise"
    size = compared["methods"]["autoencoder"]["best"]["components"]
    headings = ("method", "best size", unit, "error", f"{unit} with {size}", f"error with {size}")
    rows = [
        (name, of["best"]["components"], *_columns(of["best"]), *_columns(of["same_size"]))
        for name, of in compared["methods"].items()
    ]
    trained = compared["trained_on"]
    seen = (
        f"For comparison, at positions that were trained on the difference to the best baseline is "
        f"{trained['mean']:.3g} ± {trained['standard_error']:.2g}."
    )
    content = paragraph(how)
    content += table(headings, rows) + paragraph(seen)
    content += picture(
        comparison(compared, folder / "comparison.png"), "Held-out score over size; lower is better."
    )
    sections = {"Verdict": paragraph(found["verdict"], strong=True), "Against PCA and NMF": content}
    agreement = found["seed_agreement"]
    if agreement is not None:
        sections["Agreement of two seeds"] = figures(
            {
                "latents matched one to one: mean |correlation|": agreement["matched"],
                "variance of the latents that is linear in those of the other": agreement["linear"],
            }
        )
    return sections


def _images(
    model: LatentModel,
    scan: Scan,
    embedding: Embedding,
    counts: bool,
    found: dict[str, Any],
    seen: Survey,
    folder: Path,
) -> dict[str, str]:
    examples = seen.examples()
    positions = np.array([row * scan.scan_shape[1] + column for row, column in examples.values()])
    patterns = scan.read(positions)
    if scan.pattern_mask is not None:
        patterns = np.where(scan.pattern_mask, 0, patterns)
    reconstructed = model.decode(_own(embedding).reshape(scan.n_positions, -1)[positions])
    drawn = reconstructions(patterns, reconstructed, examples, folder / "patterns.png", axes=scan.axes[2:])
    row, column, radius = seen.disk
    units = dict.fromkeys(QUANTITIES, "electrons" if counts else "detector units") | {
        name: unit for name, unit in QUANTITIES.items() if unit == "pixels"
    }
    bias = [
        (
            name,
            *(f"{of[figure]:.3g}" for figure in ("mean_before", "mean", "standard_error")),
            f"{of['in_standard_errors']:+.1f}",
            units[name],
        )
        for name, of in found["bias"].items()
    ]
    scan_drawn = scan_images(seen, scan.axes[:2], folder / "scan.png")
    maps_drawn = latent_maps(embedding, folder / "latents.png")
    return {
        "Patterns": picture(drawn, _PATTERNS),
        "The scan before and after": paragraph(
            _DISK.format(reach=DISK_REACH * radius, row=row, column=column)
        )
        + table(("", "mean, recorded", "bias", "standard error", "bias in standard errors", "unit"), bias)
        + paragraph(_RESIDUAL.format(**found["residual"]))
        + picture(scan_drawn, _SCAN),
        "Latent maps": picture(maps_drawn, "Latents, most varying first."),
    }


def _training(model: LatentModel, folder: Path) -> dict[str, str]:
    summary = model.summary
    verdicts: Iterable[str] = (
        f"{'met' if met else 'not met'}: {name}" for name, met in summary.verdicts.items()
    )
    drawn = ""
    if model.history.get("patterns_seen"):
        drawn = picture(curves(model.history, folder / "curves.png"), "Losses during training.")
    known = {name: value for name, value in summary.figures.items() if math.isfinite(value)}
    return {
        "Training": drawn + figures(known) + sentences([*verdicts, *summary.advice]),
        "Choices of auto": sentences(summary.choices),
    }


def _columns(of: dict[str, float]) -> tuple[object, ...]:
    return f"{of['loss']:.2f}", f"{of['error']:.4f}"


def _about(scan: Scan) -> dict[str, object]:
    return {
        **{
            f"axis {n}, {axis.name}": f"{axis.size} of {axis.scale:.5g} {axis.units or '(not calibrated)'}"
            for n, axis in enumerate(scan.axes)
        },
        "excluded scan positions": 0 if scan.scan_mask is None else int(scan.scan_mask.sum()),
        "unused detector pixels": 0 if scan.pattern_mask is None else int(scan.pattern_mask.sum()),
    }
