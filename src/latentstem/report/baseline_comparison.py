"""Baseline comparison: held-out scores of the autoencoder, PCA and NMF."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import ndimage, stats

from ..inference.model import LatentModel
from ..nn.autoencoder import Autoencoder
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
from .statistics import block_numbers, mean_and_error, ratio_and_error

__all__ = ["compare_with_baselines"]

_MAX_ERROR_RATIO = 0.8  # of the errors of model and best baseline; above it the verdict is "use the baseline"
_MAX_FIT_PATTERNS, _MAX_SCORED_PATTERNS = 4096, 2048
_MAX_VALUES = 2**27  # detector values in memory
_PATTERNS_PER_BATCH = 256

_Fits = dict[str, tuple[Callable[[int], Decomposition], list[int]]]


def compare_with_baselines(model: LatentModel, scan: Scan, counts: bool) -> dict[str, Any]:
    """Score the model, PCA and NMF on the held-out half of thinned patterns, at held-out scan positions.

    Each method gets one half of each pattern (if they are not `counts`: added noise, see `thin`) and is scored against
    the other. The baselines are fitted to the training positions. On the model's training scan (with the same scan mask),
    the positions held out from training are used; on another scan, all of them.

    Returns
    -------
    dict
        ``methods``: by name, ``best`` and ``same_size`` with ``components``, the mean `loss` and the mean
        `squared_error`; ``by_components`` is the loss at each number of components.
        ``verdict``: a sentence; ``better``: whether the model is; ``baseline``: the name of the best one.
        ``difference`` of the losses, model minus best baseline, and ``error_ratio``: ``mean`` and
        ``standard_error`` from blocks of the scan. ``trained_on``: the same difference at training positions.
        ``kind``, ``positions``, ``blocks``, ``same_scan``: the data of the comparison.
    """
    config, rng, signature = model.config, np.random.default_rng([model.config.seed, 5]), scan.signature()
    same_scan = all(
        model.scan_signature.get(key) == signature[key] for key in ("scan_shape", "pattern_shape", "dtype")
    )
    training, held_out = split_positions(scan, config.validation_fraction, config.seed)
    if not same_scan:
        held_out = np.sort(np.concatenate([training, held_out]))
    pixels = _UsedPixels(model.autoencoder)
    n_scored = min(_MAX_SCORED_PATTERNS, _MAX_VALUES // 4 // pixels.count)
    held_out = _random_sample(held_out, n_scored, rng)
    training_sample = _random_sample(training, n_scored // 2, rng)
    fit_positions = _random_sample(training, min(_MAX_FIT_PATTERNS, _MAX_VALUES // pixels.count), rng)
    variance = None if counts else noise_variance(scan, pixels.values)
    fit_patterns = np.concatenate([pixels.values(scan.read(batch)) for batch in _batches(fit_positions)])
    pixels.offset = min(0.0, float(fit_patterns.mean(0).min()))  # NMF needs values that are not negative
    mean_pattern = fit_patterns.mean(0) - pixels.offset
    fits = _fit_baselines(fit_patterns - np.float32(pixels.offset), counts, int(config.latent_dim))
    scores = ScanScores.measure(scan, pixels.autoencoder.principal_components, pixels.detector)

    def predict(fit: Decomposition | None, patterns: _ThinnedPatterns, n: int) -> np.ndarray:
        """Prediction of the target by a fitted baseline, or by the model (None)."""
        predicted = patterns.reconstruction if fit is None else fit.reconstruct(patterns.input, n)
        return predicted if variance is not None else clip(predicted, patterns.target, mean_pattern)

    patterns = _thin(scan, held_out, pixels, scores, variance, rng)
    blocks = _held_out_blocks(scan.scan_shape, held_out, same_scan)
    size = int(config.latent_dim)
    predicted = {("autoencoder", size): predict(None, patterns, size)}
    by_components: dict[str, dict[int, float]] = {}
    for name, (fit, sizes) in fits.items():
        predictions = {n: predict(fit(n), patterns, n) for n in sizes}
        by_components[name] = {
            n: float(loss(predictions[n], patterns.target, variance).mean()) for n in sizes
        }
        for n in (_best_size(by_components[name]), min(size, sizes[-1])):
            predicted[name, n] = predictions[n]
    baseline = min(by_components, key=lambda name: min(by_components[name].values()))
    model_key, baseline_key = ("autoencoder", size), (baseline, _best_size(by_components[baseline]))
    noise = variance
    if noise is None:  # the mean prediction of the compared methods
        noise = np.mean([predicted[model_key], predicted[baseline_key]], 0)
        noise = noise + 0.01 * float(mean_pattern.mean())
    target = patterns.target
    losses = {key: loss(values, target, variance) for key, values in predicted.items()}
    errors = {key: squared_error(values, target, variance, noise) for key, values in predicted.items()}

    def means(*key: Any) -> dict[str, float]:
        loss_and_error = {"loss": float(losses[key].mean()), "error": float(errors[key].mean())}
        return {"components": key[1], **loss_and_error}

    methods: dict[str, Any] = {"autoencoder": dict.fromkeys(("best", "same_size"), means(*model_key))}
    for name, (_, sizes) in fits.items():
        methods[name] = {
            "best": means(name, _best_size(by_components[name])),
            "same_size": means(name, min(size, sizes[-1])),
            "by_components": by_components[name],
        }
    training_patterns = _thin(scan, training_sample, pixels, scores, variance, rng)
    best_fit = fits[baseline][0](baseline_key[1])
    training_losses = [
        loss(predict(fit, training_patterns, baseline_key[1]), training_patterns.target, variance)
        for fit in (None, best_fit)
    ]
    result = {
        "kind": "counts" if counts else "values",
        "positions": len(held_out),
        "blocks": len(np.unique(blocks)),
        "same_scan": same_scan,
        "methods": methods,
        "baseline": baseline,
        "difference": mean_and_error(losses[model_key] - losses[baseline_key], blocks),
        "error_ratio": ratio_and_error(errors[model_key], errors[baseline_key], blocks),
        "trained_on": mean_and_error(
            training_losses[0] - training_losses[1], block_numbers(scan.scan_shape).ravel()[training_sample]
        ),
    }
    return {**result, **_verdict(result)}


class _ThinnedPatterns(NamedTuple):
    """Thinned patterns (n, p) in used pixels: input, target, and the model's reconstruction."""

    input: np.ndarray
    target: np.ndarray
    reconstruction: np.ndarray


