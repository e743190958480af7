"""What every network promises: any pattern shape, capacity in every latent, patterns seen one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentstem.nn.batches import ScoreBatch
from latentstem.nn.neighbourhood import ring_count
from latentstem.nn.networks import build_network, compact, resnet

NETWORKS = ["compact", "resnet"]


@pytest.fixture(autouse=True, scope="module")
def narrow():
    """A narrow edition of the reference network: the same, but quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet, "_CHANNELS", 16)
        yield


def network(name, shape=(16, 20), latent_dim=4, initialise=True, **arguments):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build_network(name, shape, latent_dim, **arguments)
        if initialise:
            with torch.no_grad():
                n = 2 * latent_dim + 20
                net.initialise(torch.rand(n, *shape), torch.randn(n, latent_dim), None)
        return net


def inputs(net, n, radius=0, **options):
    """What the network sees of n patterns: the patterns, or their scores and their neighbours'."""
    if not net.n_components:
        return torch.rand(n, *net.shape, **options)
    scores, rings = torch.randn(n, net.n_components, **options), ring_count(radius)
    counts = torch.randint(0, 5, (n, rings)).to(scores)
    return ScoreBatch(scores, counts[:, :, None] * torch.randn(n, rings, net.n_components, **options), counts)


def encode(net, seen):
    return net.encode_scores(seen) if net.n_components else net.encode(seen)


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=12, deadline=None)
@given(
    height=st.integers(8, 70),
    width=st.integers(8, 70),
    k=st.integers(1, 5),
    radius=st.integers(0, 3),
    counts=st.booleans(),
)
def test_any_pattern_shape(name, height, width, k, radius, counts):
    net = network(name, (height, width), k, context=radius, counts=counts).eval()
    with torch.no_grad():
        z = encode(net, inputs(net, 2, radius))
        y = net.decode(z)
    assert z.shape == (2, k)
    assert y.shape == (2, height, width)
    assert torch.isfinite(z).all()
    assert torch.isfinite(y).all()
    assert (net.shape, net.latent_dim) == ((height, width), k)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_part_of_the_network_learns(name):
    net = network(name, context=1, counts=True)
    (net.decode(encode(net, inputs(net, 6, 1))) - torch.rand(6, 16, 20)).square().mean().backward()
    idle = [
        n
        for n, p in net.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    ]
    assert not idle


@pytest.mark.parametrize("name", NETWORKS)
def test_patterns_do_not_see_each_other_in_use(name):
    net = network(name, context=1)
    with torch.no_grad():
        for _ in range(3):  # batch statistics, where there are any
            encode(net, inputs(net, 8, 1))
        net.eval()
        x = inputs(net, 5, 1)
        others = inputs(net, 7, 1)
        z = encode(net, x)
        if net.n_components:
            mixed = ScoreBatch(*(torch.cat([a[:2], 9 * b]) for a, b in zip(x, others, strict=True)))
        else:
            mixed = torch.cat([x[:2], 9 * others])
        torch.testing.assert_close(encode(net, mixed)[:2], z[:2], rtol=1e-4, atol=1e-5)
        y = net.decode(z)
        torch.testing.assert_close(net.decode(z[1:2]), y[1:2], rtol=1e-4, atol=1e-5)


def test_compact_sees_the_neighbours():
    net = network("compact", context=1).eval()
    batch = inputs(net, 3, 1)
    batch = batch._replace(ring_counts=batch.ring_counts + 1)
    brighter = batch._replace(ring_sums=batch.ring_sums + batch.ring_counts[:, :, None])
    with torch.no_grad():
        z = net.encode_scores(batch)
        assert not torch.allclose(z, net.encode_scores(brighter))
        assert not torch.allclose(z, net.encode_scores(batch._replace(scores=batch.scores + 1)))


def test_compact_starts_from_the_leading_components():
    for context in (0, 2):
        net = network("compact", context=context).eval()
        scores = torch.randn(5, net.n_components)
        batch = ScoreBatch.without_neighbours(scores, ring_count(context))
        with torch.no_grad():
            torch.testing.assert_close(net.encode_scores(batch), scores[:, :4])


