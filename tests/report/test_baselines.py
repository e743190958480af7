"""PCA and NMF as baselines, and scores that do not reward noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from latentstem.io.arrays import as_pattern_source
from latentstem.report.baselines import clip, loss, nmf, noise_variance, squared_error, svd, thin
from latentstem.scan.scan import Scan, default_axes

POSITIONS, PIXELS = 35, 24 * 8


@pytest.fixture
def mixtures() -> np.ndarray:
    """Non-negative mixtures of three patterns, with pixels of very different brightness."""
    rng = np.random.default_rng(0)
    factors = rng.gamma(0.3, size=(3, PIXELS)) * rng.uniform(0.1, 30, PIXELS)
    return (rng.dirichlet(np.ones(3), POSITIONS) @ factors).astype(np.float32)


@pytest.mark.parametrize("poisson", [False, True])
@pytest.mark.parametrize("fit", [svd, nmf])
def test_mixtures_of_three_need_three_components(fit, poisson, mixtures):
    size = np.linalg.norm(mixtures)
    enough = np.linalg.norm(fit(mixtures, 3, poisson=poisson).reconstruct(mixtures) - mixtures) / size
    too_few = np.linalg.norm(fit(mixtures, 2, poisson=poisson).reconstruct(mixtures) - mixtures) / size
    assert enough < (0.05 if fit is nmf else 1e-5)
    assert too_few > 0.1


def test_components_beyond_the_data_are_cut(mixtures):
    assert svd(mixtures, 500).factors.shape == (POSITIONS, PIXELS)


def test_first_components_are_those_of_a_smaller_fit(mixtures):
    noisy = np.random.default_rng(1).poisson(mixtures).astype(np.float32)
    small, large = svd(noisy, 2, poisson=True), svd(noisy, 20, poisson=True)
    np.testing.assert_allclose(small.reconstruct(noisy), large.reconstruct(noisy, 2), rtol=0.02, atol=0.05)


def test_nmf_shares_are_not_negative(mixtures):
    fitted = nmf(mixtures, 4)
    assert (fitted.factors >= 0).all()
    assert (fitted.reconstruct(np.random.default_rng(1).normal(size=(5, PIXELS))) >= 0).all()


@pytest.mark.parametrize("poisson", [False, True])
def test_svd_is_hyperspys(poisson, mixtures):
    hs = pytest.importorskip("hyperspy.api")
    totals = np.linspace(0.2, 3, POSITIONS)[:, None]
    noisy = np.random.default_rng(1).poisson(mixtures * totals).astype(np.float32)
    signal = hs.signals.Signal2D(noisy.reshape(7, 5, 24, 8))
    signal.decomposition(normalize_poissonian_noise=poisson, output_dimension=3, print_info=False)
    theirs = signal.get_decomposition_model(3).data.reshape(POSITIONS, PIXELS)
    ours = svd(noisy, 3, poisson=poisson).reconstruct(noisy)
    np.testing.assert_allclose(ours, theirs, atol=1e-3 * theirs.max())


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(st.sampled_from([np.uint8, np.uint16, np.float32]), (3, 5), elements=st.integers(0, 200)))
def test_halves_of_counts_sum_to_the_counts(counts):
    first, second = thin(counts, None, np.random.default_rng(0))
    np.testing.assert_array_equal(first + second, 2 * counts.astype(np.float32))
    assert (first >= 0).all()
    assert (first % 2 == 0).all()


@pytest.mark.parametrize("counts", [True, False])
def test_halves_have_independent_noise_of_twice_the_variance(counts):
    rng = np.random.default_rng(0)
    variance = np.array([0.5, 3.0, 20.0])
    shape = (200_000, 3)
    patterns = rng.poisson(variance, shape) if counts else rng.normal(7, np.sqrt(variance), shape)
    halves = thin(patterns, None if counts else variance, rng)
    for half in halves:
        np.testing.assert_allclose(half.mean(0), variance if counts else 7, rtol=0.02)
        np.testing.assert_allclose(half.var(0), 2 * variance, rtol=0.03)
    for pixel in range(3):
        assert abs(np.corrcoef(halves[0][:, pixel], halves[1][:, pixel])[0, 1]) < 0.01


@pytest.mark.parametrize("counts", [True, False])
def test_squared_error_is_that_against_the_clean_patterns(counts):
    rng = np.random.default_rng(0)
    clean = rng.gamma(2.0, 1.0, (3000, 40))
    variance = None if counts else np.full(40, 2.0)
    recorded = rng.poisson(clean) if counts else clean + rng.normal(0, np.sqrt(2.0), clean.shape)
    given, target = thin(recorded, variance, rng)
    noise = clean if counts else variance
    for predicted in (clean, 1.2 * clean, 0.9 * clean + 0.1 * given):
        truth = ((predicted - clean) ** 2 / noise).mean()
        found = squared_error(predicted, target, variance, noise)
        assert abs(found.mean() - truth) < 4 * found.std() / 3000**0.5
    # what follows the noise is worse than the truth, also where it is nearer to the recorded pattern
    assert loss(clean, target, variance).mean() < loss(0.9 * clean + 0.1 * given, target, variance).mean()


def test_loss_of_counts_is_the_deviance_of_the_half(mixtures):
    from scipy.stats import poisson

    counts = np.random.default_rng(0).poisson(mixtures)
    _, target = thin(counts, None, np.random.default_rng(1))
    expected = np.maximum(mixtures, 1e-3)
    half = target / 2
    saturated = poisson.logpmf(half, np.maximum(half, 1e-30)).sum(1)
    np.testing.assert_allclose(
        loss(expected, target, None), 2 * (saturated - poisson.logpmf(half, expected / 2).sum(1)), rtol=1e-4
    )


def test_clip_leaves_no_negative_prediction(mixtures):
    target = np.random.default_rng(0).poisson(mixtures).astype(np.float32)
    clipped = clip(mixtures - 1.0, target, mixtures.mean(0))
    assert (clipped > 0).all()
    assert np.isfinite(loss(clipped, target, None)).all()


def test_noise_is_found_beside_the_signal():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:30, :23]
    slow = np.sin(y / 9 + x / 7)[..., None, None] * rng.uniform(5, 20, (8, 9))
    slow[14:] += 50  # a grain boundary
    sigma = np.linspace(0.5, 3, 72).reshape(8, 9)
    patterns = (slow + rng.normal(0, sigma, slow.shape)).astype(np.float32)
    scan = Scan(as_pattern_source(patterns), default_axes(patterns.shape))
    found = noise_variance(scan, lambda stored: stored.reshape(len(stored), -1))
    # the slow signal bends a little between neighbours, which counts as noise
    np.testing.assert_allclose(np.sqrt(found), sigma.ravel(), rtol=0.25)


def test_noise_of_lines_too_short_is_negligible():
    patterns = np.random.default_rng(0).normal(size=(2, 2, 8, 9)).astype(np.float32)
    scan = Scan(as_pattern_source(patterns), default_axes(patterns.shape))
    found = noise_variance(scan, lambda stored: stored.reshape(len(stored), -1))
    assert found.shape == (72,)
    assert (found > 0).all()
