"""Examples in the pictures of a run are what they claim to be."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from latentstem.inference.embedding import Embedding
from latentstem.io.arrays import ArraySource
from latentstem.io.open import as_scan
from latentstem.report.examples import example_positions, sample_chi_squared
from latentstem.scan.scan import Scan, default_axes


class Flat:
    """A model that reconstructs every pattern as the same flat one."""

    def __init__(self, pattern_shape):
        self.pattern_shape = pattern_shape

    def decode(self, latents):
        return np.full((len(latents), *self.pattern_shape), 4.0, np.float32)


def latents_of(scan):
    return Embedding(np.zeros((*scan.scan_shape, 1), np.float32), scan.axes[:2])


@pytest.mark.parametrize("excluded", [None, (5, 3)])
def test_examples_are_the_least_median_and_largest_residual(excluded):
    rng = np.random.default_rng(0)
    patterns = np.full((7, 5, 32, 24), 4.0) + rng.uniform(0.5, 1.0, (7, 5, 1, 1))
    patterns[5, 3] = 40.0
    patterns[1, 2] = 4.0
    mask = np.zeros((7, 5), bool)
    if excluded:
        mask[excluded] = True
    scan = as_scan(patterns, scan_mask=mask)
    residuals = sample_chi_squared(Flat(scan.pattern_shape), scan, latents_of(scan))
    np.testing.assert_array_equal(np.isnan(residuals), mask)
    examples = example_positions(residuals)
    error = np.where(mask, np.nan, ((patterns - 4) ** 2).mean((2, 3)))
    assert list(examples) == ["typical", "best", "worst"]
    assert examples["best"] == (1, 2)
    assert examples["worst"] == np.unravel_index(np.nanargmax(error), (7, 5))
    below = (error < error[examples["typical"]]).sum()
    assert below == np.isfinite(error).sum() // 2


def test_examples_of_a_large_scan_look_at_a_part_of_it():
    shape = (200, 100, 8, 8)
    source = ArraySource(np.broadcast_to(np.float32(4), shape))
    reads = []
    counting = SimpleNamespace(
        shape=shape, dtype=np.dtype("f4"), chunks=(1, 1), array=source.array,
        read=lambda at: (reads.append(at), source.read(at))[1],
    )  # fmt: skip
    scan = Scan(counting, default_axes(shape))
    residuals = sample_chi_squared(Flat(scan.pattern_shape), scan, latents_of(scan))
    seen = np.unique(np.concatenate(reads))
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(residuals)), seen)
    assert 900 < len(seen) < 1300
    assert len(np.unique(seen // 2000)) == 10, "from all parts of the scan"