@pytest.mark.parametrize("counts", [True, False])
def test_compact_starts_from_the_mean_pattern(counts):
    y, x = np.mgrid[:16, :20]
    spot = np.exp(-((y - 5) ** 2 + (x - 12) ** 2) / 6)
    strength = np.random.default_rng(0).uniform(1, 3, (300, 1, 1)) * (np.arange(300) % 3 == 0)[:, None, None]
    intensity = torch.from_numpy(0.4 + 4 * strength * spot).float()
    net = network("compact", initialise=False, counts=counts).eval()
    with torch.no_grad():
        z = torch.zeros(300, 4)  # no shift is linear in these
        net.initialise(intensity.sqrt() if counts else intensity, z, torch.tensor(2.0) if counts else None)
        net.head.weight.zero_()
        got = net.decode(torch.zeros(1, 4))[0]
    mean, median = intensity.mean(0), intensity.median(0).values
    assert mean.max() > 4 * median.max()
    if counts:  # in intensity; between the median and the mean
        got = got.square()
        assert (got > 0.98 * median).all()
        assert (got < 1.05 * mean).all()
        assert got[5, 12] > 0.5 * mean[5, 12]
    else:
        torch.testing.assert_close(got, mean, rtol=1e-3, atol=1e-3)


def test_the_background_of_counts_varies_smoothly_with_the_latents():
    """As diffuse scattering does: by a factor of each pixel's own level, changing slowly over the detector."""
    net = network("compact", shape=(40, 48), initialise=False, counts=True).eval()
    with torch.no_grad():
        net.head.weight.zero_()
        net.level.fill_(-1e-6)
        net.background.copy_(torch.rand(40, 48) + 0.5)
        assert torch.allclose(net.decode(torch.ones(1, 4))[0], net.background, atol=1e-5)
        net.background_mlp[-1].bias.copy_(torch.linspace(-1, 1, 6).repeat(6))  # brighter to the right
        ratio = (net.decode(torch.ones(1, 4)) / net.background)[0].log()
    assert ratio[:, -1].mean() - ratio[:, 0].mean() > 1.5
    assert ratio.diff(dim=0).abs().max() < 1e-3
    assert 0 < ratio.diff(dim=1).min()
    assert ratio.diff(dim=1).max() < 0.2


@pytest.mark.parametrize("counts", [True, False])
def test_what_is_far_off_is_finite(counts):
    """A cosmic ray in a pattern, and latents that no training pattern has."""
    net = network("compact", counts=counts).eval()
    with torch.no_grad():
        for layer in (net.encoder_mlp[-1], net.background_mlp[-1]):
            layer.weight.normal_()
        scores = 1e5 * torch.randn(20, net.n_components)
        y = net.decode(net.encode_scores(ScoreBatch.without_neighbours(scores, 0)))
    assert torch.isfinite(y).all()
    assert torch.isfinite(y.square()).all()


def rank(vectors):
    values = torch.linalg.svdvals((vectors - vectors.mean(0)).flatten(1).double())
    return int((values > 1e-6 * values[0]).sum())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", [(16, 20), (9, 40), (40, 33)])
def test_no_narrower_bottleneck_than_the_latents(name, shape):
    k = 96
    net = network(name, shape, k).double()  # while training, so that batch statistics are those of the data
    if name == "resnet":
        with torch.no_grad():
            net.embed.bias.fill_(1e3)  # lift every latent above its ReLU
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        assert rank(encode(net, inputs(net, 200, generator=generator, dtype=torch.float64))) == k
        z = torch.rand(200, k, generator=generator, dtype=torch.float64)
        assert rank(net.decode(z)) >= k


