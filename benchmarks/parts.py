"""The parts of the benchmark: each gives plain values for the table."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from latentstem.io.open import as_scan
from latentstem.report.statistics import latent_agreement

from . import autoencoder as ae
from .decomposition import METHODS, best_of
from .limits import r2_limits
from .processes import processes
from .scans import SCANS, TYPICAL, benchmark_scan, masked
from .scores import best_baseline, mixture_ari, standardised
from .streaming import formats, loading, memory
from .workers import workers

ROOT = Path(__file__).resolve().parents[1]
ORIENT4D = ROOT.parent / "shared" / "data" / "orient4d-scan32"
#: measured on the typical scan; on the others, the defaults alone
VARIANTS: dict[str, dict[str, Any]] = {
    "autoencoder": {},
    "autoencoder, context=0": {"context": 0},
    "autoencoder, latent_dim=8": {"latent_dim": 8},
}
TRAINED = 100_000  # patterns, where a training run is timed
GROWN = 30_000  # the same, for each size of scan and detector
SCAN_SIDES, DETECTOR_SIDES = (32, 64, 128, 256, 512), (32, 64, 128, 256)


def quality(quick: bool) -> dict[str, Any]:
    """Scores of HyperSpy's decompositions and of the autoencoder on every scan."""
    found: dict[str, Any] = {}
    for name in SCANS:
        scan = benchmark_scan(name, quick)
        rows = dict(_decompositions(name, quick))
        variants = VARIANTS if name == TYPICAL else {"autoencoder": {}}
        for variant, arguments in variants.items():
            model, seconds = ae.train(masked(scan), quick, **arguments)
            size = int(model.config.latent_dim)
            rows[variant] = {"size": size, "seconds": seconds, **ae.scores_of(model, scan)}
            say(f"{name}: {variant}: efficiency {rows[variant]['efficiency']['all']:.3f}")
        found[name] = rows
    return found


def limits(quick: bool) -> dict[str, Any]:
    """The R2 of strain and thickness that the counts of every scan allow, by positions that are averaged."""
    return {name: r2_limits(benchmark_scan(name, quick)) for name in SCANS}


def passing(quick: bool) -> dict[str, Any]:
    """Seconds from the call until the efficiency passes that of the best baseline, and the curve."""
    found: dict[str, Any] = {}
    for name in SCANS:
        scan = benchmark_scan(name, quick)
        level = best_baseline(_decompositions(name, quick))
        clock = ae.EfficiencyClock(scan, time.perf_counter())
        ae.train(masked(scan), quick, max_time="00:00:01:00", callbacks=[clock])
        found[name] = {"best baseline": level, "seconds": clock.seconds_to(level), "curve": clock.curve}
        say(f"{name}: passes {level:.3f} after {found[name]['seconds']} s")
    return found


def speed(quick: bool) -> dict[str, Any]:
    """Patterns per second in training and embedding, and against the reference network."""
    scan = benchmark_scan(TYPICAL, quick)
    clock = ae.StepClock()
    model, seconds = ae.train(masked(scan), quick, max_patterns=TRAINED, max_time=None, callbacks=[clock])
    batch = model.config.batch_size
    embedding = min(_seconds(lambda: model.embed(scan.counts)) for _ in range(3))
    few = scan.counts[:3, :4]
    steps = {}
    for preset, shortest in (("default", {"max_patterns": 20}), ("reference", {"epochs": 1})):
        watch = ae.StepClock()
        ae.train(few, False, preset=preset, batch_size=2, max_time=None, callbacks=[watch], **shortest)
        steps[preset] = watch.seconds_per_step
    own, reference = batch / clock.seconds_per_step, 2 / steps["reference"]
    return {
        "training, patterns/s, step alone": own,
        "training, patterns/s, whole run": model.history["patterns_seen"][-1] / seconds,
        "batch": batch,
        "embedding, patterns/s": scan.scan_mask.size / embedding,
        "reference preset, patterns/s": reference,
        "steps/s over reference, batch of 2": steps["reference"] / steps["default"],
        "patterns/s over reference": own / reference,
    }