class _UsedPixels:
    """Detector values of patterns at used pixels, shape (n, p), minus an offset; and back through the model."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        self.autoencoder, self.detector = autoencoder, autoencoder.preprocessing.detector
        self.offset = 0.0
        self._used = (self.detector.used > 0).numpy().ravel()
        self.count = int(self._used.sum())

    def values(self, patterns: np.ndarray) -> np.ndarray:
        return self._select(self.autoencoder.values(patterns_to_tensor(patterns)))

    @torch.no_grad()
    def reconstruct(self, values: np.ndarray, scores: ScoreBatch) -> np.ndarray:
        images = np.zeros((len(values), len(self._used)), np.float32)
        images[:, self._used] = values + self.offset
        shaped = torch.from_numpy(images).reshape(-1, *self.detector.shape)
        return self._select(self.autoencoder.decode(self.autoencoder.encode(shaped, scores)))

    def _select(self, values: torch.Tensor) -> np.ndarray:
        return values.numpy().reshape(len(values), -1)[:, self._used] - np.float32(self.offset)


def _thin(
    scan: Scan,
    positions: np.ndarray,
    pixels: _UsedPixels,
    scores: ScanScores,
    variance: np.ndarray | None,
    rng: np.random.Generator,
) -> _ThinnedPatterns:
    """Thinned patterns at some flat scan positions."""
    batches = []
    for batch in _batches(positions):
        inputs, target = thin(pixels.values(scan.read(batch)), variance, rng)
        batches.append((inputs, target, pixels.reconstruct(inputs, scores(batch))))
    return _ThinnedPatterns(*map(np.concatenate, zip(*batches, strict=True)))


def _held_out_blocks(scan_shape: tuple[int, int], positions: np.ndarray, same_scan: bool) -> np.ndarray:
    """Block number of each held-out position: the blocks of the split, or a grid if these are too few or small."""
    if same_scan:
        mask = np.zeros(scan_shape, bool)
        mask.ravel()[positions] = True
        labels, count = ndimage.label(mask)
        if count >= 3 and len(positions) >= 8 * count:
            return labels.ravel()[positions]
    return block_numbers(scan_shape).ravel()[positions]


def _fit_baselines(patterns: np.ndarray, counts: bool, size: int) -> _Fits:
    """By name: a function that fits the decomposition, and the numbers of components to try."""
    largest = min(patterns.shape) - 1
    svd_sizes, nmf_sizes = (sorted({min(n, largest) for n in (*sizes, size)}) for sizes in (SIZES, NMF_SIZES))
    fits: _Fits = {}
    for poisson in (False, True)[: 1 + counts]:
        fitted = svd(patterns, svd_sizes[-1], poisson=poisson)
        fits[fitted.name] = (lambda n, fitted=fitted: fitted, svd_sizes)  # type: ignore[misc]
    by_size = {n: nmf(patterns, n, poisson=counts) for n in nmf_sizes}
    fits[by_size[nmf_sizes[0]].name] = (by_size.__getitem__, nmf_sizes)
    return fits


def _verdict(result: dict[str, Any]) -> dict[str, Any]:
    """Verdict: the model is better only if the difference is significant (95 %, two-sided) and large enough."""
    difference, ratio, baseline = result["difference"], result["error_ratio"], result["baseline"]
    limit = stats.t.ppf(0.975, max(result["blocks"] - 1, 1)) * difference["standard_error"]
    components = result["methods"][baseline]["best"]["components"]
    unit = "deviance" if result["kind"] == "counts" else "squared error over noise variance"
    kind = "NMF" if baseline.startswith("NMF") else "PCA"
    details = (
        f"best baseline: {baseline} with {components} components; difference in held-out {unit} per pattern: "
        f"{difference['mean']:.3g} ± {difference['standard_error']:.2g}, at {result['positions']} positions "
        f"in {result['blocks']} blocks of the scan"
    )
    if difference["mean"] > limit:
        return {"better": False, "verdict": f"{kind} is better here: use it, or train longer ({details})."}
    if difference["mean"] >= -limit or ratio["mean"] > _MAX_ERROR_RATIO:
        return {"better": False, "verdict": f"{kind} is equally good here: use it ({details})."}
    gain = f"{kind} is worse"
    if np.isfinite(ratio["mean"]):
        gain = f"its error is {ratio['mean']:.2f} ± {ratio['standard_error']:.2f} of {kind}'s"
    return {"better": True, "verdict": f"Better than PCA and NMF: {gain} ({details})."}


def _best_size(losses: dict[int, float]) -> int:
    return min(losses, key=lambda n: losses[n])


def _random_sample(positions: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    count = max(1, count)
    return positions if len(positions) <= count else np.sort(rng.choice(positions, count, replace=False))


def _batches(positions: np.ndarray) -> list[np.ndarray]:
    starts = range(0, len(positions), _PATTERNS_PER_BATCH)
    return [positions[start : start + _PATTERNS_PER_BATCH] for start in starts]
