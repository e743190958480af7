"""Is the autoencoder worth it? Its reconstructions against PCA's and NMF's, on noise that none has seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from scipy import ndimage, stats

from ..nn.batches import ScoreBatch
from ..nn.preprocessing import patterns_to_tensor
from ..nn.scan_scores import ScanScores
from ..scan.scan import Scan
from ..training.data_module import split_positions
from .baselines import (
    NMF_SIZES,
    SIZES,
    Decomposition,
    clip,
    loss,
    nmf,
    noise_variance,
    squared_error,
    svd,
    thin,
)
from .statistics import mean_and_error, ratio_and_error, tiles

if TYPE_CHECKING:
    from ..inference.model import LatentModel

__all__ = ["compare"]

_WORTH_IT = 0.8  # of the best baseline's error: what is above is not worth a network
_MOST_FITTED, _MOST_SCORED = 4096, 2048  # patterns
_MOST_VALUES = 2**27
_BATCH = 256


def compare(model: LatentModel, scan: Scan, counts: bool) -> dict[str, Any]:
    """Score the model, PCA and NMF on held-out noise at held-out scan positions.

    Each method is given a pattern with half of the electrons (or with added noise, see `baselines.thin`) and
    judged by the other half. The baselines are fitted to the positions that the model was trained on.

    Parameters
    ----------
    model : LatentModel
        On the scan it was trained on, the positions held out from training are used; on another, all of them.
    scan : Scan
        The data, with the scan mask of training.
    counts : bool
        Whether the data are counts.

    Returns
    -------
    dict
        ``methods``: by name, ``best`` and ``same_size`` with ``components``, the mean `baselines.loss` and
        the mean `baselines.squared_error`; ``by_components`` is the loss at each number of components.
        ``verdict``: a sentence; ``better``: whether the model is; ``baseline``: the name of the best one.
        ``difference`` of the losses, model less best baseline, and ``error_ratio``: ``mean`` and
        ``standard_error`` from blocks of the scan. ``trained_on``: the same difference where the model
        was trained. ``kind``, ``positions``, ``blocks``, ``same_scan``: of what this was measured.
    """
    bench, size = _Bench(model, scan, counts), int(model.config.latent_dim)
    halves = bench.halves(bench.held_out)
    fits = _baselines(bench.fitted, counts, size)
    losses: dict[str, dict[int, float]] = {}
    predicted: dict[tuple[str, int], np.ndarray] = {("autoencoder", size): bench.clipped(halves.own, halves)}
    for name, (fit, sizes) in fits.items():
        tried = {n: bench.clipped(fit(n).reconstruct(halves.given, n), halves) for n in sizes}
        losses[name] = {n: float(bench.loss(values, halves).mean()) for n, values in tried.items()}
        for n in (_lowest(losses[name]), min(size, sizes[-1])):
            predicted[name, n] = tried[n]
    baseline = min(losses, key=lambda name: min(losses[name].values()))
    own, other = ("autoencoder", size), (baseline, _lowest(losses[baseline]))
    noise = bench.noise(predicted[own], predicted[other])
    loss = {key: bench.loss(values, halves) for key, values in predicted.items()}
    error = {
        key: squared_error(values, halves.target, bench.variance, noise) for key, values in predicted.items()
    }

    def figures(name: str, n: int) -> dict[str, float]:
        return {
            "components": n,
            "loss": float(loss[name, n].mean()),
            "error": float(error[name, n].mean()),
        }

    methods: dict[str, Any] = {"autoencoder": dict.fromkeys(("best", "same_size"), figures(*own))}
    for name, (_, sizes) in fits.items():
        methods[name] = {
            "best": figures(name, _lowest(losses[name])),
            "same_size": figures(name, min(size, sizes[-1])),
            "by_components": losses[name],
        }
    seen = bench.halves(bench.seen)
    theirs = fits[baseline][0](other[1]).reconstruct(seen.given, other[1])
    difference = [bench.loss(bench.clipped(values, seen), seen) for values in (seen.own, theirs)]
    result = {
        "kind": "counts" if counts else "values",
        "positions": len(halves.blocks),
        "blocks": len(np.unique(halves.blocks)),
        "same_scan": bench.same_scan,
        "methods": methods,
        "baseline": baseline,
        "difference": mean_and_error(loss[own] - loss[other], halves.blocks),
        "error_ratio": ratio_and_error(error[own], error[other], halves.blocks),
        "trained_on": mean_and_error(difference[0] - difference[1], seen.blocks),
    }
    return {**result, **_verdict(result)}


class _Halves(NamedTuple):
    """Patterns (n, p) in used pixels: what is given, what is to be predicted, the model's reconstructions."""

    given: np.ndarray
    target: np.ndarray
    own: np.ndarray
    blocks: np.ndarray


