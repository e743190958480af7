"""The same seed and the same data give the latents that they gave before the code moved into its layers.

The networks are those of checkpoint format 2, of that time: later ones move the patterns that they decode.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latentstem.training import run
from system.stored_latents.make import FOLDER, SCANS


@pytest.mark.parametrize("name", SCANS)
def test_latents_are_those_that_are_stored(name, monkeypatch):
    monkeypatch.setattr(run, "FORMAT_VERSION", 2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        latents = SCANS[name]()
    finally:
        torch.set_num_threads(threads)
    stored = np.load(FOLDER / f"{name}.npy")
    assert stored.shape == latents.shape
    assert np.array_equal(np.isnan(stored), np.isnan(latents))
    np.testing.assert_allclose(latents, stored, rtol=0, atol=1e-3 * np.nanstd(stored))