def growth(quick: bool) -> dict[str, Any]:
    """Seconds to train on a fixed number of patterns and to embed, over the sizes of scan and detector."""
    tile = benchmark_scan(TYPICAL, quick).counts
    found: dict[str, Any] = {"scan": {}, "detector": {}}
    for side in SCAN_SIDES[:2] if quick else SCAN_SIDES:
        repeats = [-(-side // n) for n in tile.shape[:2]]
        data = np.tile(tile, (*repeats, 1, 1))[:side, :side]
        found["scan"][side] = _training_and_embedding(data, quick)
    for side in DETECTOR_SIDES[:2] if quick else DETECTOR_SIDES:
        repeats = [-(-side // n) for n in tile.shape[2:]]
        data = np.tile(tile[:32, :32], (1, 1, *repeats))[..., :side, :side]
        found["detector"][side] = _training_and_embedding(np.ascontiguousarray(data), quick)
    return found


def seeds(quick: bool) -> dict[str, Any]:
    """Scores of three training seeds on one scan, and how alike the latents of the first two are."""
    scan = benchmark_scan(TYPICAL, quick)
    models = [ae.train(masked(scan), quick, seed=seed)[0] for seed in range(3)]
    maps = [model.embed(scan.counts).maps.reshape(scan.scan_mask.size, -1) for model in models[:2]]
    return {
        "scores": [ae.scores_of(model, scan) for model in models],
        "agreement": latent_agreement(*maps),
    }


def longer(quick: bool) -> dict[str, Any]:
    """Efficiency after the default number of patterns, and after ten times as many."""
    found: dict[str, Any] = {}
    for name in [TYPICAL] if quick else [TYPICAL, "polycrystal, 100 e"]:
        scan = benchmark_scan(name, quick)
        patterns = ae.QUICK["max_patterns"] if quick else None
        found[name] = {}
        for times in (1, 10):
            model, seconds = ae.train(masked(scan), False, max_patterns=patterns, max_time=None)
            patterns = 10 * int(model.history["patterns_seen"][-1])
            found[name][times] = {"seconds": seconds, "efficiency": ae.scores_of(model, scan)["efficiency"]}
            say(f"{name}: {times} x: {found[name][times]}")
    return found


def labelled(quick: bool) -> dict[str, Any]:
    """Grains in a labelled scan by somebody else's simulator: latents against raw PCA."""
    from sklearn.decomposition import PCA

    if not ORIENT4D.is_dir():
        return {"missing": str(ORIENT4D)}
    with np.load(ORIENT4D / "ground_truth.npz") as file:
        grains = file["grain_id"]
    scan = as_scan(ORIENT4D / "scan_32.hspy")
    patterns = scan.read(np.arange(scan.n_positions)).reshape(scan.n_positions, -1).astype(np.float32)
    model, seconds = ae.train(scan, quick)
    latents = {
        f"PCA, {n} components": PCA(n, random_state=0).fit_transform(patterns) for n in (4, 6, 8, 12, 16)
    }
    latents[f"autoencoder, {ae.LATENTS} latents"] = model.embed(scan).maps
    everywhere, count = np.ones(grains.shape, bool), len(np.unique(grains))
    found = {
        name: {
            scaled: mixture_ari(
                standardised(values.reshape(*grains.shape, -1), everywhere, each=each)[everywhere],
                grains.ravel(),
                count,
            )
            for scaled, each in (("standardised", True), ("as they are", False))
        }
        for name, values in latents.items()
    }
    return {"ari": found, "seconds": seconds}


@functools.cache
def _decompositions(name: str, quick: bool) -> dict[str, Any]:
    scan = benchmark_scan(name, quick)
    return {method: best_of(method, scan, quick) for method in METHODS}


def say(line: str) -> None:
    """Progress."""
    print(line, flush=True)


def _training_and_embedding(data: np.ndarray, quick: bool) -> dict[str, float]:
    model, seconds = ae.train(data, quick, max_patterns=GROWN, max_time=None)
    embedding = _seconds(lambda: model.embed(data))
    say(f"{data.shape}: training {seconds:.1f} s, embedding {embedding:.1f} s")
    return {
        "training / s": seconds,
        "embedding / s": embedding,
        "embedding, patterns/s": data.shape[0] * data.shape[1] / embedding,
    }


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


PARTS: dict[str, Callable[[bool], dict[str, Any]]] = {
    part.__name__: part
    for part in (
        quality,
        limits,
        passing,
        speed,
        growth,
        seeds,
        longer,
        labelled,
        processes,
        formats,
        loading,
        memory,
        workers,
    )
}
