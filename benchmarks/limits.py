"""How well the patterns of a simulated scan can tell strain and thickness at all."""

from __future__ import annotations

from typing import Any

import numpy as np

from latentstem.simulation.diffraction import draw_patterns
from latentstem.simulation.simulate import SimulatedScan, _generators
from latentstem.simulation.specimen import make_specimen

from .scores import LEAST, STRAIN

#: positions that are averaged: a pattern alone, and squares of 3 x 3, 5 x 5 and 7 x 7
WINDOWS = (1, 9, 25, 49)
_STEPS = {
    **dict.fromkeys((*STRAIN, "rotation"), 1e-4), "tilt_x": 0.05, "tilt_y": 0.05, "thickness": 0.05,
    "descan_y": 0.02, "descan_x": 0.02,
}  # fmt: skip
_SAMPLE = 40  # positions of a grain
_FAINTEST = 1e-6  # electrons, for a pixel's share of the information


def r2_limits(scan: SimulatedScan) -> dict[int, dict[str, float]]:
    """The R2 within grains that an estimate from so many alike positions can reach.

    The mean squared error of a parameter is at least the diagonal of ``inverse(m F + inverse(V))``, for m
    positions with the Fisher information F of Poisson counts each, where parameters are normal with the
    covariances V that they have within the grain (van Trees, Detection, Estimation, and Modulation Theory I,
    1968). R2 is 1 minus that error over the variance. All parameters of a pattern are unknown; the grain is
    known. Parameters that are smooth functions of the scan position are not normal: who knows that, as a
    probe that is trained within the grain does in part, may pass this.

    Parameters
    ----------
    scan : SimulatedScan
        Not of structure "linear".

    Returns
    -------
    dict
        ``strain``, the mean of three components, and ``thickness``, for each of `WINDOWS`; empty where no grain
        is large enough.
    """
    _, crystals, _ = make_specimen(_generators(scan.seed)["specimen"], scan.arguments)
    flat = {name: values.ravel().astype(np.float64) for name, values in scan.truth.items()}
    included = ~(scan.scan_mask | scan.truth["defect"]).ravel()
    rng = np.random.default_rng(0)
    wrong, total = np.zeros((len(WINDOWS), 4)), np.zeros(4)
    for grain in np.unique(flat["grain"][included]):
        inside = np.flatnonzero(included & (flat["grain"] == grain))
        if len(inside) < LEAST:
            continue
        varying = [name for name in _STEPS if flat[name][inside].std() > 0]
        wanted = [varying.index(name) for name in (*STRAIN, "thickness")]
        chosen = rng.permutation(inside)[:_SAMPLE]
        some = {name: values[chosen] for name, values in flat.items()}
        information = _information(scan, crystals[int(grain)], some, varying)
        covariance = np.cov([flat[name][inside] for name in varying], bias=True)
        for i, positions in enumerate(WINDOWS):
            error = np.linalg.solve(
                np.eye(len(varying)) + positions * covariance @ information, covariance[None]
            )
            wrong[i] += len(inside) * np.diagonal(error, axis1=1, axis2=2).mean(0)[wanted]
        total += len(inside) * np.diagonal(covariance)[wanted]
    if not total.all():
        return {}
    found = 1 - wrong / total
    return {
        positions: {"strain": float(of[:3].mean()), "thickness": float(of[3])}
        for positions, of in zip(WINDOWS, found, strict=True)
    }


def _information(
    scan: SimulatedScan, crystal: Any, truth: dict[str, np.ndarray], varying: list[str]
) -> np.ndarray:
    """Fisher information (n, p, p) of the counts at n positions about the parameters that vary."""
    used = ~scan.pattern_mask

    def expectation(**changed: np.ndarray) -> np.ndarray:
        number = len(truth["thickness"])
        patterns = np.zeros((number, *used.shape), np.float32)
        draw_patterns(patterns, np.arange(number), crystal, {**truth, **changed}, scan.pixel_size, scan.dose)
        return patterns[:, used].astype(np.float64)

    slopes = np.stack([
        (expectation(**{name: truth[name] + step}) - expectation(**{name: truth[name] - step})) / (2 * step)
        for name, step in ((name, _STEPS[name]) for name in varying)
    ], 1)  # fmt: skip
    weight = 1 / (expectation() + _FAINTEST)
    information: np.ndarray = np.einsum("nap,np,nbp->nab", slopes, weight, slopes)
    return information
