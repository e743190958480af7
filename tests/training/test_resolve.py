"""How many latents a scan needs."""

import numpy as np
import pytest

import latentstem
from latentstem.errors import ArgumentError
from latentstem.training import run
from latentstem.training.resolve import CANDIDATES, choose_latent_dim


def losses(level, seed=0):
    """Losses of twenty parts of the held-out patterns; the parts differ more than the sizes do."""
    parts = np.random.default_rng(99).normal(0, 1, 20)
    return lambda size: parts + level(size) + np.random.default_rng([seed, size]).normal(0, 1e-3, 20)


@pytest.mark.parametrize("enough", [2, 4, 16, 64])
def test_the_smallest_that_is_as_good_as_twice_as_many(enough):
    chosen, why = choose_latent_dim(losses(lambda size: max(0.0, 1 - size / enough)))
    assert chosen == enough
    assert why.count(":") == min(
        CANDIDATES.index(enough) + 2, len(CANDIDATES)
    )  # it stops at the first that is no better


def test_noise_does_not_count_as_better():
    chosen = [choose_latent_dim(losses(lambda size: 0.0, seed))[0] for seed in range(20)]
    assert (
        np.mean(np.equal(chosen, 2)) > 0.6
    )  # one standard error is passed by chance in a sixth of all cases


def test_one_part_alone_proves_nothing():
    assert choose_latent_dim(lambda size: np.array([1.0 / size]))[0] == 2


def test_slow_networks_are_not_tried():
    with pytest.raises(
        ArgumentError, match=r"would take hours.*received latent_dim='auto' with network='resnet'"
    ):
        latentstem.TrainingConfig.from_arguments("reference", latent_dim="auto")


def test_auto_states_its_choice_and_trains_with_it(capsys, monkeypatch):
    monkeypatch.setattr(run, "_TRIAL_STEPS", 30)
    scan = latentstem.simulate((12, 12), (16, 16), structure="linear", dose=300, seed=1)
    arguments = {"latent_dim": "auto", "max_patterns": 500, "seed": 3}
    model = latentstem.train_autoencoder(scan.counts, **arguments)
    assert model.config.latent_dim in CANDIDATES
    told = model.summary.choices[-1]
    assert told.startswith(f"latent_dim={model.config.latent_dim}: held-out losses")
    assert told in capsys.readouterr().out
    assert model.embed(scan.counts).maps.shape == (12, 12, model.config.latent_dim)
    assert model.history["patterns_seen"][-1] < 1000


@pytest.mark.parametrize("bad", [0, 1025, 2.5, "many", None, True])
def test_what_latent_dim_may_be(bad):
    with pytest.raises(ArgumentError, match=r"latent_dim: expected a whole number from 1 to 1024, or 'auto'"):
        latentstem.TrainingConfig.from_arguments(latent_dim=bad)


def test_fine_tuning_has_the_latents_of_its_checkpoint(tmp_path):
    scan = latentstem.simulate((6, 6), (16, 16), seed=1)
    model = latentstem.train_autoencoder(scan.counts, latent_dim=3, max_patterns=64, progress=False)
    tuned = latentstem.train_autoencoder(
        scan.counts,
        latent_dim="auto",
        max_patterns=64,
        init_from=model.save(tmp_path / "ae.ckpt"),
        progress=False,
    )
    assert tuned.config.latent_dim == 3
