"""Axes of the latent space after training: ordered, uncorrelated, and distances that are those of patterns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import latentstem
from helpers import maps, train
from latentstem.errors import CheckpointError
from latentstem.nn.scan_scores import ScanScores
from latentstem.training import run
from latentstem.training.latent_axes import principal_latent_axes


@pytest.fixture(scope="module")
def grains():
    return latentstem.simulate((24, 20), (16, 20), dose=2000, n_grains=4, seed=3).counts


def without_order(data, **arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "principal_latent_axes", lambda *given: None)
        return train(data, **arguments)


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("trained")


@pytest.fixture(scope="module")
def model(grains, output_dir):
    return train(grains, epochs=10, output_dir=output_dir)


@pytest.fixture(scope="module")
def model_without_order(grains):
    return without_order(grains, epochs=10)


def test_latents_are_uncorrelated_centred_and_in_order(grains, model):
    latents = maps(model, grains).reshape(-1, 4).astype(float)  # held-out positions are among them
    variances = latents.var(0)
    assert (np.diff(variances) < 0).all()
    assert variances.mean() == pytest.approx(1, rel=0.1)
    assert np.abs(latents.mean(0)).max() < 0.1
    correlation = np.corrcoef(latents.T) - np.eye(4)
    assert np.abs(correlation).max() < 0.1


def test_distances_are_those_of_patterns(grains, model, model_without_order):
    latents = maps(model, grains).reshape(-1, 4).astype(float)
    with torch.no_grad():
        patterns = model.autoencoder.network.decode(torch.from_numpy(latents).float()).flatten(1).numpy()

    def distances(points):
        return np.linalg.norm(points[:100, None] - points[None, 100:200], axis=2).ravel()

    def agreement(found):
        return np.corrcoef(distances(found), distances(patterns))[0, 1]

    before = maps(model_without_order, grains).reshape(-1, 4).astype(float)
    assert agreement(latents) > 0.9  # the decoder is not linear
    assert agreement(latents) > agreement(before / before.std(0))


def test_the_patterns_stay_the_same(grains, model, model_without_order):
    before = model_without_order.reconstruct(grains)
    np.testing.assert_allclose(model.reconstruct(grains), before, rtol=1e-3, atol=1e-4)


def test_axes_stay_where_they_are_wanted_as_they_are(grains, model, tmp_path):
    path = model.save(tmp_path / "ae.ckpt")
    tuned = train(grains, init_from=path, epochs=1, learning_rate=1e-9)
    np.testing.assert_allclose(maps(tuned, grains), maps(model, grains), rtol=1e-3, atol=1e-3)
    sparse, few = {"lambda_act": 1e-3, "epochs": 1}, grains[:8, :7]
    np.testing.assert_array_equal(maps(train(few, **sparse), few), maps(without_order(few, **sparse), few))


def test_latents_that_are_all_the_same_stay_so():
    scan = np.tile(np.arange(12 * 9, dtype=np.uint16).reshape(12, 9), (5, 6, 1, 1))
    np.testing.assert_array_equal(maps(train(scan), scan), maps(without_order(scan), scan))


def test_latents_that_are_not_finite_have_no_axes(grains, model, tmp_path):
    spoilt, scan = latentstem.load(model.save(tmp_path / "ae.ckpt")), latentstem.as_scan(grains)
    made = spoilt.autoencoder
    scores = ScanScores.measure(scan, made.principal_components, made.preprocessing.detector)
    everywhere = np.arange(scan.n_positions)
    assert principal_latent_axes(made, scores, everywhere, 0) is not None
    with torch.no_grad():
        made.network.encoder_mlp[-1].bias[0] = torch.nan
    assert principal_latent_axes(made, scores, everywhere, 0) is None


@pytest.mark.parametrize("spoil", ["shape", "nan", "singular", "kind", "names"])
def test_axes_that_are_none_are_refused(model, output_dir, tmp_path, spoil):
    path = tmp_path / "best.ckpt"
    content = torch.load(output_dir / "checkpoints" / "best.ckpt", weights_only=True)
    axes = content["latentstem"]["axes"]
    axes["axes"] = {
        "shape": axes["axes"][:3],
        "nan": axes["axes"] * torch.nan,
        "singular": axes["axes"] * 0,
        "kind": [1.0, 2.0],
        "names": axes["axes"],
    }[spoil]
    if spoil == "names":
        axes["more"] = axes.pop("centre")
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"incomplete or altered.*best.ckpt.*Take another copy"):
        latentstem.load(path)
