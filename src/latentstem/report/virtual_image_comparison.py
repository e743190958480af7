"""A whole scan before and after the model: virtual images, centre of mass, total intensity, residuals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..nn.preprocessing import patterns_to_tensor
from ..scan.scan import Scan
from ..scan.virtual_images import BRIGHT_FIELD_RADII as DISK_REACH
from ..scan.virtual_images import direct_beam
from .baselines import noise_variance
from .statistics import mean_and_error, tiles

if TYPE_CHECKING:
    from ..inference.model import LatentModel

__all__ = ["DISK_REACH", "QUANTITIES", "Survey", "survey"]

_BATCH = 256
#: images of a scan, and their units for counts and for other values
QUANTITIES = {
    "bright field": "electrons",
    "dark field": "electrons",
    "total intensity": "electrons",
    "centre of mass, row": "pixels",
    "centre of mass, column": "pixels",
}


@dataclass(frozen=True, eq=False)
class Survey:
    """Images of the scan, shape (Ny, Nx) each, NaN at excluded scan positions.

    Attributes
    ----------
    before, after : dict of ndarray
        The images named in `QUANTITIES`, of the recorded patterns and of their reconstructions, by the same
        used detector pixels. Those that need pixels which are all excluded are left out.
    residual : ndarray
        Chi squared per pixel: the squared residual over its expectation, 1 where only noise is left.
    disk : (float, float, float)
        Row, column and radius of the direct beam, as found in the mean pattern, in detector pixels.
    """

    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]
    residual: np.ndarray
    disk: tuple[float, float, float]

    def bias(self) -> dict[str, dict[str, float]]:
        """Mean difference of each image, after less before, with its standard error from blocks of the scan.

        ``in_standard_errors`` is their ratio, ``mean_before`` what the difference compares with.
        """
        blocks = tiles(self.residual.shape).ravel()  # type: ignore[arg-type]
        found = {}
        for name, before in self.before.items():
            figures = mean_and_error((self.after[name] - before).ravel(), blocks)
            figures["in_standard_errors"] = figures["mean"] / max(figures["standard_error"], 1e-30)
            found[name] = {**figures, "mean_before": float(np.nanmean(before))}
        return found

    def examples(self) -> dict[str, tuple[int, int]]:
        """Scan positions with a typical, the best and the worst residuals."""
        ranked = np.argsort(self.residual, axis=None)[: int(np.isfinite(self.residual).sum())]
        places = {
            "typical": len(ranked) // 2,
            "best": 0,
            "second worst": max(len(ranked) - 2, 0),
            "worst": len(ranked) - 1,
        }
        return {
            name: tuple(map(int, np.unravel_index(ranked[at], self.residual.shape)))  # type: ignore[misc]
            for name, at in places.items()
        }


def survey(model: LatentModel, scan: Scan, latents: np.ndarray, counts: bool) -> Survey:
    """One streamed pass over a scan and its reconstruction.

    Parameters
    ----------
    model : LatentModel
        Fits the scan.
    scan : Scan
        The data.
    latents : ndarray, shape (Ny, Nx, k)
        Each position's own, not smoothed.
    counts : bool
        Whether the data are counts, so that their variance is their expectation.
    """
    module = model.autoencoder
    excluded = np.zeros(scan.n_positions, bool) if scan.scan_mask is None else scan.scan_mask.ravel()
    latents = latents.reshape(scan.n_positions, -1)
    detector = module.preprocessing.detector
    used = (detector.used > 0).numpy().ravel()
    included = np.flatnonzero(~excluded)
    sample = included[np.linspace(0, len(included) - 1, min(len(included), 1024)).astype(int)]
    mean = module.values(patterns_to_tensor(scan.read(sample))).mean(0).numpy()
    disk = direct_beam(mean, used.reshape(mean.shape))
    apertures = _apertures(mean.shape, disk, used)
    variance = None
    if not counts:
        variance = noise_variance(scan, lambda stored: _flat(module.values(patterns_to_tensor(stored))))
    soft = float(np.abs(mean).mean())
    offset = min(0.0, float(mean.ravel()[used].min()))
    images = {name: np.full((2, scan.n_positions), np.nan) for name in apertures}
    residual = np.full(scan.n_positions, np.nan)
    for block in scan.blocks(_BATCH):
        for at in range(0, len(block), _BATCH):
            positions = block[at : at + _BATCH]
            positions = positions[~excluded[positions]]
            if not len(positions):
                continue
            recorded = _flat(module.values(patterns_to_tensor(scan.read(positions))))
            restored = _flat(module.decode(torch.from_numpy(latents[positions]))) * used
            for which, patterns in enumerate((recorded, restored)):
                for name, values in _sums(patterns, apertures, offset).items():
                    images[name][which, positions] = values
            expected = np.maximum(restored, 0)[:, used] if variance is None else variance[used]
            weight = 1 / (expected + (soft if variance is None else 0))
            squares = (recorded - restored)[:, used] ** 2
            norm = np.broadcast_to(expected * weight, squares.shape).sum(1)
            residual[positions] = (squares * weight).sum(1) / norm
    on_scan = {name: values.reshape(2, *scan.scan_shape) for name, values in images.items()}
    for axis, name in enumerate(("centre of mass, row", "centre of mass, column")):
        on_scan[name] = on_scan[name] * detector.bin + detector.region[2 * axis] + (detector.bin - 1) / 2
    row, column, radius = (value * detector.bin for value in disk)
    return Survey(
        {name: values[0] for name, values in on_scan.items()},
        {name: values[1] for name, values in on_scan.items()},
        residual.reshape(scan.scan_shape),
        (row + detector.region[0], column + detector.region[2], radius),
    )


def _apertures(
    shape: tuple[int, ...], disk: tuple[float, float, float], used: np.ndarray
) -> dict[str, np.ndarray]:
    """Weights (h * w,) of the pixels for each image."""
    y, x = (grid.ravel().astype(np.float32) for grid in np.mgrid[: shape[0], : shape[1]])
    inside = np.hypot(y - disk[0], x - disk[1]) <= DISK_REACH * disk[2]
    found = dict(zip(QUANTITIES, (used & inside, used & ~inside, used, used * y, used * x), strict=True))
    return {name: weight.astype(np.float32) for name, weight in found.items() if weight.any()}


def _sums(patterns: np.ndarray, apertures: dict[str, np.ndarray], offset: float) -> dict[str, np.ndarray]:
    """The images of patterns (n, p); centres of mass are those of what is above a (negative) detector offset."""
    found = {name: patterns @ weight for name, weight in apertures.items()}
    total = found["total intensity"] - offset * apertures["total intensity"].sum()
    for name in found:
        if name.startswith("centre"):
            moment = found[name] - offset * apertures[name].sum()
            found[name] = np.divide(moment, total, out=np.full_like(total, np.nan), where=total > 0)
    return found


def _flat(values: object) -> np.ndarray:
    array = values.detach().numpy()  # type: ignore[attr-defined]
    return array.reshape(len(array), -1)
