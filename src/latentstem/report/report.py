"""Report: comparison with PCA and NMF, and the effect of reconstruction on virtual images."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import StorageError
from ..inference.embedding import Embedding
from ..inference.model import LatentModel
from ..inference.series import embedding_of_series
from ..scan.quality import measure_quality
from ..scan.scan import Scan
from ..scan.series import Series
from ..training.fit import fit
from ..util.paths import local_path
from .baseline_comparison import compare_with_baselines
from .examples import example_positions, unsmoothed_latents
from .figures import draw_comparison, draw_curves, draw_examples, draw_latent_maps, draw_virtual_images
from .html import write_page
from .statistics import latent_agreement
from .virtual_image_comparison import IMAGE_UNITS, compare_virtual_images

__all__ = ["evidence", "write_report"]


def evidence(
    model: LatentModel,
    data: Any,
    *,
    scan_shape: tuple[int, int] | None = None,
    scan_mask: Any = None,
    seed_agreement: bool = False,
) -> dict[str, Any]:
    """Compare a model with PCA and NMF, and measure its bias in virtual images, without noise-free patterns.

    Parameters
    ----------
    model : LatentModel
        A trained model.
    data : DataCube, Signal2D, array or path
        Anything `as_scan` reads; a series is measured as one. With the scan that the model was trained on, only
        positions that were held out from training are compared; give the same scan mask as in training, because the
        split depends on it.
    scan_shape, scan_mask
        See `as_scan`.
    seed_agreement : bool
        Train a second time with the next seed and compare the latents. Takes as long as training did.

    Returns
    -------
    dict
        Plain values. ``verdict``: a sentence; ``better``: whether the model is better than PCA and NMF; ``comparison``:
        held-out likelihood (or error) of the model, PCA and NMF, see `compare_with_baselines`; ``bias``: of virtual
        images, total intensity and centre of mass, see `VirtualImageComparison.bias`; ``residual``: chi squared per
        pixel, mean, median and largest; ``seed_agreement``: see `latent_agreement`, or None.

    Raises
    ------
    ModelMismatchError
        If the model is for patterns of another shape.
    """
    evidence: dict[str, Any] = _measure(model, data, scan_shape, scan_mask, seed_agreement)["evidence"]
    return evidence


def write_report(
    model: LatentModel,
    data: Any,
    path: str | Path,
    *,
    scan_shape: tuple[int, int] | None = None,
    scan_mask: Any = None,
    seed_agreement: bool = False,
) -> Path:
    """Write the report as one self-contained HTML file, and keep the numbers in ``model.evidence``.

    Parameters
    ----------
    model, data, scan_shape, scan_mask, seed_agreement
        As for `evidence`.
    path : str or Path
        The HTML file.

    """
    path = local_path(path, StorageError)
    contents = _measure(model, data, scan_shape, scan_mask, seed_agreement)
    model.evidence = contents["evidence"]
    with tempfile.TemporaryDirectory(prefix="latentstem-") as folder:
        pictures, name = _draw(contents, Path(folder)), contents["scan"].name
        write_page(path, "report.html", name=name, units=IMAGE_UNITS, pictures=pictures, **contents)
    return path


def _measure(
    model: LatentModel, data: Any, scan_shape: Any, scan_mask: Any, seed_agreement: bool
) -> dict[str, Any]:
    """The contents of a report on a model that is applied to a scan, as the template names them."""
    scan = model.open_matching_scan(data, scan_shape, scan_mask)
    detector = model.autoencoder.preprocessing.detector
    unused = (detector.to_detector(detector.used[None])[0] == 0).numpy()
    scan = scan.with_masks(pattern_mask=unused if scan.pattern_mask is None else unused | scan.pattern_mask)
    quality = measure_quality(scan)
    embedding = _embed(model, scan)
    comparison = compare_with_baselines(model, scan, quality.counts)
    images = compare_virtual_images(model, scan, unsmoothed_latents(embedding), quality.counts)
    chi_squared = images.chi_squared
    evidence = {
        "verdict": comparison["verdict"],
        "better": comparison["better"],
        "comparison": comparison,
        "bias": images.bias(),
        "residual": {
            "mean": float(np.nanmean(chi_squared)),
            "median": float(np.nanmedian(chi_squared)),
            "largest": float(np.nanmax(chi_squared)),
        },
        "seed_agreement": _seed_agreement(model, scan) if seed_agreement else None,
    }
    measured = {"quality": quality, "embedding": embedding, "images": images, "evidence": evidence}
    return {"model": model, "scan": scan, **measured}


def _seed_agreement(model: LatentModel, scan: Scan) -> dict[str, float]:
    update = {"seed": model.config.seed + 1, "devices": 1, "num_nodes": 1}
    training_result, _ = fit(scan, config=model.config.model_copy(update=update), progress=False)
    latents = [
        _embed(m, scan).maps.reshape(scan.n_positions, -1) for m in (model, LatentModel(*training_result))
    ]
    valid = np.isfinite(np.hstack(latents)).all(1)
    return latent_agreement(latents[0][valid], latents[1][valid])


def _embed(model: LatentModel, scan: Scan) -> Embedding:
    embedding = model.embed(scan)
    return embedding_of_series(scan, embedding) if isinstance(scan, Series) else embedding  # type: ignore[arg-type]


def _draw(contents: dict[str, Any], folder: Path) -> dict[str, Path | None]:
    """Draw the figures of the report; by name, the files."""
    names = ("model", "evidence", "scan", "embedding", "images")
    model, evidence, scan, embedding, images = (contents[name] for name in names)
    positions = example_positions(images.chi_squared)
    has_curves = bool(model.history.get("patterns_seen"))
    return {
        "comparison": draw_comparison(evidence["comparison"], folder / "comparison.png"),
        "patterns": draw_examples(model, scan, embedding, positions, folder / "patterns.png"),
        "scan": draw_virtual_images(images, scan.axes[:2], folder / "scan.png"),
        "latents": draw_latent_maps(embedding, folder / "latents.png"),
        "curves": draw_curves(model.history, folder / "curves.png") if has_curves else None,
    }
