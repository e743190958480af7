"""Scores against the truth of a simulated scan. Excluded scan positions and detector pixels do not count."""

from __future__ import annotations

from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from latentstem.simulation.simulate import SimulatedScan

STRAIN = ("strain_xx", "strain_yy", "strain_xy")
LEAST = 60  # positions of a grain that is probed for strain and thickness
_BLOCK = 4  # side of the blocks of scan positions that the probe is cross-validated by
_SEEDS = 5


def efficiency(reconstructed: np.ndarray, scan: SimulatedScan) -> dict[str, float]:
    """Cramer-Rao floor over the error in square-root space: 1 is the best that single patterns allow.

    (p / 4) / mean over patterns of sum (sqrt(reconstructed) - sqrt(expectation))^2 for p parameters per
    pattern.

    Parameters
    ----------
    reconstructed : ndarray, shape (Ny, Nx, H, W)
        Negative values count as 0.
    scan : SimulatedScan
        The truth.

    Returns
    -------
    dict
        ``all`` positions without planted defects, of these ``interior`` and ``boundary``; ``defect`` alone.
    """
    used = ~scan.pattern_mask
    error = np.stack([
        ((np.sqrt(np.maximum(row[:, used], 0)) - np.sqrt(clean[:, used])) ** 2).sum(1, dtype=np.float64)
        for row, clean in zip(reconstructed, scan.expectation, strict=True)
    ])  # fmt: skip
    included, boundary, defect = ~scan.scan_mask, scan.truth["boundary"], scan.truth["defect"]
    parts = {
        "all": included & ~defect,
        "interior": included & ~defect & ~boundary,
        "boundary": included & ~defect & boundary,
        "defect": included & defect,
    }
    floor = scan.n_parameters / 4
    return {
        name: floor / max(float(error[where].mean()), 1e-12) for name, where in parts.items() if where.any()
    }


def psnr(reconstructed: np.ndarray, scan: SimulatedScan) -> float:
    """Peak signal to noise ratio in dB to the clean expectation, whose largest value is the peak."""
    used, included = ~scan.pattern_mask, ~scan.scan_mask
    total, peak, count = 0.0, 0.0, 0
    for row, clean, keep in zip(reconstructed, scan.expectation, included, strict=True):
        clean = clean[keep][:, used]
        if clean.size:
            total += float(((row[keep][:, used] - clean) ** 2).sum(dtype=np.float64))
            peak, count = max(peak, float(clean.max())), count + clean.size
    return float(10 * np.log10(peak**2 / max(total / count, 1e-30)))


def brightest_bias(reconstructed: np.ndarray, scan: SimulatedScan) -> float:
    """Sum of the brightest percent of all values over that of the clean expectation, less 1."""
    included, used = ~scan.scan_mask, ~scan.pattern_mask
    clean = scan.expectation[included][:, used]
    bright = clean > np.percentile(clean, 99)
    found = reconstructed[included][:, used][bright]
    return float(found.sum(dtype=np.float64) / clean[bright].sum(dtype=np.float64) - 1)


def grain_ari(
    latents: np.ndarray, labels: np.ndarray, included: np.ndarray, *, standardise: bool = True
) -> float | None:
    """How well clusters of latents agree with the grains (adjusted Rand index).

    The better of HDBSCAN (``min_cluster_size=20``, unassigned positions as one more label) and a
    full-covariance Gaussian mixture with as many components as there are grains (median of five seeds).
    None for a single grain.

    Parameters
    ----------
    latents : ndarray, shape (Ny, Nx, k)
    labels : ndarray of int, shape (Ny, Nx)
    included : ndarray of bool, shape (Ny, Nx)
    standardise : bool
        See `standardised`.
    """
    from sklearn.cluster import HDBSCAN
    from sklearn.metrics import adjusted_rand_score

    truth, values = labels[included], standardised(latents, included, each=standardise)[included]
    if len(np.unique(truth)) < 2:
        return None
    clusters = HDBSCAN(min_cluster_size=20).fit_predict(values)
    return max(float(adjusted_rand_score(truth, clusters)), mixture_ari(values, truth, len(np.unique(truth))))


