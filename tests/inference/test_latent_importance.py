"""Importance of each latent."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import train
from latentstem import Embedding
from latentstem.inference.latent_importance import by_decoding, by_variance
from latentstem.scan.scan import Axis


class Linear:
    """Draws latent 0 into one pixel and three times latent 2 into another; latent 1 makes no difference."""

    def decode(self, latents):
        patterns = np.zeros((*latents.shape[:-1], 4, 3), np.float32)
        patterns[..., 0, 0] = latents[..., 0]
        patterns[..., 1, 2] = 9 * latents[..., 2]
        return patterns


def embedding(maps):
    return Embedding(maps, (Axis("y", maps.shape[0]), Axis("x", maps.shape[1])))


@pytest.fixture
def maps():
    return (np.random.default_rng(0).uniform(0, 1, (7, 5, 1)) * np.ones(3)).astype(np.float32)


def test_what_draws_more_carries_more(maps):
    shares = by_decoding(Linear(), embedding(maps))
    np.testing.assert_allclose(shares, [0.1, 0, 0.9], atol=1e-6)  # 9 times the intensity


def test_excluded_positions_do_not_count(maps):
    holed = maps.copy()
    holed[2, 3], maps[2, 3] = np.nan, 1e6
    np.testing.assert_allclose(by_decoding(Linear(), embedding(holed)), [0.1, 0, 0.9], atol=1e-6)
    assert by_variance(embedding(holed)) == pytest.approx([1 / 3] * 3)


def test_nothing_varies(maps):
    np.testing.assert_array_equal(by_decoding(Linear(), embedding(np.ones_like(maps))), 0)
    np.testing.assert_array_equal(by_variance(embedding(np.ones_like(maps))), 0)


def test_a_trained_model_can_be_asked(scan):
    model = train(scan)
    latents = model.embed(scan)
    shares = by_decoding(model, latents)
    assert shares.shape == (4,)
    assert shares.sum() == pytest.approx(1)
    np.testing.assert_array_equal(shares, by_decoding(model, latents))