class _Bench:
    """Positions to compare at, the noise of the data, and what the baselines are fitted to."""

    def __init__(self, model: LatentModel, scan: Scan, counts: bool) -> None:
        self.module, self.scan, config = model.autoencoder, scan, model.config
        self.used = (self.module.preprocessing.detector.used > 0).numpy().ravel()
        pixels, trained, this = int(self.used.sum()), model.scan_signature, scan.signature()
        self.same_scan = all(
            trained.get(key) == this[key] for key in ("scan_shape", "pattern_shape", "dtype")
        )
        self.rng, self.offset = np.random.default_rng([config.seed, 5]), 0.0
        self.scores = ScanScores.measure(
            scan, self.module.principal_components, self.module.preprocessing.detector
        )
        training, held_out = split_positions(scan, config.validation_fraction, config.seed)
        if not self.same_scan:
            held_out = np.sort(np.concatenate([training, held_out]))
        scored = min(_MOST_SCORED, _MOST_VALUES // 4 // pixels)
        self.held_out, self.seen = _some(held_out, scored, self.rng), _some(training, scored // 2, self.rng)
        self.variance = None if counts else noise_variance(scan, self._values)
        chosen = _some(training, min(_MOST_FITTED, _MOST_VALUES // pixels), self.rng)
        self.fitted = np.concatenate([self._values(scan.read(part)) for part in _parts(chosen)])
        self.mean = self.fitted.mean(0)
        self.offset = min(0.0, float(self.mean.min()))  # NMF needs values that are not negative
        self.fitted -= self.offset
        self.mean -= self.offset

    def halves(self, positions: np.ndarray) -> _Halves:
        """Thinned patterns at these flat scan positions, and what the model makes of them."""
        found = []
        for part in _parts(positions):
            recorded = self._values(self.scan.read(part))
            given, target = thin(recorded, self.variance, self.rng)
            found.append((given, target, self._through_model(given, self.scores(part))))
        given, target, own = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return _Halves(given, target, own, self._blocks(positions))

    def clipped(self, predicted: np.ndarray, halves: _Halves) -> np.ndarray:
        """Reconstructions (n, p) with a floor, where they are counts."""
        return predicted if self.variance is not None else clip(predicted, halves.target, self.mean)

    def loss(self, predicted: np.ndarray, halves: _Halves) -> np.ndarray:
        """Loss (n,) of clipped reconstructions."""
        return loss(predicted, halves.target, self.variance)

    def noise(self, *predicted: np.ndarray) -> np.ndarray:
        """Variance of the recorded noise; for counts, what methods that are compared predict on average."""
        if self.variance is not None:
            return self.variance
        return np.mean(predicted, 0) + 0.01 * float(self.mean.mean())

    def _blocks(self, positions: np.ndarray) -> np.ndarray:
        if self.same_scan and np.array_equal(positions, self.held_out):
            where = np.zeros(self.scan.scan_shape, bool)
            where.ravel()[positions] = True
            labels, count = ndimage.label(where)
            if count >= 3 and len(positions) >= 8 * count:
                return labels.ravel()[positions]
        return tiles(self.scan.scan_shape).ravel()[positions]

    def _values(self, patterns: np.ndarray) -> np.ndarray:
        return self._flat(self.module.values(patterns_to_tensor(patterns)))

    def _flat(self, values: torch.Tensor) -> np.ndarray:
        return values.numpy().reshape(len(values), -1)[:, self.used] - np.float32(self.offset)

    @torch.no_grad()
    def _through_model(self, given: np.ndarray, neighbours: ScoreBatch) -> np.ndarray:
        whole = np.zeros((len(given), len(self.used)), np.float32)
        whole[:, self.used] = given + self.offset
        values = torch.from_numpy(whole).reshape(-1, *self.module.preprocessing.shape)
        return self._flat(self.module.decode(self.module.encode(values, neighbours)))


def _baselines(
    patterns: np.ndarray, counts: bool, size: int
) -> dict[str, tuple[Callable[[int], Decomposition], list[int]]]:
    """By name, a decomposition of at least so many components, and the numbers to try."""
    most = min(patterns.shape) - 1
    sizes, few = (sorted({min(n, most) for n in (*tried, size)}) for tried in (SIZES, NMF_SIZES))
    fits: dict[str, tuple[Callable[[int], Decomposition], list[int]]] = {}
    for poisson in (False, True)[: 1 + counts]:
        whole = svd(patterns, sizes[-1], poisson=poisson)
        fits[whole.name] = (lambda n, whole=whole: whole, sizes)  # type: ignore[misc]
    each = {n: nmf(patterns, n, poisson=counts) for n in few}
    fits[each[few[0]].name] = (each.__getitem__, few)
    return fits


def _verdict(result: dict[str, Any]) -> dict[str, Any]:
    """A plain sentence, for a significant difference (95 %, two-sided) that is large enough to matter."""
    difference, ratio, baseline = result["difference"], result["error_ratio"], result["baseline"]
    limit = stats.t.ppf(0.975, max(result["blocks"] - 1, 1)) * difference["standard_error"]
    components = result["methods"][baseline]["best"]["components"]
    unit = "deviance" if result["kind"] == "counts" else "squared error over noise variance"
    short = "NMF" if baseline.startswith("NMF") else "PCA"
    measured = (
        f"best baseline: {baseline} with {components} components; difference in held-out {unit} per pattern: "
        f"{difference['mean']:.3g} ± {difference['standard_error']:.2g}, at {result['positions']} positions "
        f"in {result['blocks']} blocks of the scan"
    )
    share, error = ratio["mean"], ratio["standard_error"]
    if difference["mean"] > limit:
        return {"better": False, "verdict": f"{short} is better here: use it, or train longer ({measured})."}
    if difference["mean"] >= -limit or share > _WORTH_IT:
        return {"better": False, "verdict": f"{short} is as good here: use it ({measured})."}
    size = (
        f"its error is {share:.2f} ± {error:.2f} of {short}'s" if np.isfinite(share) else f"{short} is worse"
    )
    return {"better": True, "verdict": f"Better than PCA and NMF: {size} ({measured})."}


def _lowest(losses: dict[int, float]) -> int:
    return min(losses, key=lambda n: losses[n])


def _some(positions: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    most = max(1, most)
    return positions if len(positions) <= most else np.sort(rng.choice(positions, most, replace=False))


def _parts(positions: np.ndarray) -> list[np.ndarray]:
    return [positions[at : at + _BATCH] for at in range(0, len(positions), _BATCH)]