def mixture_ari(values: np.ndarray, truth: np.ndarray, components: int) -> float:
    """Median over seeds of the adjusted Rand index of a full-covariance Gaussian mixture of values (n, k)."""
    from sklearn.metrics import adjusted_rand_score
    from sklearn.mixture import GaussianMixture

    found = []
    for seed in range(_SEEDS):
        mixture = GaussianMixture(components, covariance_type="full", reg_covar=1e-4, random_state=seed)
        found.append(adjusted_rand_score(truth, mixture.fit_predict(values.astype(np.float64))))
    return float(np.median(found))


def probe_r2(latents: np.ndarray, scan: SimulatedScan) -> dict[str, float]:
    """How much of strain and thickness a quadratic probe of the latents explains (R2), within grains.

    Ridge regression on all products of two latents, in each grain of at least `LEAST` positions, cross-validated
    by blocks of the scan in five folds.

    Parameters
    ----------
    latents : ndarray, shape (Ny, Nx, k)
    scan : SimulatedScan
        The truth.

    Returns
    -------
    dict
        ``strain``, the mean of three components, and ``thickness``; empty where no grain is large enough.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    included = ~scan.scan_mask & ~scan.truth["defect"]
    y, x = (np.arange(n) // _BLOCK for n in included.shape)
    fold = (y[:, None] * 7 + x * 3) % 5
    values, names = standardised(latents, included), (*STRAIN, "thickness")
    wrong, total = np.zeros(4), np.zeros(4)
    for grain in np.unique(scan.truth["grain"][included]):
        where = included & (scan.truth["grain"] == grain)
        target = np.stack([scan.truth[name][where] for name in names], 1).astype(np.float64)
        centre, spread = target.mean(0), target.std(0) + 1e-12
        if len(target) < LEAST:
            continue
        for held_out in np.unique(fold[where]):
            test = fold[where] == held_out
            if test.all():
                continue
            probe = make_pipeline(
                StandardScaler(), PolynomialFeatures(2, include_bias=False), StandardScaler(),
                RidgeCV(np.logspace(-2, 3, 11)),
            )  # fmt: skip
            probe.fit(values[where][~test], (target[~test] - centre) / spread)
            left = probe.predict(values[where][test]) * spread + centre - target[test]
            wrong += (left**2).sum(0)
            total += ((target[test] - centre) ** 2).sum(0)
    if not total.all():
        return {}
    found = 1 - wrong / total
    return {"strain": float(found[:3].mean()), "thickness": float(found[3])}


def standardised(latents: np.ndarray, included: np.ndarray, *, each: bool = True) -> np.ndarray:
    """Latents (Ny, Nx, k) with mean 0 and variance 1 over the included positions: each, or the mean of them."""
    values = latents[included]
    spread = values.std(0) if each else np.sqrt(values.var(0).mean())
    return (latents - values.mean(0)) / (spread + 1e-12)


def all_scores(reconstructed: np.ndarray, latents: np.ndarray, scan: SimulatedScan) -> dict[str, object]:
    """Every score of a method: the keys of a row in the quality table."""
    return {
        "efficiency": efficiency(reconstructed, scan),
        "psnr": psnr(reconstructed, scan),
        "brightest": brightest_bias(reconstructed, scan),
        **latent_scores(latents, scan),
    }


def latent_scores(latents: np.ndarray, scan: SimulatedScan) -> dict[str, object]:
    """Grain ARI and R2 of latents (Ny, Nx, k)."""
    with threadpool_limits(1):  # several times as fast: the matrices are small
        return {
            "ari": grain_ari(latents, scan.truth["grain"], ~scan.scan_mask),
            "ari as they are": grain_ari(latents, scan.truth["grain"], ~scan.scan_mask, standardise=False),
            "r2": probe_r2(latents, scan),
        }


def best_baseline(rows: dict[str, Any]) -> float:
    """The highest efficiency of the decompositions in the rows of one scan."""
    return max(of["efficiency"]["all"] for name, of in rows.items() if not name.startswith("autoencoder"))
