"""Latent maps are smooth where the specimen is, and only there."""

from __future__ import annotations

import hyperspy.api as hs
import numpy as np
import py4DSTEM
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from helpers import train
from latentstem import Embedding
from latentstem.cli import app
from latentstem.errors import ArgumentError
from latentstem.inference import smoothing
from latentstem.inference.smoothing import smooth_maps
from latentstem.nn.autoencoder import Autoencoder


def two_grains(noise: float, shape=(20, 24), k=3) -> tuple[np.ndarray, np.ndarray]:
    """Latents that rise evenly in each of two grains, without and with noise."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    slopes = np.stack([0.01 * y, 0.01 * x, 0.01 * (x - y)], -1)[..., :k]
    clean = np.where((x < 11)[..., None], slopes, 5 - 2 * slopes).astype(np.float32)
    return clean, clean + noise * np.random.default_rng(0).normal(size=clean.shape).astype(np.float32)


def as_the_formula(maps: np.ndarray, radius: int, limit: float) -> np.ndarray:
    """What the docstring of `smooth_maps` says, position by position."""
    found = np.full_like(maps, np.nan)
    steps = [(y, x) for y in range(-radius, radius + 1) for x in range(-radius, radius + 1)]
    for i in np.ndindex(maps.shape[:2]):
        rows, values = [(0.0, 0.5**0.5, 0.0), (0.0, 0.0, 0.5**0.5)], [np.zeros(maps.shape[2])] * 2
        for dy, dx in steps:
            j = (i[0] + dy, i[1] + dx)
            if min(j) < 0 or j[0] >= maps.shape[0] or j[1] >= maps.shape[1]:
                continue
            if ((maps[i] - maps[j]) ** 2).sum() < limit:
                weight = np.exp(-(dy**2 + dx**2) / (2 * (0.75 * radius) ** 2)) ** 0.5
                rows.append((weight, weight * dy, weight * dx))
                values.append(weight * maps[j].astype(float))
        if np.isfinite(maps[i]).all():
            found[i] = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0][0]
    return found


@pytest.mark.parametrize("radius", [1, 2, 3])
@pytest.mark.parametrize("shape", [(7, 9), (1, 12), (12, 1), (2, 2)])
def test_it_is_the_formula(radius, shape):
    maps = np.random.default_rng(1).normal(size=(*shape, 3)).astype(np.float32).cumsum(0).cumsum(1)
    maps[0, -1] = np.nan
    found = smoothing._fit_planes(maps, radius, 2.5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, as_the_formula(maps, radius, 2.5), atol=2e-5)


def test_noise_goes_and_slopes_and_boundaries_stay():
    clean, noisy = two_grains(0.05)
    found = smooth_maps(noisy, 2)
    left = (found - clean).std(), (noisy - clean).std()
    assert left[0] < 0.45 * left[1]
    # without noise nothing changes but at the edges, by less than a scan position of the slope
    np.testing.assert_allclose(smooth_maps(clean, 2), clean, atol=0.01)
    np.testing.assert_allclose(smooth_maps(clean, 2)[2:-2, 2:8], clean[2:-2, 2:8], atol=1e-5)


def test_a_single_position_that_deviates_stays_itself():
    _, noisy = two_grains(0.05)
    noisy[9, 5] = noisy[12, 18] = (-4, 4, 2)
    found = smooth_maps(noisy, 2)
    np.testing.assert_allclose(found[[9, 12], [5, 18]], noisy[[9, 12], [5, 18]], rtol=1e-5)
    assert not np.allclose(found[9, 6], noisy[9, 6])
    assert np.abs(found[9, 6] - two_grains(0)[0][9, 6]).max() < 0.1


def test_a_scan_without_order_is_left_alone():
    _, noisy = two_grains(0.05)
    assert not np.array_equal(smooth_maps(noisy, 2), noisy)
    shuffled = np.random.default_rng(2).permutation(noisy.reshape(-1, 3)).reshape(noisy.shape)
    np.testing.assert_array_equal(smooth_maps(shuffled, 2), shuffled)
    np.testing.assert_array_equal(smooth_maps(noisy, 0), noisy)
    same = np.ones((5, 6, 2), np.float32)
    np.testing.assert_array_equal(smooth_maps(same, 2), same)


@given(
    ny=st.integers(1, 9), nx=st.integers(1, 9), k=st.integers(1, 4), radius=st.integers(0, 4),
    excluded=st.floats(0, 1), seed=st.integers(0, 99), scale=st.sampled_from([1e-12, 1.0, 1e12]),
)  # fmt: skip
def test_excluded_positions_stay_so_and_count_for_nothing(ny, nx, k, radius, excluded, seed, scale):
    rng = np.random.default_rng(seed)
    maps = (scale * rng.normal(size=(ny, nx, k)).cumsum(0).cumsum(1)).astype(np.float32)
    out = rng.random((ny, nx)) < excluded
    maps[out] = np.nan
    before = maps.copy()
    found = smooth_maps(maps, radius)
    np.testing.assert_array_equal(maps, before)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(maps))
    assert found.dtype == np.float32
    if not out.all():  # weighted means of planes through the values
        assert np.nanmax(np.abs(found)) <= 3 * np.nanmax(np.abs(maps))


def test_parts_of_a_large_scan_fit_together(monkeypatch):
    _, noisy = two_grains(0.05, (90, 24))
    whole = smooth_maps(noisy, 3)
    monkeypatch.setattr(smoothing, "_POSITIONS_PER_BLOCK", 7 * 24)
    np.testing.assert_array_equal(smooth_maps(noisy, 3), whole)


@pytest.fixture(scope="module")
def model(scan):
    return train(scan)


def test_embedding_smooths_as_far_as_the_model_looks(model, scan):
    own = model.embed(scan, smooth=0)
    found = model.embed(scan)
    assert (own.provenance["smooth"], found.provenance["smooth"]) == (0, 2)
    np.testing.assert_array_equal(found.maps, smooth_maps(own.maps, 2))
    assert not np.allclose(found.maps, own.maps)
    np.testing.assert_array_equal(model.embed(scan, smooth=1).maps, smooth_maps(own.maps, 1))


@pytest.mark.parametrize("value", [-1, 11, 1.5, True, "2"])
def test_what_is_no_radius_is_refused_before_any_work(model, scan, value, monkeypatch):
    monkeypatch.setattr(Autoencoder, "encode_batch", None)
    with pytest.raises(ArgumentError) as error:
        model.embed(scan, smooth=value)
    assert "smooth is not a radius" in str(error.value)
    assert f"expected an integer from 0 to 10, in scan positions; received {value!r}" in str(error.value)


def by_hyperspy(scan, model, folder, smooth):
    how = {} if smooth is None else {"smooth": smooth}
    return np.moveaxis(hs.signals.Signal2D(scan).embed(model, **how).data, 0, -1)


def by_py4dstem(scan, model, folder, smooth):
    how = {} if smooth is None else {"smooth": smooth}
    return np.moveaxis(py4DSTEM.DataCube(scan).embed(model, **how).data, 0, -1)


def by_command(scan, model, folder, smooth):
    np.save(folder / "scan.npy", scan)
    output = folder / f"latents-{smooth}.npz"
    arguments = ["--data", folder / "scan.npy", "--model", model.save(folder / "ae.ckpt"), "--output", output]
    arguments += [] if smooth is None else ["--smooth", smooth]
    result = CliRunner().invoke(app, ["embed", *map(str, arguments)])
    if result.exit_code:
        assert not output.exists()
        raise ValueError(result.output)
    return Embedding.load(output).maps


@pytest.mark.parametrize("embed", [by_hyperspy, by_py4dstem, by_command])
def test_maps_are_smoothed_through_every_door(embed, model, scan, tmp_path):
    own = model.embed(scan, smooth=0).maps
    for smooth, want in ((None, smooth_maps(own, 2)), (0, own), (1, smooth_maps(own, 1))):
        np.testing.assert_allclose(embed(scan, model, tmp_path, smooth), want, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"smooth\s+is\s+not\s+a\s+radius"):
        embed(scan, model, tmp_path, 11)
