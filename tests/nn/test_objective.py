"""The objective: each term by its formula and its limits, and what it does to latents by training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import poisson

from latentstem.config import TrainingConfig
from latentstem.nn.autoencoder import Autoencoder
from latentstem.nn.batches import ScoreBatch
from latentstem.nn.likelihoods.poisson import poisson_deviance
from latentstem.nn.penalties import penalties

PENALTIES = penalties()
L1, SIMILARITY, DIVERGENCE = (PENALTIES[name] for name in ("l1", "similarity", "divergence"))


def autoencoder(reconstruction="mse", shape=(8, 9), **arguments):
    """One of raw values, which are its network's output."""
    config = TrainingConfig(
        preprocessing="none",
        reconstruction=reconstruction,
        split_counts=False,
        latent_dim=6,
        context=0,
        **arguments,
    )
    return Autoencoder(config.model_dump(), shape)


def latents(n, k=6, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).gamma(0.7, 0.4, (n, k))).float()


def test_l1_is_the_mean_l1_norm():
    a = latents(9) - 0.2
    assert L1(a).item() == pytest.approx(np.abs(a.numpy()).sum(1).mean(), rel=1e-6)


def test_similarity_is_the_mean_over_all_pairs():
    a = latents(9)
    units = a.numpy() / np.linalg.norm(a.numpy(), axis=1)[:, None]
    pairs = [units[i] @ units[j] for i in range(9) for j in range(9) if i != j]
    assert SIMILARITY(a).item() == pytest.approx(np.mean(pairs), rel=1e-5)


def test_similarity_leaves_out_embeddings_that_are_zero():
    a = latents(5)
    padded = torch.cat([a, torch.zeros(3, 6)])
    assert SIMILARITY(padded).item() == pytest.approx(SIMILARITY(a).item(), rel=1e-5)


@pytest.mark.parametrize("alive", [0, 1])
def test_similarity_without_a_pair_is_zero(alive):
    a = torch.zeros(4, 6)
    a[:alive] = 1.0
    assert SIMILARITY(a).item() == 0


def test_divergence_is_the_variance_term_of_vicreg():
    a = latents(50)
    want = np.maximum(0, 1 - np.sqrt(a.numpy().var(0, ddof=1) + 1e-6)).mean()
    assert DIVERGENCE(a).item() == pytest.approx(want, rel=1e-5)
    assert DIVERGENCE(10 * latents(500)).item() == 0
    assert DIVERGENCE(torch.ones(4, 3)).item() == pytest.approx(0.999, abs=1e-5)
    assert DIVERGENCE(torch.ones(1, 3)).item() == 0


@pytest.mark.parametrize("term", PENALTIES.values(), ids=list(PENALTIES))
def test_the_value_does_not_depend_on_the_batch_size(term):
    values = [np.mean([term(part).item() for part in latents(8192).split(size)]) for size in (64, 512, 8192)]
    assert values[:2] == pytest.approx([values[2]] * 2, rel=0.03)


@pytest.mark.parametrize("term", PENALTIES.values(), ids=list(PENALTIES))
@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 5),
    k=st.integers(1, 4),
    scale=st.sampled_from([0.0, 1e-20, 1e-6, 1.0, 1e6]),
    seed=st.integers(0, 99),
)
def test_gradients_are_finite(term, n, k, scale, seed):
    a = (latents(n, k, seed) * scale).requires_grad_()
    value = term(a)
    (value + 0 * a.sum()).backward()  # one pattern has no spread, and so no gradient
    assert torch.isfinite(value)
    assert torch.isfinite(a.grad).all()


# ---- reconstruction ----


def test_poisson_deviance_is_the_log_likelihood_less_that_of_a_perfect_prediction():
    rng = np.random.default_rng(0)
    counts = rng.poisson(5, (4, 7, 9))
    expected = rng.gamma(2, 2, counts.shape) + 0.05
    saturated = np.where(counts > 0, counts, 1e-300)
    want = poisson.logpmf(counts, saturated) - poisson.logpmf(counts, expected)
    got = poisson_deviance(torch.from_numpy(expected), torch.from_numpy(counts).double())
    np.testing.assert_allclose(got.numpy(), want, atol=1e-4 * (1 + counts / expected).max())


def test_poisson_deviance_is_least_at_the_truth_and_finite_where_nothing_is_expected():
    counts = torch.poisson(torch.full((20000,), 3.0), generator=torch.Generator().manual_seed(0))
    means = [poisson_deviance(torch.full_like(counts, level), counts).mean() for level in (2.6, 3.0, 3.4)]
    assert min(means) == means[1]
    dark = torch.zeros(3, requires_grad=True)
    value = poisson_deviance(dark, torch.tensor([0.0, 1.0, 5.0])).sum()
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(dark.grad).all()


POINTWISE = {
    "mse": lambda d: d**2,
    "mae": np.abs,
    "huber": lambda d: np.where(np.abs(d) < 0.1, d**2 / 2, 0.1 * (np.abs(d) - 0.05)),
}


