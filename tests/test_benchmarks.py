"""The scores that the benchmarks judge by, against cases whose score is known."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace

import numpy as np
import pytest
import pytorch_lightning as L
from benchmarks import __main__ as command
from benchmarks import autoencoder, parts, scans
from benchmarks.decomposition import METHODS, best_of
from benchmarks.limits import WINDOWS, r2_limits
from benchmarks.scores import best_baseline, efficiency, grain_ari, probe_r2, psnr
from benchmarks.table import written
from latentstem.simulation.simulate.simulate import simulate


@pytest.fixture(scope="module")
def linear():
    """Mixtures of three patterns: two parameters per pattern."""
    return simulate((22, 19), (12, 16), dose=2000, structure="linear", seed=100)


@pytest.fixture(scope="module")
def grains():
    return simulate((26, 21), (16, 12), dose=500, n_grains=3, defects=4, seed=100)


def best_estimate(scan):
    """Maximum likelihood for mixtures of known patterns with shares that sum to one: the Cramer-Rao limit."""
    shares = np.stack([scan.truth[f"abundance_{i}"].ravel() for i in range(3)], 1).astype(np.float64)
    clean = scan.expectation.reshape(len(shares), -1).astype(np.float64)
    pure = np.linalg.lstsq(shares, clean, rcond=None)[0]
    change = pure[1:] - pure[0]
    found = np.empty_like(clean)
    for i, counts in enumerate(scan.counts.reshape(clean.shape)):
        weight = 1 / np.maximum(clean[i], 1e-9)
        normal = (change * weight) @ change.T
        found[i] = pure[0] + np.linalg.solve(normal, (change * weight) @ (counts - pure[0])) @ change
    return found.reshape(scan.expectation.shape)


def test_efficiency_of_the_best_estimate_is_one(linear):
    assert linear.n_parameters == 2
    assert efficiency(best_estimate(linear), linear)["all"] == pytest.approx(1, abs=0.12)
    assert efficiency(linear.expectation, linear)["all"] > 1e6
    # the pattern as recorded estimates every pixel, not two parameters
    assert efficiency(linear.counts, linear)["all"] < 0.05


def test_efficiency_apart_at_boundaries_and_defects(grains):
    reconstructed = grains.expectation.copy()
    boundary, defect = grains.truth["boundary"], grains.truth["defect"]
    reconstructed[boundary & ~defect] *= 1.2
    reconstructed[defect] *= 2
    found = efficiency(reconstructed, grains)
    assert found["interior"] > 1e6
    assert found["defect"] < found["boundary"] < 1e3
    kept = ~defect
    expected = 1 / (boundary[kept].mean() / found["boundary"])
    assert found["all"] == pytest.approx(expected, rel=1e-5)


def test_what_is_excluded_does_not_count():
    scan = simulate(
        (9, 8), (16, 20), dose=500, n_grains=2, beam_stop=True, hot_pixels=2, vacuum=0.3, seed=100
    )
    reconstructed = scan.expectation + 0.01
    before = efficiency(reconstructed, scan), psnr(reconstructed, scan)
    reconstructed[scan.scan_mask] = np.nan
    reconstructed[~scan.scan_mask][:, scan.pattern_mask] = 1e6
    reconstructed[..., scan.pattern_mask] = 1e6
    assert (efficiency(reconstructed, scan), psnr(reconstructed, scan)) == before
    assert np.isfinite(before[1])


def test_psnr_of_a_known_error(linear):
    off = linear.expectation + 0.1
    expected = 20 * np.log10(linear.expectation.max() / 0.1)
    assert psnr(off, linear) == pytest.approx(expected, abs=0.01)


def test_ari_of_the_true_grains_is_one(grains):
    labels, everywhere = grains.truth["grain"], np.ones((26, 21), bool)
    rng = np.random.default_rng(0)
    latents = np.eye(3)[labels] + 0.05 * rng.normal(size=(26, 21, 3))
    assert grain_ari(latents, labels, everywhere) == pytest.approx(1)
    assert grain_ari(latents, labels, everywhere, standardise=False) == pytest.approx(1)
    assert grain_ari(rng.normal(size=(26, 21, 3)), labels, everywhere) < 0.2
    assert grain_ari(latents, np.zeros_like(labels), everywhere) is None
    latents[:2] = np.nan
    everywhere[:2] = False
    assert grain_ari(latents, labels, everywhere) == pytest.approx(1)


def test_r2_of_the_true_fields_is_one(grains):
    rng = np.random.default_rng(0)
    names = ("strain_xx", "strain_yy", "strain_xy", "thickness")
    fields = np.stack([grains.truth[name] for name in names], 2)
    fields = (fields - fields.mean((0, 1))) / fields.std((0, 1))
    mixed = fields @ rng.normal(size=(4, 6))
    found = probe_r2(mixed, grains)
    assert found["strain"] > 0.98
    assert found["thickness"] > 0.98
    thickness_only = probe_r2(mixed[..., :1] * 0 + fields[..., 3:] ** 3, grains)
    assert thickness_only["thickness"] > thickness_only["strain"]
    assert probe_r2(rng.normal(size=(26, 21, 6)), grains)["strain"] < 0.1
    assert probe_r2(mixed, replace(grains, scan_mask=np.indices((26, 21)).sum(0) > 5)) == {}


def test_limits_of_r2_follow_the_number_of_electrons():
    """Nine patterns tell what one of nine times the dose does; blank ones tell nothing, bright ones all."""
    few, many, none, all_of_them = (
        r2_limits(simulate((12, 14), (32, 32), dose=dose, n_grains=2, seed=100))
        for dose in (40, 360, 1e-3, 1e9)
    )
    assert few[9] == pytest.approx(many[1], rel=1e-3)
    for name in ("strain", "thickness"):
        found = [few[positions][name] for positions in WINDOWS]
        assert found == sorted(found)
        assert 0.02 < found[0] < found[-1] < 0.999
        assert none[1][name] < 1e-3
        assert all_of_them[1][name] > 0.999


def test_limits_of_r2_leave_out_what_the_scores_leave_out():
    arguments = {"dose": 300, "n_grains": 2, "vacuum": 0.3, "descan": 1.0, "seed": 100}
    whole, hidden = (
        r2_limits(simulate((16, 14), (32, 32), beam_stop=stop, **arguments)) for stop in (False, True)
    )
    for name in ("strain", "thickness"):  # the direct beam is behind the stop
        assert 0 < hidden[1][name] < whole[1][name] < 1
    single_positions = simulate((12, 14), (32, 32), n_grains=168, seed=100)
    assert r2_limits(single_positions) == {}


@pytest.mark.parametrize("method", METHODS)
def test_hyperspys_decomposition_at_its_best_size(method, linear):
    pytest.importorskip("hyperspy")
    found = best_of(method, linear, quick=True)
    assert found["by_size"][found["size"]] == max(found["by_size"].values()) == found["efficiency"]["all"]
    assert 0.03 < found["efficiency"]["all"] < 1.2
    assert found["seconds"] > 0


def test_decomposition_with_masks():
    pytest.importorskip("hyperspy")
    scan = simulate(
        (9, 8), (16, 20), dose=500, n_grains=2, beam_stop=True, hot_pixels=2, vacuum=0.3, seed=100
    )
    masked = best_of("SVD + Poisson", scan, quick=True)
    free = replace(scan, scan_mask=np.zeros((9, 8), bool), pattern_mask=np.zeros((16, 20), bool))
    assert masked["efficiency"]["all"] > 2 * best_of("SVD + Poisson", free, quick=True)["efficiency"]["all"]
    scan.counts[scan.scan_mask] = np.random.default_rng(0).integers(0, 60_000, (16, 20))
    again = best_of("SVD + Poisson", scan, quick=True)
    assert again["efficiency"]["all"] == pytest.approx(masked["efficiency"]["all"], rel=1e-3)


def test_seeds_are_held_out():
    assert min(arguments["seed"] for arguments in scans.SCANS.values()) >= 100
    assert len({arguments["seed"] for arguments in scans.SCANS.values()}) == len(scans.SCANS)
    assert scans.TYPICAL in scans.SCANS


def test_clocks_watch_a_run_and_take_no_part_in_it(linear):
    data = scans.masked(linear)
    steps, clock = autoencoder.StepClock(), autoencoder.EfficiencyClock(linear, time.perf_counter(), 50)
    arguments = {"max_patterns": 600, "max_time": None, "latent_dim": 3}
    model, seconds = autoencoder.train(data, False, callbacks=[steps, clock], **arguments)
    assert steps.seconds_per_step > 0
    times, values = zip(*clock.curve, strict=True)
    assert list(times) == sorted(times)
    assert times[-1] + clock.own <= seconds + 0.1
    assert (
        clock.seconds_to(0.999 * min(values)) == times[int(np.argmax(np.array(values) > 0.999 * min(values)))]
    )
    assert clock.seconds_to(1e9) is None
    alone, _ = autoencoder.train(data, False, **arguments)
    np.testing.assert_array_equal(alone.embed(data).maps, model.embed(data).maps)
    assert isinstance(clock, L.Callback)


def test_parts_run_and_are_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(autoencoder, "QUICK", {"max_patterns": 100, "max_time": None})
    monkeypatch.setattr(parts, "SCAN_SIDES", (9, 12))
    monkeypatch.setattr(parts, "DETECTOR_SIDES", (8, 12))
    page = command.main(
        ["--quick", "--only", "limits", "growth", "longer", "processes", "--output", str(tmp_path)]
    )
    text = page.read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    assert "| 12 x 12 |" in text
    assert re.search(r"^\| polycrystal, 500 e \| 25 \| 0\.\d+ \| 0\.\d+ \|$", text, re.MULTILINE)
    assert "| polycrystal, 500 e | 10 x |" in text
    assert "torch" in text
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert set(results) == {"limits", "growth", "longer", "processes"}
    assert len(re.findall(r"^\| [12] \| 0 \| [\d.,]+ \|", text, re.MULTILINE)) == 2
    page.unlink()
    command.main(["--rebuild", "--output", str(tmp_path)])
    assert page.read_text(encoding="utf-8") == text


def test_streaming_parts_run_and_are_written(tmp_path, monkeypatch):
    pytest.importorskip("hyperspy")
    pytest.importorskip("py4DSTEM")
    page = command.main(["--quick", "--only", "formats", "loading", "memory", "--output", str(tmp_path)])
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    found = results["formats"]["values"]
    assert found["memory map (.npy)"]["over the memory map"] == 1
    assert found["HyperSpy .zspy"]["2 workers"] > 0
    assert found["HyperSpy .zspy"]["cache_dir, again / s"] > 0
    assert "cache_dir, again / s" not in found["memory map (.npy)"]
    peaks = [of for sizes in results["memory"]["values"].values() for of in sizes.values()]
    assert all(1e8 < of["import"] <= of["train"] <= of["and embed"] <= of["and reconstruct"] for of in peaks)
    text = page.read_text(encoding="utf-8")
    assert "| HyperSpy .zspy |" in text
    assert "## Memory" in text
    assert results["loading"]["values"]["16 x 16"]["arrive"] > 0
    assert "| 16 x 16 |" in text


def test_table_of_quality():
    row = {
        "size": 8, "seconds": 1.25, "psnr": 40.04, "ari": None, "ari as they are": 0.75, "r2": {"strain": 0.5, "thickness": 0.25},
        "efficiency": {"all": 0.1, "interior": 0.2},
    }  # fmt: skip
    other = {"ari": 0.5, "ari as they are": 0.625, "r2": {"strain": 0.125, "thickness": 0.375}}
    better = {**row, "efficiency": {"all": 0.8, "interior": 0.9, "boundary": 0.7, "defect": 0.4}}
    rows = {
        "SVD": {**row, "also": {"maps smoothed": other}},
        "NMF": {**row, "efficiency": {"all": 0.05}},
        "autoencoder": better,
    }
    assert best_baseline(rows) == 0.1
    text = written({"quality": {"values": {"a scan": rows}, "machine": {"on": "a machine"}}})
    assert (
        "| autoencoder | 8 | 0.800 | 8.00 | 0.900 | 0.700 | 0.400 | 40.0 |  | 0.750 | 0.500 | 0.250 | 1.2 |"
        in text
    )
    assert "| SVD | 8 | 0.100 | 1.00 | 0.200 |  |  |" in text
    assert "| SVD, maps smoothed | 8 |  |  |  |  |  |  | 0.500 | 0.625 | 0.125 | 0.375 |  |" in text
    assert "a machine" in text


def test_part_of_workers_runs_and_is_written(tmp_path):
    pytest.importorskip("distributed")
    page = command.main(["--quick", "--only", "workers", "--output", str(tmp_path)])
    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["workers"]["values"]
    assert all(rate > 0 for of in found["rates"].values() for rate in of.values())
    assert found["files"][".npy"]["peak"] >= found["files"][".npy"]["import"] > 1e8
    assert "| dask workers of one thread: 1 |" in page.read_text(encoding="utf-8")
