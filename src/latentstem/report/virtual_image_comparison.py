"""Virtual images, centre of mass and total intensity of recorded and reconstructed patterns, and chi squared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..inference.model import LatentModel
from ..nn.preprocessing import patterns_to_tensor
from ..scan.scan import Scan
from ..scan.virtual_images import BRIGHT_FIELD_RADII, detector_masks, direct_beam
from .baselines import noise_variance
from .statistics import block_numbers, mean_and_error

__all__ = ["IMAGE_UNITS", "VirtualImageComparison", "compare_virtual_images"]

_PATTERNS_PER_BATCH = 256
_MAX_SAMPLE = 1024  # patterns of the mean in which the direct beam is found
#: images of a scan, and their units for counts
IMAGE_UNITS = {
    "bright field": "electrons",
    "dark field": "electrons",
    "total intensity": "electrons",
    "centre of mass, row": "pixels",
    "centre of mass, column": "pixels",
}


@dataclass(frozen=True, eq=False)
class VirtualImageComparison:
    """Images of the scan, shape (Ny, Nx) each, NaN at excluded scan positions.

    Attributes
    ----------
    recorded, reconstructed : dict of ndarray
        The images named in `IMAGE_UNITS`, of the recorded patterns and of their reconstructions, from the same
        used detector pixels. Images whose detector mask has no used pixel are omitted.
    chi_squared : ndarray
        Chi squared per pixel: mean squared residual of each pattern; 1 where only noise is left.
    direct_beam : (float, float, float)
        Row, column and radius of the direct beam in the mean pattern, in detector pixels.
    """

    recorded: dict[str, np.ndarray]
    reconstructed: dict[str, np.ndarray]
    chi_squared: np.ndarray
    direct_beam: tuple[float, float, float]

    @property
    def bright_field_radius(self) -> float:
        """Radius of the bright-field mask in detector pixels."""
        return BRIGHT_FIELD_RADII * self.direct_beam[2]

    def bias(self) -> dict[str, dict[str, float]]:
        """Mean difference of each image, reconstructed minus recorded, with its standard error from blocks of the scan.

        ``in_standard_errors``: difference / standard error; ``mean_before``: mean of the recorded image.
        """
        blocks = block_numbers(self.chi_squared.shape).ravel()  # type: ignore[arg-type]
        bias = {}
        for name, recorded in self.recorded.items():
            difference = mean_and_error((self.reconstructed[name] - recorded).ravel(), blocks)
            ratio = difference["mean"] / max(difference["standard_error"], 1e-30)
            mean = float(np.nanmean(recorded))
            bias[name] = {**difference, "in_standard_errors": ratio, "mean_before": mean}
        return bias


def compare_virtual_images(
    model: LatentModel, scan: Scan, latents: np.ndarray, counts: bool
) -> VirtualImageComparison:
    """Compare images of a scan and of its reconstruction from latents (Ny, Nx, k), in one streamed pass.

    `counts`: whether the data are counts, so that their variance equals their expectation.
    """
    autoencoder = model.autoencoder
    detector = autoencoder.preprocessing.detector
    used = (detector.used > 0).numpy().ravel()
    included = scan.included
    sample = included[np.linspace(0, len(included) - 1, min(len(included), _MAX_SAMPLE)).astype(int)]
    latents = latents.reshape(scan.n_positions, -1)

    def values(patterns: np.ndarray) -> np.ndarray:
        return _flat(autoencoder.values(patterns_to_tensor(patterns)))

    mean = values(scan.read(sample)).mean(0)
    beam = direct_beam(mean.reshape(detector.shape), used.reshape(detector.shape))
    weights = _pixel_weights(used.reshape(detector.shape), beam)
    variance = None if counts else noise_variance(scan, values)[used]
    floor = float(np.abs(mean).mean()) if counts else 0.0
    offset = min(0.0, float(mean[used].min()))
    images = {name: np.full((2, scan.n_positions), np.nan) for name in weights}
    chi_squared = np.full(scan.n_positions, np.nan)
    for positions in scan.blocks_of(included, _PATTERNS_PER_BATCH):
        recorded = values(scan.read(positions))
        reconstructed = _flat(autoencoder.decode(torch.from_numpy(latents[positions]))) * used
        for source, patterns in enumerate((recorded, reconstructed)):
            for name, sums in _weighted_sums(patterns, weights, offset).items():
                images[name][source, positions] = sums
        expected = np.maximum(reconstructed, 0)[:, used] if variance is None else variance
        inverse = 1 / (expected + floor)
        squared_residual = (recorded - reconstructed)[:, used] ** 2
        norm = np.broadcast_to(expected * inverse, squared_residual.shape).sum(1)
        chi_squared[positions] = (squared_residual * inverse).sum(1) / norm
    maps = {name: values.reshape(2, *scan.scan_shape) for name, values in images.items()}
    for axis, name in enumerate(("centre of mass, row", "centre of mass, column")):
        maps[name] = maps[name] * detector.bin + detector.region[2 * axis] + (detector.bin - 1) / 2
    row, column, radius = (value * detector.bin for value in beam)
    return VirtualImageComparison(
        {name: recorded for name, (recorded, _) in maps.items()},
        {name: reconstructed for name, (_, reconstructed) in maps.items()},
        chi_squared.reshape(scan.scan_shape),
        (row + detector.region[0], column + detector.region[2], radius),
    )


def _pixel_weights(used: np.ndarray, beam: tuple[float, float, float]) -> dict[str, np.ndarray]:
    """Weights (h * w,) of the pixels (h, w) for each image."""
    y, x = np.mgrid[: used.shape[0], : used.shape[1]]
    total, bright, dark = detector_masks(used, beam).values()
    weights = dict(zip(IMAGE_UNITS, (bright, dark, total, total * y, total * x), strict=True))
    return {name: weight.ravel().astype(np.float32) for name, weight in weights.items() if weight.any()}


def _weighted_sums(
    patterns: np.ndarray, weights: dict[str, np.ndarray], offset: float
) -> dict[str, np.ndarray]:
    """Weighted sums of patterns (n, p); centres of mass after subtracting a negative detector offset."""
    sums = {name: patterns @ weight for name, weight in weights.items()}
    total = sums["total intensity"] - offset * weights["total intensity"].sum()
    for name in sums:
        if name.startswith("centre"):
            moment = sums[name] - offset * weights[name].sum()
            sums[name] = np.divide(moment, total, out=np.full_like(total, np.nan), where=total > 0)
    return sums


def _flat(values: torch.Tensor) -> np.ndarray:
    return values.detach().numpy().reshape(len(values), -1)
