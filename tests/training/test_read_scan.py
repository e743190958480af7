"""Before training, a scan in a file is read once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from latentstem import as_scan
from latentstem.scan.quality import measure_quality
from latentstem.training import run
from latentstem.training.process_group import ProcessGroup

DATA = np.random.default_rng(0).poisson(0.5, (12, 10, 16, 20)).astype(np.uint16)


class Counting:
    """A chunked source that counts how often each pattern is read."""

    array = None
    files = frozenset()

    def __init__(self, scan):
        self.source, self.shape, self.dtype = scan.source, scan.source.shape, scan.dtype
        self.chunks, self.times = (5, 4), np.zeros(scan.n_positions, int)

    def read(self, indices):
        self.times[indices] += 1
        return self.source.read(indices)


@pytest.mark.parametrize("fits", [True, False])
def test_a_scan_is_read_once(fits, monkeypatch):
    monkeypatch.setattr(run, "fits_in_memory", lambda scan, copies: fits)
    mask = np.zeros((12, 10), bool)
    mask[3:5, 2] = True
    scan = as_scan(DATA, scan_mask=mask)
    source = Counting(scan)
    opened, quality, seconds = run.read_scan(ProcessGroup(), replace(scan, source=source))
    assert source.times.max() == 1
    assert seconds > 0
    assert (opened.source.array is not None) == fits
    np.testing.assert_array_equal(opened.scan_mask, mask)
    expected = measure_quality(scan)
    assert quality.lines() == expected.lines()
    np.testing.assert_allclose(quality.mean_pattern, expected.mean_pattern)
    if fits:
        np.testing.assert_array_equal(opened.read(np.arange(120)), scan.read(np.arange(120)))
