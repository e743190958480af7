"""What every network promises: any pattern shape, capacity in every latent, patterns seen one by one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentstem.networks import build_network, resnet

NETWORKS = ["compact", "resnet"]


@pytest.fixture(autouse=True, scope="module")
def narrow():
    """A narrow edition of the reference network: the same, but quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet, "_WIDTH", 16)
        yield


def network(name, shape=(16, 20), latent_dim=4, channels=1, initialise=True):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build_network(name, shape, latent_dim, channels)
        if initialise:
            y = torch.rand(2 * latent_dim + 20, *shape)
            with torch.no_grad():
                x = y[:, None] + 0.1 * torch.randn(len(y), channels, *shape)
                net.initialise(x, y, y, None)
        return net


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=12, deadline=None)
@given(
    height=st.integers(8, 70), width=st.integers(8, 70), channels=st.sampled_from([1, 2]), k=st.integers(1, 5)
)
def test_any_pattern_shape(name, height, width, channels, k):
    net = network(name, (height, width), k, channels).eval()
    x = torch.rand(2, channels, height, width)
    with torch.no_grad():
        z = net.encode(x)
        y = net.decode(z)
    assert z.shape == (2, k)
    assert y.shape == (2, height, width)
    assert torch.isfinite(z).all()
    assert torch.isfinite(y).all()
    assert (net.shape, net.latent_dim, net.channels) == ((height, width), k, channels)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_part_of_the_network_learns(name):
    net = network(name)
    x = torch.rand(6, 1, 16, 20)
    (net.decode(net.encode(x)) - x[:, 0]).square().mean().backward()
    idle = [
        n
        for n, p in net.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    ]
    assert not idle


@pytest.mark.parametrize("name", NETWORKS)
def test_patterns_do_not_see_each_other_in_use(name):
    net = network(name)
    with torch.no_grad():
        for _ in range(3):  # batch statistics, where there are any
            net.encode(torch.rand(8, 1, 16, 20))
        net.eval()
        x = torch.rand(5, 1, 16, 20)
        other = torch.cat([x[:2], 9 * torch.rand(7, 1, 16, 20)])
        z = net.encode(x)
        torch.testing.assert_close(net.encode(other)[:2], z[:2], rtol=1e-4, atol=1e-5)
        y = net.decode(z)
        torch.testing.assert_close(net.decode(z[1:2]), y[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_context_channel_is_seen(name):
    net = network(name, channels=2).eval()
    x = torch.rand(3, 2, 16, 20)
    changed = x.clone()
    changed[:, 1] = torch.rand(3, 16, 20)
    with torch.no_grad():
        assert not torch.allclose(net.encode(x), net.encode(changed))


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
        x = torch.rand(200, 1, *shape, generator=generator, dtype=torch.float64)
        assert rank(net.encode(x)) == k
        z = torch.rand(200, k, generator=generator, dtype=torch.float64)
        assert rank(net.decode(z)) >= k


def test_latents_add_capacity():
    """Of patterns of full rank, never seen twice, each latent carries its share."""
    generator = torch.Generator().manual_seed(3)
    errors = []
    for k in (4, 16, 48):
        net = network("compact", (8, 8), k, initialise=False)
        y = torch.rand(512, 8, 8, generator=generator)
        with torch.no_grad():
            net.initialise(y[:, None] + 0.1 * torch.randn(512, 1, 8, 8, generator=generator), y, y, None)
        optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
        for _ in range(300):
            x = torch.rand(128, 1, 8, 8, generator=generator)
            error = (net.decode(net.encode(x)) - x[:, 0]).square().mean()
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
    assert large.any_shape


def test_resnet_latents_are_non_negative():
    net = network("resnet")
    with torch.no_grad():
        net.embed.bias.zero_()
        z = net.encode(5 * torch.randn(20, 1, 16, 20))
    assert z.min() == 0
    assert z.max() > 0


def test_resnet_is_the_reference_size():
    """128 channels, three blocks each way: about 3.6 million parameters at 32 latents."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet, "_WIDTH", 128)
        assert 3.4e6 < count(network("resnet", latent_dim=32, initialise=False)) < 3.8e6
