"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of small data files from many microscopes, beside the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the sample files are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def scan() -> np.ndarray:
    """Counts (12, 10, 16, 20) of a few grains, read-only."""
    import latentstem

    counts = latentstem.simulate((12, 10), (16, 20), dose=300, n_grains=3).counts
    counts.flags.writeable = False
    return counts


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A narrow edition of the reference network: the same, but quick."""
    from latentstem.nn.networks import resnet

    monkeypatch.setattr(resnet, "_WIDTH", 8)
