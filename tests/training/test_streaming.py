"""Training on a file that is read in chunks while it is trained on."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from helpers import maps, train
from latentstem.training import run


@pytest.mark.parametrize("workers", [0, 2])
def test_masks_bins_crops_and_splits_are_those_of_a_run_in_memory(scan, tmp_path, monkeypatch, workers):
    """What is excluded may hold anything; statistics, split and starting point are those of the array."""
    scan_mask, pattern_mask = np.zeros((12, 10), bool), np.zeros((16, 20), bool)
    scan_mask[2:5, 3] = scan_mask[11] = pattern_mask[6:8, 9] = True
    spoilt = scan.copy()
    spoilt[scan_mask] = 60_000
    spoilt[..., pattern_mask] = 60_000
    spoilt[..., :2] = 60_000
    for name, counts in {"scan": scan, "spoilt": spoilt}.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file.create_dataset("data", data=counts, chunks=(5, 4, 16, 20))
    arguments = {"scan_mask": scan_mask, "pattern_mask": pattern_mask, "bin": 2, "crop": (0, 16, 2, 18)}
    whole = train(scan, **arguments)
    monkeypatch.setattr(run, "fits_in_memory", lambda scan, copies: False)
    streamed = train(tmp_path / "scan.h5", workers=workers, **arguments)
    excluding = train(tmp_path / "spoilt.h5", workers=workers, **arguments)
    for part in ("preprocessing", "principal_components"):
        states = [getattr(model.autoencoder, part).state_dict() for model in (whole, streamed)]
        for name, value in states[0].items():
            torch.testing.assert_close(states[1][name], value, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(streamed.history["val/loss"], whole.history["val/loss"], rtol=0.05)
    assert streamed.history == excluding.history
    given = {"scan_mask": scan_mask}
    np.testing.assert_array_equal(
        maps(streamed, tmp_path / "scan.h5", **given), maps(excluding, tmp_path / "spoilt.h5", **given)
    )
