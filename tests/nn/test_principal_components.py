"""Scores of patterns: centred, of one scale, with a noise that is known, and which patterns they call alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import latentstem
from latentstem import as_scan
from latentstem.nn.detector import Detector
from latentstem.nn.preprocessing import Preprocessing
from latentstem.nn.principal_components import PrincipalComponents
from latentstem.nn.scan_sample import sample_values, sample_with_neighbour_means
from latentstem.nn.scan_scores import ScanScores


def fitted(data, *, counts=True, kind="minmax", count=24, radius=1, pattern_mask=None):
    """Principal components of all patterns of a scan."""
    scan = as_scan(data)
    preprocessing = Preprocessing(kind, Detector(scan.pattern_shape))
    preprocessing.detector.set_mask(pattern_mask)
    everywhere = np.arange(scan.n_positions)
    preprocessing.fit(sample_values(scan, everywhere, preprocessing.detector), counts=counts)
    components = PrincipalComponents(preprocessing, count, radius)
    single, mean = sample_with_neighbour_means(scan, everywhere, preprocessing.detector)
    components.fit(single, mean, counts=counts, seed=0)
    return components, single, mean


@pytest.fixture(scope="module")
def specimen():
    """Grains with strain and bending: the expected intensities (24, 20, 16, 18) of 2000 electrons."""
    return latentstem.simulate((24, 20), (16, 18), dose=2000, n_grains=4).expectation


@pytest.fixture(scope="module")
def recorded(specimen):
    return np.random.default_rng(0).poisson(specimen).astype(np.uint16)


@pytest.mark.parametrize("kind", ["minmax", "sqrt", "log", "zscore", "none"])
@pytest.mark.parametrize("unit", [1, 1e-6, 1e6])
def test_scores_are_centred_and_of_one_scale(recorded, kind, unit):
    counts = unit == 1
    components, single, mean = fitted(recorded if counts else recorded * unit, counts=counts, kind=kind)
    scores = components.scores(mean)
    spread = scores.std(0)
    assert scores.mean(0).abs().max() < 1e-3
    assert spread[:16].max() <= 1
    assert spread[:16].min() > 0.7
    assert 0.1 < spread.min()
    assert components.scores(single)[:, :3].mean(0).abs().max() < 0.3


def test_components_are_ranked_and_differ(recorded):
    components, _, mean = fitted(recorded)
    scores = components.scores(mean)
    together = torch.corrcoef(scores.T) - torch.eye(24)
    assert together.abs().max() < 0.3
    assert together[:6, :6].abs().max() < 0.05
    noise = components.noise / scores.std(0)
    assert noise[:3].max() < 0.5 * noise[12:].min()  # what stands out most of the noise comes first


def test_fewer_patterns_than_components(recorded):
    for n in (2, 5, 20):
        components, single, _ = fitted(recorded[:1, :n])
        scores, variances = components(single)
        assert scores.shape == (n, 24)
        assert variances.shape == (n, 16)
        assert n == 2 or scores[:, 0].std() > 0.1  # two are the same in the mean over neighbours
        assert not scores[:, n - 1 :].any()
        assert torch.isfinite(scores).all()
        assert torch.isfinite(variances).all()


@pytest.mark.parametrize("counts", [True, False])
def test_what_does_not_vary_has_no_scores(counts):
    """Two phases without noise have one component; what is left is rounding."""
    phases = np.random.default_rng(0).gamma(1.0, 5.0, (2, 9, 10))
    where = np.broadcast_to(np.arange(12) >= 6, (8, 12)).astype(int)
    patterns = phases[where].round() if counts else phases[where].astype(np.float32)
    components, single, _ = fitted(patterns, counts=counts)
    assert (
        components.directions.abs().amax(0) > 0
    ).sum() <= 3  # phases, and where they are mixed at the edge
    assert components.scores(single + 1e-3).abs().max() < 5
    components, single, _ = fitted(np.broadcast_to(patterns[0, 0], (5, 6, 9, 10)), counts=counts)
    assert not components.scores(single).any()


def test_the_same_seed_gives_the_same_components(recorded):
    generator = torch.get_rng_state()
    one, other = (fitted(recorded)[0] for _ in range(2))
    assert torch.equal(one.directions, other.directions)
    assert torch.equal(torch.get_rng_state(), generator)


# ---- noise ----


def measured(components, specimen, draw):
    """Standard deviation of each score over recordings of the same specimen."""
    expected = components.scores(torch.from_numpy(specimen.reshape(-1, 16, 18)).float())
    rng = np.random.default_rng(5)
    patterns = torch.from_numpy(draw(rng, specimen).reshape(-1, 16, 18)).float()
    return (components.scores(patterns) - expected).std(0)


@pytest.mark.parametrize("kind", ["minmax", "zscore", "none"])
def test_the_noise_of_counts_is_known(specimen, recorded, kind):
    components, single, _ = fitted(recorded, kind=kind)
    want = measured(components, specimen, lambda rng, mean: rng.poisson(mean))
    assert components.gain == 1
    assert (components.noise / want).tolist() == pytest.approx([1] * 24, rel=0.2)
    variances = components(single)[1].mean(0)
    assert (variances.sqrt() / want[:16]).tolist() == pytest.approx([1] * 16, rel=0.2)


@pytest.mark.parametrize("kind", ["minmax", "zscore", "none"])
@pytest.mark.parametrize("electron", [0.37, 5e4])
def test_the_noise_of_scaled_values_is_estimated(specimen, recorded, kind, electron):
    components, _, _ = fitted(recorded * electron, counts=False, kind=kind, count=128)
    want = measured(
        components, specimen * electron, lambda rng, mean: electron * rng.poisson(mean / electron)
    )
    assert components.gain.item() == pytest.approx(electron, rel=0.2)
    assert (components.noise / want)[:16].mean() == pytest.approx(1, rel=0.2)


def test_brighter_patterns_are_noisier(recorded):
    components, single, _ = fitted(recorded)
    dim, bright = components(single)[1], components(9 * single)[1]
    torch.testing.assert_close(bright, 9 * dim)


def test_noise_is_measured_anew_on_other_data(recorded):
    components, single, _ = fitted(recorded)
    before, scores = components.noise.clone(), components.scores(single)
    components.fit_noise(4 * single)
    torch.testing.assert_close(components.noise, 2 * before)
    assert torch.equal(components.scores(single), scores)


# ---- alike ----


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 999), apart=st.floats(0, 4), q=st.integers(16, 30))
def test_alike_equals_the_formula(seed, apart, q):
    rng = np.random.default_rng(seed)
    s, t = rng.normal(size=(2, q))
    t = s + apart * t
    v, w = rng.uniform(0.1, 2, (2, 16))
    want = sum((s[a] - t[a]) ** 2 / (v[a] + w[a]) for a in range(16)) / 16 < 2.1
    components = PrincipalComponents(Preprocessing("none", Detector((8, 8))), q, 1)
    first, second = ((torch.from_numpy(a), torch.from_numpy(b)) for a, b in ((s, v), (t, w)))
    assert bool(components.is_similar(first, second)) == want == bool(components.is_similar(second, first))


@pytest.mark.parametrize("counts", [True, False])
def test_like_patterns_are_alike_and_others_are_not(counts):
    """Of two phases, recorded with noise."""
    rng = np.random.default_rng(0)
    phases = rng.gamma(0.5, 20, (2, 9, 10))
    where = np.broadcast_to((np.arange(40) >= 21).astype(int), (40, 40))
    patterns = rng.poisson(phases[where]) * (1 if counts else 0.2)
    components, single, _ = fitted(patterns, counts=counts, count=64)
    scores, variances = components(single)
    alike = components.is_similar((scores[:, None], variances[:, None]), (scores, variances)).numpy()
    same = where.ravel()[:, None] == where.ravel()
    assert alike[same].mean() > 0.9
    assert not alike[~same].any()


@pytest.mark.parametrize("counts", [True, False])
def test_a_defect_of_one_position_is_nobodys_neighbour(counts):
    rng = np.random.default_rng(0)
    host = rng.gamma(0.5, 10, (9, 10))
    mean = np.broadcast_to(host, (30, 34, 9, 10)).copy()
    mean[5, 6] = np.roll(host, 4, 0)
    patterns = rng.poisson(mean) * (1 if counts else 0.2)
    components, _, _ = fitted(patterns, counts=counts, count=64)
    scores = ScanScores.measure(as_scan(patterns), components, components._preprocessing[0].detector)
    members = scores(np.arange(30 * 34)).ring_counts.sum(1).reshape(30, 34)
    assert members[5, 6] == 0
    around = members[4:7, 5:8].flatten()[[0, 1, 2, 3, 5, 6, 7, 8]]
    assert around.max() <= 7  # of eight, one being the defect
    assert around.mean() > 6
    assert members[8:29, 1:33].mean() > 7.5


# ---- masks ----


def test_what_lies_under_the_pattern_mask_is_not_seen(recorded):
    mask = np.zeros((16, 18), bool)
    mask[4:9, 9:12] = True
    made = []
    for garbage in (0.0, np.nan, 1e30):
        values = recorded.astype("float32")
        values[:, :, mask] = garbage
        components, single, _ = fitted(values, pattern_mask=mask)
        made.append((components.directions, components.noise, *components(single)))
        assert not components.directions[torch.from_numpy(mask.ravel())].any() or garbage != garbage
    for found in made[1:]:
        for one, other in zip(found, made[0], strict=True):
            assert torch.equal(one, other)


def test_scores_travel_with_the_state(recorded):
    components, single, _ = fitted(recorded)
    other = PrincipalComponents(components._preprocessing[0], 24, 1)
    other.load_state_dict(components.state_dict())
    assert torch.equal(other.scores(single), components.scores(single))
    assert torch.equal(other.noise, components.noise)
