"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import latentstem
from helpers import ROOT
from latentstem.nn.networks import resnet


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of small data files from many microscopes, beside the repository."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the sample files are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def scan() -> np.ndarray:
    """Counts (12, 10, 16, 20) of a few grains, read-only."""
    counts = latentstem.simulate((12, 10), (16, 20), dose=300, n_grains=3).counts
    counts.flags.writeable = False
    return counts


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A narrow edition of the reference network: the same, but quick."""
    monkeypatch.setattr(resnet, "_CHANNELS", 8)


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