@pytest.mark.parametrize("name", POINTWISE)
def test_reconstruction_is_a_mean_over_used_pixels_and_patterns(name):
    rng = np.random.default_rng(0)
    predicted, target = rng.normal(0, 0.2, (2, 5, 8, 9))
    used = rng.random((8, 9)) < 0.7
    model = autoencoder(name)
    model.preprocessing.detector.set_mask(~used)
    terms = model.objective(torch.from_numpy(predicted), torch.from_numpy(target), latents(5))
    want = POINTWISE[name](predicted - target)[:, used].mean()
    assert terms[name].item() == pytest.approx(want, rel=1e-6)
    assert set(terms) == {"loss", name}  # a term of weight 0 costs nothing


@pytest.mark.parametrize("name", [*POINTWISE, "poisson"])
def test_excluded_pixels_change_neither_value_nor_gradient(name):
    excluded = np.zeros((8, 9), bool)
    excluded[2, 3:6] = True
    model, results = autoencoder(name), []
    model.preprocessing.detector.set_mask(excluded)
    for garbage in (0.0, 7.0):
        predicted = torch.full((4, 8, 9), 0.3)
        predicted[:, excluded] = garbage
        predicted.requires_grad_()
        target = torch.full((4, 8, 9), 0.5)
        target[:, excluded] = 3 * garbage
        loss = model.objective(predicted, target, latents(4))["loss"]
        loss.backward()
        assert not predicted.grad[:, excluded].any()
        results.append(loss.item())
    assert results[0] == results[1]


def test_the_loss_is_the_weighted_sum_of_its_terms():
    y = torch.rand(5, 8, 9)
    model = autoencoder(lambda_act=0.3, lambda_sim=0.2, lambda_div=0.1)
    terms = model.objective(y, y + 0.1, latents(5))
    want = terms["mse"] + 0.3 * terms["l1"] + 0.2 * terms["similarity"] + 0.1 * terms["divergence"]
    assert terms["loss"].item() == pytest.approx(want.item(), rel=1e-6)


# ---- what each penalty is for ----


SHAPE = (8, 10)


@pytest.fixture(scope="module")
def patterns():
    """Four spots of varying strength: patterns (64, 8, 10) that need four latents."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:8, :10]
    spots = [np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 2) for cy in (2, 6) for cx in (2, 7)]
    return torch.from_numpy(np.tensordot(rng.gamma(1.0, 0.5, (64, 4)), np.stack(spots), 1)).float()


@pytest.fixture(scope="module", params=["compact", "resnet"])
def train(request, patterns):
    """Latents (64, 6) after some steps of a network under an objective; resnet in a narrow edition."""
    from latentstem.nn.networks import resnet

    def run(**weights):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(resnet, "_CHANNELS", 8)
            model = autoencoder(shape=SHAPE, network=request.param, **weights)
            network = model.network
            with torch.no_grad():
                network.initialise(patterns, torch.zeros(64, 6), None)
            encode, seen = network.encode, patterns
            if network.n_components:  # each pixel as one component
                scores = (patterns - patterns.mean(0)).flatten(1) / patterns.std()
                encode, seen = network.encode_scores, ScoreBatch.without_neighbours(scores, 0)
            optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
            for _ in range(150):
                a = encode(seen)
                loss = model.objective(network.decode(a), patterns, a)["loss"]
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            with torch.no_grad():
                network.eval()
                return encode(seen)

    return run


@pytest.fixture(scope="module")
def plain(train):
    return train()


def sparsity(a):
    """Of Hoyer (2004), which no scale changes: 0 where all latents are equally active, 1 where one is."""
    a = a[a.abs().amax(1) > 1e-6]
    root = a.shape[1] ** 0.5
    return ((root - a.abs().sum(1) / a.norm(dim=1)) / (root - 1)).mean().item()


def test_lambda_act_makes_latents_sparser(train, plain):
    sparse = train(lambda_act=5e-3)
    assert sparse.abs().sum(1).mean() < 0.5 * plain.abs().sum(1).mean()
    assert len(sparse[sparse.abs().amax(1) > 1e-6]) > 32
    assert sparsity(sparse) > sparsity(plain) + 0.05


def test_lambda_sim_lowers_the_mean_pairwise_similarity(train, plain):
    least = -1 / 63
    before, after = (SIMILARITY(latents).item() - least for latents in (plain, train(lambda_sim=0.1)))
    assert after < 0.9 * before


def test_lambda_div_raises_the_spread_of_the_least_active_latents(train):
    """Where the sparsity penalty lets latents collapse."""
    collapsed, spread = (train(lambda_act=0.02, lambda_div=weight) for weight in (0.0, 0.3))
    assert spread.std(0).min() > 3 * collapsed.std(0).min()
    assert spread.std(0).min() > 0.5
