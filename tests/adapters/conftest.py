"""One small scan and a model trained on it, shared by the tests of the hosts."""

from __future__ import annotations

import numpy as np
import pytest

import latentstem


@pytest.fixture(scope="session")
def counts():
    """A 7 x 5 scan of 32 x 24 patterns, read-only: nothing may change a user's data."""
    counts = np.random.default_rng(0).poisson(3.0, (7, 5, 32, 24)).astype(np.uint16)
    counts *= np.arange(1, 36, dtype=np.uint16).reshape(7, 5, 1, 1)
    counts.flags.writeable = False
    return counts


@pytest.fixture(scope="session")
def model(counts):
    return latentstem.train_autoencoder(counts, epochs=1, latent_dim=3, progress=False)


@pytest.fixture(scope="session")
def embedding(model, counts):
    return latentstem.embed(counts, model)


@pytest.fixture(scope="session")
def reconstruction(model, counts):
    return latentstem.reconstruct(counts, model)
