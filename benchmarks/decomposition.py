"""HyperSpy's own ``decomposition``, at the number of components that suits it best by the true efficiency."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from latentstem.config import TrainingConfig
from latentstem.inference.smoothing import smooth_maps
from latentstem.simulation.simulate import SimulatedScan

from .scores import brightest_bias, efficiency, latent_scores, psnr

#: arguments of ``decomposition`` by name
METHODS: dict[str, dict[str, Any]] = {
    "SVD": {"algorithm": "SVD"},
    "SVD + Poisson": {"algorithm": "SVD", "normalize_poissonian_noise": True},
    "NMF": {"algorithm": "NMF"},
    "NMF + Poisson": {"algorithm": "NMF", "normalize_poissonian_noise": True},
}
SIZES = {"SVD": (2, 3, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 50, 60), "NMF": (8, 12, 16, 24, 32, 48)}
SMOOTH = TrainingConfig().context  # the radius over which maps of LatentSTEM are smoothed by default
LATENT_SIZES = (8, 16)  # besides the best one, for grains, strain and thickness: the best score counts


def best_of(method: str, scan: SimulatedScan, quick: bool = False) -> dict[str, Any]:
    """Scores of one method: rank by the true efficiency; for each latent score, the best of three ranks."""
    sizes = [n for n in SIZES[METHODS[method]["algorithm"]] if n < min(40, scan.scan_mask.size)]
    sizes = sizes[::4] if quick else list(SIZES[METHODS[method]["algorithm"]])
    found: dict[int, tuple[float, np.ndarray, np.ndarray, float]] = {}
    best, best_psnr = sizes[0], -np.inf
    for size, shares, factors, seconds in _decomposed(method, scan, sizes):
        reconstructed = _patterns(shares, factors, scan)
        value = efficiency(reconstructed, scan)["all"]
        found[size] = (value, shares, factors, seconds)
        best_psnr = max(best_psnr, psnr(reconstructed, scan))
        best = max(found, key=lambda n: found[n][0])
    _, shares, factors, seconds = found[best]
    reconstructed = _patterns(shares, factors, scan)
    maps = [
        np.where(scan.scan_mask[..., None], np.nan, found[n][1].reshape(*scan.scan_mask.shape, -1))
        for n in sorted({best, *LATENT_SIZES} & set(found))
    ]
    return {
        "size": best,
        "seconds": seconds,
        "efficiency": efficiency(reconstructed, scan),
        "psnr": best_psnr,
        "brightest": brightest_bias(reconstructed, scan),
        **_best_scores(maps, scan),
        "also": {"maps smoothed": _best_scores([smooth_maps(each, SMOOTH) for each in maps], scan)},
        "by_size": {n: of[0] for n, of in found.items()},
    }


def _best_scores(maps: list[np.ndarray], scan: SimulatedScan) -> dict[str, Any]:
    """The best of each latent score over numbers of components."""
    latents: list[dict[str, Any]] = [latent_scores(each, scan) for each in maps]
    return {
        **{
            name: max((of[name] for of in latents if of[name] is not None), default=None)
            for name in ("ari", "ari as they are")
        },
        "r2": {name: max(of["r2"][name] for of in latents) for name in latents[0]["r2"]},
    }


def _decomposed(
    method: str, scan: SimulatedScan, sizes: list[int]
) -> Iterator[tuple[int, np.ndarray, np.ndarray, float]]:
    """Number of components, shares (n, k), factors (k, p), 0 where excluded, and seconds that it took."""
    import hyperspy.api as hs
    import sklearn.utils.extmath  # noqa: F401  (HyperSpy 2.5 uses it without importing it)

    nested = METHODS[method]["algorithm"] == "SVD"
    for fitted in [max(sizes)] if nested else sizes:
        signal = hs.signals.Signal2D(scan.counts.astype(np.float32))
        arguments = dict(METHODS[method], output_dimension=fitted, print_info=False)
        if nested:
            arguments |= {"svd_solver": "randomized", "random_state": 0}
        if scan.scan_mask.any():
            arguments["navigation_mask"] = signal._get_navigation_signal(scan.scan_mask).T
        if scan.pattern_mask.any():
            arguments["signal_mask"] = signal._get_signal_signal(scan.pattern_mask)
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NMF has not converged
            signal.decomposition(**arguments)
        seconds = time.perf_counter() - start
        result = signal.learning_results
        shares, factors = (np.nan_to_num(values) for values in (result.loadings, result.factors.T))
        for size in sizes if nested else [fitted]:
            yield size, shares[:, :size], factors[:size], seconds


def _patterns(shares: np.ndarray, factors: np.ndarray, scan: SimulatedScan) -> np.ndarray:
    return (shares @ factors).reshape(scan.expectation.shape)
