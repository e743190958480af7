"""What is shown of patterns equals what the library computes."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest

import latentstem
from helpers import train
from latentstem.errors import ModelMismatchError
from latentstem.report.examples import residual
from latentstem.scan.scale_bar import pixel_aspect, scale_bar
from latentstem.scan.scan import Axis
from napari_latentstem.model import pattern_display, patterns

KY, KX = Axis("ky", 16, 0.1, -0.8, "1/angstrom"), Axis("kx", 20, 0.1, -1.0, "1/angstrom")


@pytest.fixture(scope="module")
def model(scan):
    return train(scan, epochs=1)


@pytest.fixture(scope="module")
def reconstructed(scan, model):
    return model.reconstruct(scan)


def final(*arguments):
    *_, last = patterns.mean_patterns(*arguments)
    return last


@pytest.mark.parametrize("position", [(0, 0), (5, 7), (11, 9)])
def test_a_position_shows_what_the_library_reconstructs(scan, model, reconstructed, position):
    seen = patterns.patterns_at(latentstem.as_scan(scan), position, model)
    np.testing.assert_array_equal(seen.recorded[0], scan[position])
    np.testing.assert_allclose(seen.reconstruction[0], reconstructed[position], rtol=1e-4, atol=1e-5)
    wanted = residual(scan[position][None], reconstructed[position][None])
    np.testing.assert_allclose(seen.residual, wanted, rtol=1e-2, atol=1e-3)
    assert seen.counts
    assert seen.n.tolist() == [1]


def test_chunked_files_show_the_same(scan, model, reconstructed, tmp_path):
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        stored = file.create_dataset("data", data=scan, chunks=(5, 5, 16, 20), compression="gzip")
        seen = patterns.patterns_at(latentstem.as_scan(stored), (4, 5), model)
    np.testing.assert_allclose(seen.reconstruction[0], reconstructed[4, 5], rtol=1e-4, atol=1e-5)


def test_a_position_reads_only_its_surroundings(scan, model):
    class Counted:
        array, shape, dtype, chunks = scan, scan.shape, scan.dtype, (1, 1)
        reads: list[int] = []  # noqa: RUF012 - of this test alone

        def read(self, indices):
            self.reads.append(len(indices))
            return scan.reshape(-1, *scan.shape[2:])[indices]

    whole = latentstem.as_scan(scan)
    patterns.patterns_at(replace(whole, source=Counted()), (6, 5), model)
    assert sum(Counted.reads) == 25, "the 5 x 5 positions that the model looks at"


def test_an_excluded_position_shows_its_pattern_alone(scan, model):
    mask = np.zeros((12, 10), bool)
    mask[3, 4] = True
    seen = patterns.patterns_at(latentstem.as_scan(scan, scan_mask=mask), (3, 4), model)
    np.testing.assert_array_equal(seen.recorded[0], scan[3, 4])
    assert seen.reconstruction is None
    assert seen.residual is None


def test_means_over_groups_leave_out_what_is_excluded(scan, model):
    mask = np.zeros((12, 10), bool)
    mask[0] = True
    groups = np.zeros((12, 10), int)
    groups[:4], groups[4:9, ::2] = 1, 2
    seen = final(latentstem.as_scan(scan, scan_mask=mask), groups, model)
    kept = model.reconstruct(scan, scan_mask=mask)
    assert seen.n.tolist() == seen.size.tolist() == [30, 25]
    np.testing.assert_allclose(seen.recorded[0], scan[1:4].mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(seen.recorded[1], scan[4:9, ::2].mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(seen.reconstruction[1], kept[4:9, ::2].mean((0, 1)), rtol=1e-3, atol=1e-5)


def test_means_grow_over_the_whole_scan(scan):
    steps = list(patterns.mean_patterns(latentstem.as_scan(scan), np.ones((12, 10), bool)))
    assert [int(step.n[0]) for step in steps] in ([64, 120], [56, 120])
    np.testing.assert_allclose(steps[-1].recorded[0], scan.mean((0, 1)), rtol=1e-5)
    assert steps[-1].reconstruction is None


def test_nothing_comes_of_an_empty_region(scan):
    assert list(patterns.mean_patterns(latentstem.as_scan(scan), np.zeros((12, 10), bool))) == []


def test_the_residual_of_a_mean_is_in_its_own_standard_deviations():
    one = patterns.Patterns(
        np.full((1, 4, 4), 12.0), np.full((1, 4, 4), 9.0), np.array([1]), np.array([1]), True
    )
    many = replace(one, n=np.array([16]))
    np.testing.assert_allclose(one.residual, 1.0)  # 3 over the square root of 9
    np.testing.assert_allclose(many.residual, 4.0)
    np.testing.assert_allclose(replace(one, counts=False).residual, 3.0)


def test_a_model_of_another_detector_is_refused(scan, model):
    other = latentstem.as_scan(np.ones((7, 5, 32, 24), np.uint16))
    with pytest.raises(ModelMismatchError, match=r"expected 16 x 20 pixels.*received 32 x 24"):
        patterns.patterns_at(other, (0, 0), model)


def test_shared_contrast_is_that_of_the_reconstruction():
    raw, rec = np.zeros((1, 10, 10)), np.full((1, 10, 10), 2.0)
    raw[0, 0, 0], rec[0, 0] = 1000.0, 5.0
    seen = patterns.Patterns(raw, rec, np.array([1]), np.array([1]), True)
    assert pattern_display.contrast_limits(seen)[:2] == ((0.0, 5.0), (0.0, 5.0))
    own = pattern_display.contrast_limits(seen, shared=False)
    assert own[0][1] > 400
    assert own[1] == (0.0, 5.0)
    low, high = pattern_display.contrast_limits(seen)[2]
    assert low == -high < -3


def test_a_few_electrons_are_seen_on_an_empty_detector():
    raw = np.zeros((1, 40, 40))
    raw[0, 3, 3] = 1.0
    seen = patterns.Patterns(raw, None, np.array([1]), np.array([1]))
    assert pattern_display.contrast_limits(seen)[0] == (0.0, 1.0)
    flat = replace(seen, recorded=np.zeros((1, 40, 40)))
    assert pattern_display.contrast_limits(flat)[0] == (0.0, 1.0)


def test_scales_share_their_ends_and_lift_the_dark():
    values = np.array([[-1.0, 0.0, 1.0, 4.0, 9.0, np.nan]])
    linear, root, log = (
        pattern_display.normalise(values, (0.0, 4.0), scale)[0] for scale in pattern_display.SCALES
    )
    for shown in (linear, root, log):
        assert shown[[0, 1, 3, 4]].tolist() == [0.0, 0.0, 1.0, 1.0]
        assert np.isnan(shown[5])
    assert linear[2] == 0.25
    assert root[2] == 0.5
    assert log[2] > 0.75


def test_reciprocal_lengths_are_in_the_units_of_the_axes():
    assert pattern_display.reciprocal_origin((KY, KX)) == pytest.approx((8.0, 10.0))
    text = pattern_display.describe_pixel((KY, KX), 8, 15, 3.25)
    assert text == "row 8, column 15: 3.25; |k| = 0.5 Å⁻¹, d = 2 Å"
    assert pattern_display.describe_pixel((KY, KX), 0, 0, np.nan).startswith("row 0, column 0: excluded")
    length, label = scale_bar(KX)
    assert (length, label) == (pytest.approx(5.0), "0.5 Å⁻¹")


def test_angles_have_no_lattice_spacing_and_uncalibrated_detectors_no_length():
    angles = Axis("ky", 16, 2.0, 0.0, "mrad"), Axis("kx", 20, 2.0, 0.0, "mrad")
    assert pattern_display.reciprocal_origin(angles) == (7.5, 9.5)  # the origin cannot be the corner
    assert pattern_display.describe_pixel(angles, 7, 9, 1.0) == "row 7, column 9: 1; |k| = 1.41 mrad"
    bare = Axis("ky", 16), Axis("kx", 20)
    assert pattern_display.describe_pixel(bare, 7, 9, 1.0) == "row 7, column 9: 1"
    assert scale_bar(bare[1]) == (5.0, "5 px")
    assert pixel_aspect(*bare) == 1.0
    assert pixel_aspect(KY, replace(KX, scale=0.2)) == 0.5
    assert pixel_aspect(KY, replace(KX, scale=0.2, units="mrad")) == 1.0
