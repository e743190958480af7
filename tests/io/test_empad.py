"""EMPAD frames without their header: the scan shape that is given, or that of the name."""

from __future__ import annotations

import numpy as np
import pytest

import latentstem
from latentstem.errors import ScanShapeError


def write(folder, name, n_frames):
    """Frames with their number in the first pixel, and metadata in the last two rows."""
    frames = np.zeros((n_frames, 130, 128), np.float32)
    frames[:, :128] = np.random.default_rng(0).random((n_frames, 128, 128), np.float32)
    frames[:, 0, 0] = np.arange(n_frames)
    frames[:, 128:] = 1e6
    frames.tofile(folder / name)
    return folder / name


@pytest.mark.parametrize("scan_shape", [(4, 8), (4, 16), (5, 5)])
def test_the_scan_shape_that_is_given(tmp_path, scan_shape):
    n = scan_shape[0] * scan_shape[1]
    scan = latentstem.as_scan(write(tmp_path, "frames.raw", n), scan_shape)
    assert scan.source.shape == (*scan_shape, 128, 128)
    patterns = scan.read(np.arange(n))
    np.testing.assert_array_equal(patterns[:, 0, 0], np.arange(n))
    assert patterns.max() < 1e3


def test_the_scan_shape_of_the_name(tmp_path):
    assert latentstem.as_scan(write(tmp_path, "scan_x8_y4.raw", 32)).scan_shape == (4, 8)


@pytest.mark.parametrize("name", ["frames.raw", "scan_x8_y5.raw"])
def test_a_scan_shape_that_is_not_known_is_asked_for(tmp_path, name):
    with pytest.raises(ScanShapeError, match=r"needs scan_shape.*32 patterns"):
        latentstem.as_scan(write(tmp_path, name, 32))


def test_a_scan_shape_that_does_not_fit(tmp_path):
    with pytest.raises(ScanShapeError, match="does not fit the number of patterns"):
        latentstem.as_scan(write(tmp_path, "frames.raw", 32), (5, 8))


def test_a_real_file_with_its_header_is_read_by_hyperspy(shared_data):
    folder = shared_data / "formats" / "empad"
    with_header, without = (
        latentstem.as_scan(folder / "map4x4.xml"),
        latentstem.as_scan(folder / "scan_x4_y4.raw"),
    )
    assert with_header.scan_shape == without.scan_shape == (4, 4)
    np.testing.assert_array_equal(with_header.read([5]), without.read([5]))