def test_latents_add_capacity():
    """Of patterns of full rank, never seen twice, each latent carries its share."""
    generator = torch.Generator().manual_seed(3)
    errors = []
    for k in (4, 16, 48):
        net = network("compact", (8, 8), k, initialise=False)
        with torch.no_grad():
            net.initialise(torch.rand(512, 8, 8, generator=generator), torch.zeros(512, k), None)
        optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
        for _ in range(300):
            x = torch.rand(128, 8, 8, generator=generator)
            scores = 12**0.5 * (x - 0.5).flatten(1)  # each pixel is a component, of unit variance
            latents = net.encode_scores(ScoreBatch.without_neighbours(scores, 0))
            error = (net.decode(latents) - x).square().mean()
            optimiser.zero_grad()
            error.backward()
            optimiser.step()
        errors.append(12 * error.item())  # of the variance
    assert errors == pytest.approx([0.94, 0.76, 0.30], abs=0.08)


def count(net):
    return sum(p.numel() for p in net.parameters())


def test_resnet_parameters_do_not_depend_on_the_pattern_shape():
    small, large = network("resnet", (8, 9)), network("resnet", (70, 33))
    assert count(small) == count(large)
    large.load_state_dict(small.state_dict())
    assert large.shape_independent


def test_resnet_latents_are_non_negative():
    net = network("resnet")
    with torch.no_grad():
        net.embed.bias.zero_()
        z = net.encode(5 * torch.randn(20, 16, 20))
    assert z.min() == 0
    assert z.max() > 0


def test_resnet_is_the_reference_size():
    """128 channels, three blocks each way: about 3.6 million parameters at 32 latents."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet, "_CHANNELS", 128)
        assert 3.4e6 < count(network("resnet", latent_dim=32, initialise=False)) < 3.8e6


@settings(max_examples=10, deadline=None)
@given(k=st.integers(1, 6), radius=st.integers(0, 2), counts=st.booleans(), seed=st.integers(0, 99))
def test_other_axes_decode_to_the_same(k, radius, counts, seed):
    net = network("compact", (17, 20), k, context=radius, counts=counts).eval()
    rng = np.random.default_rng(seed)
    centre, axes = (
        torch.from_numpy(rng.normal(size=k)),
        torch.from_numpy(rng.normal(size=(k, k)) + 3 * np.eye(k)),
    )
    with torch.no_grad():
        for layer in (net.encoder_mlp[-1], net.background_mlp[-1]):  # which start at nothing
            layer.weight.normal_(0, 0.1)
            layer.bias.normal_()
        seen = inputs(net, 5, radius)
        before = net.encode_scores(seen)
        patterns = net.decode(before)
        net.rotate_latents(centre, axes)
        after = net.encode_scores(seen)
        assert after.double() == pytest.approx((before - centre) @ axes, rel=1e-4, abs=1e-4)
        assert net.decode(after) == pytest.approx(patterns, rel=1e-3, abs=1e-3)


def test_what_is_added_has_the_gradients_of_its_formula():
    rng = torch.Generator().manual_seed(0)
    x, level = torch.randn(3, 4, 5, generator=rng).double(), torch.randn(4, 5, generator=rng).double()
    background, log_factor = torch.rand(4, 5, generator=rng).double() + 0.1, 0.3 * x.flip(0)
    inputs = [value.requires_grad_() for value in (x, level, background, log_factor.detach())]
    unit = torch.tensor(0.7).double()
    got = compact._AddInQuadrature.apply(*inputs, unit)
    change, below = x + level, background * log_factor.exp()
    added = (below**2 + change**2).sqrt()
    want = unit * torch.where(change > 0, added, below + compact._NEGATIVE_SLOPE * change)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)
    assert torch.autograd.gradcheck(lambda *parts: compact._AddInQuadrature.apply(*parts, unit), inputs)


@pytest.mark.parametrize("contiguous", [True, False])
def test_pixels_of_the_grid_are_spread_as_by_a_pixel_shuffle(contiguous):
    x = torch.arange(2 * 16 * 3 * 5.0).reshape(2, 16, 3, 5)
    x = x if contiguous else x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(compact._pixel_shuffle(x), torch.nn.functional.pixel_shuffle(x, 4)[:, 0])
