"""The Lightning module: patterns to latents and back, the objective, the optimiser."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from latentstem import Autoencoder, TrainingConfig, as_scan
from latentstem.nn.batches import PatternBatch, ScoreBatch
from latentstem.nn.likelihoods.poisson import poisson_deviance
from latentstem.nn.metrics import image_quality
from latentstem.nn.neighbourhood import ring_count
from latentstem.nn.preprocessing import patterns_to_tensor
from latentstem.nn.scan_sample import sample_values, sample_with_neighbour_means
from latentstem.nn.scan_scores import ScanScores
from latentstem.nn.thinning import thin_counts
from latentstem.training.training_module import TrainingModule


def initialised(scan, **arguments):
    """An autoencoder that is ready to be trained on the scan, and all patterns."""
    plain = {
        "reconstruction": "poisson",
        "preprocessing": "sqrt",
        "split_counts": True,
        "latent_dim": 4,
        "context": 1,
    }
    config = TrainingConfig(**{**plain, **arguments})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        view = as_scan(scan)
        made = Autoencoder(config.model_dump(), view.pattern_shape, view.signature(), ["a choice"])
        detector = made.preprocessing.detector
        made.preprocessing.fit(sample_values(view, np.arange(120), detector), counts=True)
        single, mean = sample_with_neighbour_means(view, np.arange(120), detector)
        if made.network.n_components:
            made.principal_components.fit(single, mean, counts=True, seed=0)
        made.initialise(mean)
    return made, read(made, scan)


def read(made, scan):
    """All patterns, and the scores of their neighbours, as one batch."""
    view, everywhere = as_scan(scan), np.arange(120)
    scores = ScanScores.measure(view, made.principal_components, made.preprocessing.detector)
    return PatternBatch(patterns_to_tensor(view.read(everywhere)), scores(everywhere))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_hyperparameters_are_plain_values(scan):
    made, _ = initialised(scan, crop=(0, 16, 0, 16), max_time={"minutes": 3})
    assert json.loads(json.dumps(made.hyper_parameters))["choices"] == ["a choice"]
    again = Autoencoder(**json.loads(json.dumps(made.hyper_parameters)))
    assert again.config == made.config
    assert again.preprocessing.shape == (16, 16)
    again.load_state_dict(made.state_dict())


@pytest.mark.parametrize("context", [0, 1, 3])
def test_neighbours_are_seen_as_far_as_the_context_goes(scan, context):
    made, _ = initialised(scan, context=context)
    at = 5 * 10 + 4
    with torch.no_grad():
        made.principal_components.gain.fill_(1e6)  # all are alike
        before = made.encode_batch(read(made, scan))[at]
        for distance in (1, 2, 3):
            other = scan.copy()
            other[5, 4 + distance] = other[5, 4 + distance, ::-1]
            changed = not torch.equal(made.encode_batch(read(made, other))[at], before)
            assert changed == (distance <= context)


def test_resnet_sees_patterns_by_themselves(scan, narrow):
    made, batch = initialised(scan, network="resnet", context=0)
    made.eval()
    assert not batch.scores.scores.numel()
    torch.testing.assert_close(made.encode_batch(batch)[7:9], made.encode_batch(batch.take(slice(7, 9))))
    made.loss(batch, seeded(0))["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in made.network.parameters())


@pytest.mark.parametrize("reconstruction", ["poisson", "mse", "mae", "huber"])
def test_terms_by_name(scan, reconstruction):
    split = reconstruction == "poisson"
    made, batch = initialised(
        scan, reconstruction=reconstruction, split_counts=split, lambda_act=0.1, lambda_div=0.2
    )
    terms = made.loss(batch, seeded(0))
    assert set(terms) == {"loss", reconstruction, "l1", "divergence"}
    want = terms[reconstruction] + 0.1 * terms["l1"] + 0.2 * terms["divergence"]
    assert terms["loss"].item() == pytest.approx(want.item())


def test_split_counts_predict_the_other_half(scan):
    made, batch = initialised(scan)
    one, again, other = (made.loss(batch, seeded(seed))["loss"].item() for seed in (1, 1, 2))
    assert one == again
    assert one != other
    # What is encoded and what is predicted share no electron.
    values, seen = made.values(batch.patterns), {}
    encode, objective = made.encode, made.objective
    made.encode = lambda half, *rest: seen.update(half=half) or encode(half, *rest)
    made.objective = lambda y, target, *rest: seen.update(target=target) or objective(y, target, *rest)
    made.loss(batch, seeded(1))
    assert torch.equal(seen["half"] / 2 + seen["target"], values)
    # A network that knows each pattern whole cannot know how its electrons are split: it is a Poisson half off.
    made.network.decode = lambda z: (values.clamp_min(1e-3) / made.preprocessing.fitted_range[1]).sqrt()
    want = poisson_deviance(
        values / 2, torch.binomial(values, torch.full_like(values, 0.5), generator=seeded(0))
    ).mean()
    assert made.loss(batch, seeded(3))["poisson"].item() == pytest.approx(want.item(), rel=0.05)


def test_steps_and_processes_draw_apart(scan):
    made, _ = initialised(scan)
    draws = [
        torch.rand(3, generator=TrainingModule(made)._generator(*at)).tolist()
        for at in ((5, 0), (5, 1), (6, 0), (5, 0))
    ]
    assert draws[0] == draws[3]
    assert draws[0] != draws[1] != draws[2] != draws[0]


@pytest.mark.parametrize("preprocessing", ["minmax", "sqrt", "log", "zscore", "none"])
def test_the_likelihood_is_that_of_the_counts_in_every_space(scan, preprocessing):
    made, batch = initialised(scan + 3, preprocessing=preprocessing, split_counts=False)
    with torch.no_grad():
        expected = made.decode(made.encode(made.values(batch.patterns), batch.scores))
        loss = made.loss(batch, seeded(0))["poisson"].item()
    assert (expected >= 0).all()
    assert loss == pytest.approx(poisson_deviance(expected, batch.patterns.float()).mean().item(), rel=1e-5)


def test_what_lies_under_the_mask_is_not_seen(scan):
    made, _ = initialised(scan)
    mask = np.zeros((16, 20), bool)
    mask[4:9, 9:12] = True
    made.preprocessing.detector.set_mask(mask)
    results = []
    for garbage in (0.0, np.nan, 1e30):
        values = scan.astype("float32")
        values[:, :, mask] = garbage
        batch = read(made, values)
        terms = made.loss(batch, seeded(0))
        terms["loss"].backward()
        gradient = torch.cat([p.grad.flatten() for p in made.parameters() if p.grad is not None])
        assert torch.isfinite(gradient).all()
        results.append((made.encode_batch(batch), terms["loss"].item(), made.image_quality(batch)))
    for latents, loss, quality in results[1:]:
        assert torch.equal(latents, results[0][0])
        assert (loss, quality) == results[0][1:]


def test_image_quality_is_of_some_whole_patterns_in_the_preprocessed_space(scan):
    made, batch = initialised(scan, split_counts=False)
    got = made.image_quality(batch, limit=7)
    with torch.no_grad():
        restored = made.preprocessing(made.decode(made.encode_batch(batch.take(slice(7)))))
    values = made.preprocessing(made.values(batch.patterns[:7]))
    low, high = made.preprocessing(made.preprocessing.fitted_range.reshape(2, 1, 1)).flatten().tolist()
    want = image_quality(restored, values, high - low)
    assert got == pytest.approx(want, rel=1e-3)
    assert high - low == pytest.approx(
        (made.preprocessing(torch.from_numpy(scan.astype("f4")).flatten(0, 1))).max() - low
    )


def test_validation_is_always_the_same(scan):
    made, batch = initialised(scan)
    parts = [batch.take(slice(0, 70)), batch.take(slice(70, 120))]
    trained = TrainingModule(made)
    assert trained.validation_loss(parts) == trained.validation_loss(parts)
    assert trained.validation_loss(parts) == pytest.approx(
        made.loss(batch, seeded(5))["loss"].item(), rel=0.05
    )


def test_every_number_and_seed_draws_otherwise(scan):
    drawn = set()
    for seed in (0, 1):
        made, _ = initialised(scan, seed=seed)
        drawn |= {
            float(torch.rand((), generator=TrainingModule(made)._generator(number)))
            for number in (-2, -1, 0, 1, 2)
        }
    assert len(drawn) == 10


# ---- optimiser ----


@pytest.mark.parametrize("network", ["compact", "resnet"])
def test_every_weight_is_trained_once_and_biases_do_not_decay(scan, network, narrow):
    made, _ = initialised(scan, network=network, weight_decay=0.3)
    groups = TrainingModule(made).configure_optimizers()["optimizer"].param_groups
    trained = [id(weight) for group in groups for weight in group["params"]]
    assert sorted(trained) == sorted(id(weight) for weight in made.parameters())
    decaying = {id(weight) for group in groups if group["weight_decay"] for weight in group["params"]}
    for name, weight in made.named_parameters():
        if name.endswith("bias"):
            assert id(weight) not in decaying


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_learning_rate_schedule(scan, schedule):
    trained = TrainingModule(initialised(scan, schedule=schedule)[0])
    trained.total_steps = 1000
    factors = [trained._learning_rate_factor(step) for step in range(1001)]
    assert factors[0] == pytest.approx(0.02)
    assert max(factors) == pytest.approx(1, abs=0.01)
    assert factors[49] == pytest.approx(1, abs=0.01)
    assert factors[-1] == pytest.approx(0.02 if schedule == "cosine" else 1)
    assert np.all(np.diff(factors[50:]) <= 1e-9)


def test_short_runs_warm_up_quickly(scan):
    trained = TrainingModule(initialised(scan)[0])
    trained.total_steps = 1
    assert trained._learning_rate_factor(0) == 1


def test_a_pattern_alone_has_itself_as_context(scan):
    made, batch = initialised(scan)
    values = made.values(batch.patterns[30:34])
    none = ScoreBatch.without_neighbours(made.principal_components.scores(values), ring_count(1))
    with torch.no_grad():
        torch.testing.assert_close(made.encode(values), made.network.encode_scores(none))
        assert not torch.allclose(made.encode(values), made.encode_batch(batch)[30:34])


def test_latents_of_a_batch_are_those_of_its_patterns(scan):
    made, batch = initialised(scan)
    with torch.no_grad():
        want = made.encode(made.values(batch.patterns), batch.scores)
    torch.testing.assert_close(made.encode_batch(batch), want)


def test_the_neighbours_of_halves_are_as_noisy_as_halves(scan):
    """A half of the electrons, doubled, has twice the noise variance: as much is added to each neighbour."""
    made, batch = initialised(scan, preprocessing="minmax")
    seen, encode = [], made.encode
    made.encode = lambda half, scores: seen.append(scores.ring_sums) or encode(half, scores)
    for seed in range(60):
        made.loss(batch, seeded(seed))
    added = torch.stack(seen) - batch.scores.ring_sums
    assert not torch.equal(seen[0], seen[1])
    none = batch.scores.ring_counts == 0
    assert none.any()
    assert not added[:, none].any()
    scaled = added[:, ~none] / batch.scores.ring_counts[~none].sqrt()[:, None]
    spread = scaled.flatten(0, 1).std(0)
    known = made.principal_components.noise > 0
    torch.testing.assert_close(spread[known], made.principal_components.noise[known], rtol=0.05, atol=0)
    assert scaled.mean(1).abs().max() < spread.max()
    # as much as halves have more than whole patterns, on average over patterns
    halves = torch.stack([2 * thin_counts(made.values(batch.patterns), seeded(s))[0] for s in range(60)])
    with torch.no_grad():
        extra = torch.stack([made.principal_components.scores(h) for h in halves]) - batch.scores.scores
    measured = extra.square().mean((0, 1)).sqrt()
    torch.testing.assert_close(made.principal_components.noise[known], measured[known], rtol=0.1, atol=0)


def test_neighbours_are_seen_as_recorded_where_counts_are_not_split(scan):
    made, batch = initialised(scan, split_counts=False)
    seen, encode = [], made.encode
    made.encode = lambda values, scores: seen.append(scores.ring_sums) or encode(values, scores)
    made.loss(batch, seeded(0))
    assert torch.equal(seen[0], batch.scores.ring_sums)
