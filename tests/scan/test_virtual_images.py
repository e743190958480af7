"""Virtual images, streamed."""

from __future__ import annotations

import numpy as np
import pytest

import latentstem
from latentstem.scan.virtual_images import VIRTUAL_IMAGES, direct_beam, virtual_images


@pytest.fixture
def simulated():
    return latentstem.simulate((7, 5), (32, 24), dose=400, n_grains=2)


def last(scan):
    return list(virtual_images(scan))[-1]


def test_images_are_sums_over_the_detector(simulated):
    share, images = last(latentstem.as_scan(simulated))
    assert share == 1
    assert tuple(images) == VIRTUAL_IMAGES
    assert all(image.shape == (7, 5) and image.dtype == np.float32 for image in images.values())
    np.testing.assert_array_equal(images["sum"], simulated.counts.sum((2, 3)))
    np.testing.assert_allclose(images["bright field"] + images["dark field"], images["sum"], rtol=1e-6)


def test_bright_field_is_the_direct_beam(simulated):
    _, images = last(latentstem.as_scan(simulated))
    row, column, radius = direct_beam(simulated.counts.mean((0, 1)), np.ones((32, 24), bool))
    assert (row, column) == pytest.approx((15.5, 11.5), abs=2)
    y, x = np.ogrid[:32, :24]
    disk = np.hypot(y - row, x - column) <= 1.3 * radius
    np.testing.assert_array_equal(images["bright field"], simulated.counts[:, :, disk].sum(2))


def test_excluded_positions_are_nan_and_excluded_pixels_do_not_count(simulated):
    scan_mask, pattern_mask = np.zeros((7, 5), bool), np.zeros((32, 24), bool)
    scan_mask[2, 3] = pattern_mask[:, :9] = True
    scan = latentstem.as_scan(simulated).with_masks(scan_mask, pattern_mask)
    _, images = last(scan)
    np.testing.assert_array_equal(np.isnan(images["sum"]), scan_mask)
    kept = simulated.counts[..., 9:].sum((2, 3)).astype(float)
    np.testing.assert_array_equal(images["sum"][~scan_mask], kept[~scan_mask])


def test_images_form_in_the_order_of_the_storage(simulated):
    dask = pytest.importorskip("dask.array")
    counts = np.tile(simulated.counts, (3, 3, 1, 1))
    scan = latentstem.as_scan(dask.from_array(counts, chunks=(3, 2, 32, 24)))
    shares = []
    for share, images in virtual_images(scan, interval=0):
        shares.append(share)
        assert np.isfinite(images["sum"]).sum() == round(315 * share)
    assert len(shares) == 3  # blocks of 128 patterns
    assert shares == sorted(shares)
    np.testing.assert_array_equal(images["sum"], counts.sum((2, 3)))


def test_earlier_results_stay_as_they_were(simulated):
    results = list(virtual_images(latentstem.as_scan(np.tile(simulated.counts, (9, 9, 1, 1))), interval=0))
    assert np.isnan(results[0][1]["sum"]).any()
    assert not np.isnan(results[-1][1]["sum"]).any()
