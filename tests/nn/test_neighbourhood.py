"""Means over the neighbourhood of a scan position: by distance, and for each component apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentstem.nn.batches import ScoreBatch
from latentstem.nn.neighbourhood import RingMeans, neighbour_offsets


@pytest.mark.parametrize(("radius", "rings"), [(0, []), (1, [4, 4]), (2, [4, 4, 4, 8, 4])])
def test_neighbours_at_the_same_distance_share_a_ring(radius, rings):
    steps, ring = neighbour_offsets(radius)
    assert steps.dtype.kind == ring.dtype.kind == "i"
    assert steps.shape == ((2 * radius + 1) ** 2 - 1, 2)
    assert len({*map(tuple, steps.tolist()), (0, 0)}) == (2 * radius + 1) ** 2
    assert np.abs(steps).max(initial=0) == radius
    assert np.bincount(ring).tolist() == rings
    assert (np.diff(ring) >= 0).all()  # the nearest first
    distance = np.hypot(*steps.T)
    for number in range(len(rings)):
        assert len(set(distance[ring == number])) == 1
    assert all(np.diff([distance[ring == number][0] for number in range(len(rings))]) > 0)


@st.composite
def surroundings(draw):
    """Means of random weights, and scores with the ring sums and numbers of their neighbours."""
    components, radius, n = draw(st.integers(1, 6)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    means = RingMeans(components, radius)
    rings = means.log_weight.shape[1] - 1
    members = rng.integers(0, 5, (n, rings))
    sums = rng.normal(size=(n, rings, components)) * (members > 0)[:, :, None]
    weight = rng.uniform(0.1, 2, means.log_weight.shape)
    with torch.no_grad():
        means.log_weight.copy_(torch.from_numpy(np.log(weight)))
    return means, weight, rng.normal(size=(n, components)), sums, members


@settings(max_examples=40, deadline=None)
@given(surroundings())
def test_means_equal_a_plain_loop(drawn):
    means, weight, scores, sums, members = drawn
    n, components = scores.shape
    want = np.zeros((n, means.n_means, components))
    for i in range(n):
        for which in range(means.n_means):
            for c in range(components):
                total, norm = weight[which, 0, c] * scores[i, c], weight[which, 0, c]
                for ring in range(sums.shape[1]):
                    total += weight[which, ring + 1, c] * sums[i, ring, c]
                    norm += weight[which, ring + 1, c] * members[i, ring]
                want[i, which, c] = total / norm
    with torch.no_grad():
        got = means(ScoreBatch(*(torch.from_numpy(a).float() for a in (scores, sums, members))))
    np.testing.assert_allclose(got.numpy(), want.reshape(n, -1), rtol=1e-4, atol=1e-5)


def test_means_start_from_different_widths():
    means = RingMeans(2, 2)
    members = torch.tensor([[4.0, 4, 4, 8, 4]])
    with torch.no_grad():
        batch = ScoreBatch(torch.zeros(1, 2), members[:, :, None].repeat(1, 1, 2), members)
        share = means(batch)[0].reshape(-1, 2)
    assert share[0].tolist() == pytest.approx(
        [24 / 25] * 2
    )  # of the neighbours; the first mean is a plain one
    assert torch.all(share.diff(dim=0) < -0.05)
    assert torch.equal(share[:, 0], share[:, 1])


def test_each_component_has_weights_of_its_own():
    means = RingMeans(3, 1)
    batch = ScoreBatch(torch.randn(4, 3), torch.randn(4, 2, 3), torch.full((4, 2), 4.0))
    with torch.no_grad():
        before = means(batch).reshape(4, -1, 3)
        means.log_weight[:, 0, 1] += 2
        change = (means(batch).reshape(4, -1, 3) - before).abs()
    assert (change[..., 1] > 1e-4).all()
    assert not change[..., [0, 2]].any()
    means(batch).square().sum().backward()
    assert (means.log_weight.grad != 0).all()


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_the_mean_without_neighbours_is_the_pattern_itself(radius):
    means, scores = RingMeans(5, radius), torch.randn(3, 5)
    with torch.no_grad():
        got = means(ScoreBatch.without_neighbours(scores, means.log_weight.shape[1] - 1))
    torch.testing.assert_close(got, scores.repeat(1, means.n_means))
