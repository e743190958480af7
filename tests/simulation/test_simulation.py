"""Simulated scans: shapes, dose, noise, and that every truth map is what the patterns show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentstem.errors import ArgumentError
from latentstem.simulation.diffraction import make_crystal
from latentstem.simulation.simulate import STRUCTURES, simulate

SHAPES = {"scan_shape": (7, 5), "pattern_shape": (32, 24)}
FIELDS = {
    *("grain", "phase", "rotation", "strain_xx", "strain_yy", "strain_xy", "tilt_x", "tilt_y", "thickness"),
    *("descan_y", "descan_x", "boundary", "defect"),
}


def detector_k(sim):
    """1/angstrom from the detector's centre along y (H, 1) and x (1, W)."""
    height, width = sim.pattern_mask.shape
    y, x = np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2
    return y[:, None] * sim.pixel_size, x[None] * sim.pixel_size


@pytest.mark.parametrize("structure", STRUCTURES)
def test_shapes_types_and_provenance(structure):
    sim = simulate(**SHAPES, structure=structure, n_grains=np.int64(3), scan_step=0.5, seed=3)
    assert sim.counts.shape == sim.expectation.shape == (7, 5, 32, 24)
    assert sim.counts.dtype == np.uint16
    assert sim.expectation.dtype == np.float32
    assert set(sim.truth) >= FIELDS
    assert all(values.shape == (7, 5) and np.isfinite(values).all() for values in sim.truth.values())
    assert sim.pattern_mask.shape == (32, 24)
    assert not sim.pattern_mask.any()
    assert sim.scan_mask.shape == (7, 5)
    assert not sim.scan_mask.any()
    assert (sim.scan_step, sim.seed, sim.dose) == (0.5, 3, 500.0)
    assert sim.pixel_size == pytest.approx(2 * 1.3 / 24)
    assert type(sim.arguments["n_grains"]) is int
    np.testing.assert_array_equal(simulate(**sim.arguments).counts, sim.counts)


@settings(max_examples=15, deadline=None)
@given(
    scan=st.tuples(st.integers(1, 6), st.integers(2, 5)),
    pattern=st.tuples(st.integers(8, 41), st.integers(8, 41)),
    structure=st.sampled_from(STRUCTURES),
    seed=st.integers(0, 2**32),
)
def test_any_shape_keeps_the_dose(scan, pattern, structure, seed):
    sim = simulate(scan, pattern, structure=structure, n_grains=2, dose=80.0, seed=seed)
    assert sim.counts.shape == scan + pattern
    total = sim.expectation.sum(axis=(2, 3))
    assert (sim.expectation >= 0).all()
    assert (total < 80.001).all()
    assert (total > 65).all()


def test_seed_decides_and_detector_leaves_the_specimen_alone():
    first = simulate(**SHAPES, n_grains=3, seed=1)
    other_detector = simulate(**SHAPES, n_grains=3, seed=1, dose=50, beam_stop=True, hot_pixels=4)
    other_seed = simulate(**SHAPES, n_grains=3, seed=2)
    for name, values in first.truth.items():
        np.testing.assert_array_equal(other_detector.truth[name], values)
    good = ~other_detector.pattern_mask
    np.testing.assert_allclose(
        other_detector.expectation[..., good] * 10, first.expectation[..., good], rtol=1e-4
    )
    assert not np.array_equal(first.truth["strain_xx"], other_seed.truth["strain_xx"])
    assert not np.array_equal(first.counts, other_seed.counts)


def test_counts_are_poisson():
    sim = simulate((20, 20), (24, 24), dose=2000, seed=1)
    clean = sim.expectation.astype(float)
    z = ((sim.counts - clean) / np.sqrt(clean))[clean > 1]
    assert abs(z.mean()) < 0.02
    assert z.var() == pytest.approx(1, abs=0.03)
    assert sim.counts.sum() == pytest.approx(400 * 2000, rel=0.01)


def test_large_doses_get_a_wider_type():
    assert simulate((2, 2), (16, 16), n_grains=1, dose=1e7).counts.dtype == np.uint32
    assert simulate((2, 2), (16, 16), n_grains=1, dose=1e4).counts.dtype == np.uint16


def test_central_beam_and_its_place():
    sim = simulate((16, 16), (65, 65), descan=4.0, seed=2)
    assert np.abs(sim.truth["descan_y"]).max() == pytest.approx(4)
    assert np.abs(sim.truth["descan_x"]).max() == pytest.approx(4)
    y, x = (k / sim.pixel_size for k in detector_k(sim))
    y = y - sim.truth["descan_y"][..., None, None]
    x = x - sim.truth["descan_x"][..., None, None]
    beam = sim.expectation * (np.hypot(y, x) < 3.5)
    share = beam.sum(axis=(2, 3)) / 500
    assert 0.3 < share.mean() < 0.7
    weight = beam.sum(axis=(2, 3))
    for distance in (y, x):
        offset = (beam * distance).sum(axis=(2, 3)) / weight
        assert np.abs(offset).max() < 0.05


def test_patterns_show_the_lattice_and_its_strain():
    """The {200} of aluminium along [001] lie at 0.494 1/angstrom, moved by strain and rotation."""
    sim = simulate((12, 9), (128, 128), structure="single crystal", strain=0.02, dose=1e5, seed=5)
    k_y, k_x = detector_k(sim)
    truth = {name: values.astype(float) for name, values in sim.truth.items()}
    bright = np.zeros((4, 12, 9), bool)
    for i in range(4):
        angle = truth["rotation"] + i * np.pi / 2
        y, x = np.sin(angle) / 2.025, np.cos(angle) / 2.025
        place_y = y * (1 - truth["strain_yy"]) - x * truth["strain_xy"]
        place_x = x * (1 - truth["strain_xx"]) - y * truth["strain_xy"]
        near_y, near_x = k_y - place_y[..., None, None], k_x - place_x[..., None, None]
        spot = np.where(np.hypot(near_y, near_x) < 0.13, sim.expectation, 0)
        spot = np.where(spot > 0.5 * spot.max(axis=(2, 3), keepdims=True), spot, 0)
        total = spot.sum(axis=(2, 3))
        bright[i] = total > 0.03 * sim.dose
        for near in (near_y, near_x):
            offset = (spot * near).sum(axis=(2, 3)) / total / sim.pixel_size
            assert np.abs(offset[bright[i]]).max() < 0.1  # pixels; 2 % strain moves a spot by half a pixel
    assert bright.any(axis=0).mean() > 0.3


def test_diffuse_scattering_shows_the_thickness():
    sim = simulate((16, 12), (64, 64), structure="single crystal", seed=3)
    k = np.hypot(*detector_k(sim))
    between_spots = (k > 0.2) & (k < 0.3)
    diffuse = sim.expectation[..., between_spots].sum(axis=2)
    scattered = 1 - np.exp(-sim.truth["thickness"] / 300)
    np.testing.assert_allclose(diffuse / scattered, np.mean(diffuse / scattered), rtol=1e-3)


def test_scattering_leans_to_the_side_of_the_tilt():
    """In a thin crystal, where intensities fall with the excitation error; thicker ones have fringes."""
    sim = simulate((16, 12), (64, 64), n_grains=1, thickness=(4, 4), seed=3)
    for name, k in zip(("tilt_y", "tilt_x"), detector_k(sim), strict=True):
        moment = (sim.expectation * k).sum(axis=(2, 3))
        assert np.corrcoef(moment.ravel(), sim.truth[name].ravel())[0, 1] > 0.9


@pytest.mark.parametrize(
    ("phase", "zone", "nearest", "nanometres"), [(0, (0, 1, 1), 0.428, 70.5), (1, (1, 1, 1), 0.493, 36.3)]
)
def test_crystals_have_their_real_reflections(phase, zone, nearest, nanometres):
    """{111} of Al, {110} of Fe; extinction distances of Hirsch et al. at 100 kV, scaled to 200 kV."""
    kind = make_crystal(phase, zone)
    length = np.hypot(*kind.reflections.T)
    assert length.min() == pytest.approx(nearest, abs=0.001)
    assert 1 / kind.inverse_extinction[length.argmin()] == pytest.approx(nanometres, rel=0.05)
    np.testing.assert_allclose(kind.reflections.sum(axis=0), 0, atol=1e-9)


def test_disks_move_smoothly_through_the_pixels():
    """No aliasing: the sum and the centre of mass of the direct beam do not depend on its subpixel place."""
    sim = simulate((40, 40), (24, 24), descan=2.0, vacuum=0.9, seed=0)
    vacuum = sim.expectation[sim.scan_mask]
    y, x = (k / sim.pixel_size for k in detector_k(sim))
    np.testing.assert_allclose(vacuum.sum(axis=(1, 2)), 500, rtol=1e-5)
    offset_x = (vacuum * x).sum(axis=(1, 2)) / 500 - sim.truth["descan_x"][sim.scan_mask]
    offset_y = (vacuum * y).sum(axis=(1, 2)) / 500 - sim.truth["descan_y"][sim.scan_mask]
    assert max(np.abs(offset_x).max(), np.abs(offset_y).max()) < 0.05


def test_grains_differ_and_fields_are_smooth_within():
    sim = simulate((30, 40), (32, 32), n_grains=6, seed=4)
    grain, boundary = sim.truth["grain"], sim.truth["boundary"]
    assert set(np.unique(grain)) == set(range(6))
    assert set(np.unique(sim.truth["phase"])) == {0, 1}
    assert np.bincount(grain.ravel()).min() >= 20
    assert np.abs(sim.truth["strain_xx"]).max() == pytest.approx(0.01)
    assert 20 <= sim.truth["thickness"].min() < sim.truth["thickness"].max() <= 60
    step = np.square(np.diff(np.sqrt(sim.expectation), axis=1)).sum(axis=(2, 3))
    across = grain[:, 1:] != grain[:, :-1]
    assert step[across].min() > np.median(step[~across])
    assert step[across].mean() > 20 * step[~across].mean()
    for y in range(1, 29):
        for x in range(1, 39):
            assert boundary[y, x] == (len(np.unique(grain[y - 1 : y + 2, x - 1 : x + 2])) > 1)


def test_as_many_grains_as_positions():
    sim = simulate((4, 3), (16, 16), n_grains=12)
    assert sorted(sim.truth["grain"].ravel()) == list(range(12))


def test_vacuum_shows_the_direct_beam_alone():
    sim = simulate((20, 15), (32, 24), vacuum=0.25, seed=6)
    assert sim.scan_mask.sum() == 75
    assert (sim.truth["grain"][sim.scan_mask] == -1).all()
    assert (sim.truth["phase"][sim.scan_mask] == -1).all()
    assert (sim.truth["grain"][~sim.scan_mask] >= 0).all()
    assert (sim.truth["thickness"][sim.scan_mask] == 0).all()
    outside = np.hypot(*detector_k(sim)) > 0.25
    assert sim.expectation[sim.scan_mask][:, outside].max() == 0
    assert sim.expectation[~sim.scan_mask][:, outside].sum(axis=1).min() > 10


def test_beam_stop_and_hot_pixels():
    sim = simulate(**SHAPES, beam_stop=True, hot_pixels=3, n_grains=3, seed=1)
    shadow = sim.pattern_mask & (sim.counts == 0).all(axis=(0, 1))
    hot = sim.pattern_mask & ~shadow
    assert hot.sum() == 3
    assert shadow[15:17, 11:13].all()
    assert shadow[0, 11:13].all()
    assert not shadow[-1].any()
    assert sim.expectation[..., shadow].max() == 0
    assert sim.counts[..., hot].min() > sim.expectation.max()
    assert sim.expectation.sum(axis=(2, 3)).max() < 500 * 0.85


def test_defects_stand_out_from_their_neighbours():
    sim = simulate((24, 18), (32, 32), n_grains=3, vacuum=0.1, defects=25, seed=7)
    without = simulate((24, 18), (32, 32), n_grains=3, vacuum=0.1, seed=7)
    defect = sim.truth["defect"]
    assert defect.sum() == 25
    assert not (defect & (sim.truth["boundary"] | sim.scan_mask)).any()
    np.testing.assert_array_equal(sim.truth["grain"], without.truth["grain"])
    change = np.square(np.sqrt(sim.expectation) - np.sqrt(without.expectation)).sum(axis=(2, 3))
    assert change[defect].min() > 10
    assert change[~defect].max() == 0
    np.testing.assert_array_equal(sim.truth["phase"][defect], 1 - without.truth["phase"][defect])


def test_linear_scan_is_linear():
    sim = simulate((12, 10), (32, 24), structure="linear", beam_stop=True, seed=8)
    shares = np.stack([sim.truth[f"abundance_{i}"].ravel() for i in range(3)])
    np.testing.assert_allclose(shares.sum(axis=0), 1, rtol=1e-5)
    values = np.linalg.svd(sim.expectation.reshape(120, -1), compute_uv=False)
    assert values[2] > 0.01 * values[0]
    assert values[3] < 1e-5 * values[0]
    assert sim.n_parameters == 2
    np.testing.assert_array_equal(sim.truth["grain"].ravel(), shares.argmax(axis=0))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, 7), ({"descan": 1.0}, 9), ({"strain": 0.0}, 3), ({"thickness": (40, 40), "strain": 0}, 2)],
)
def test_number_of_parameters_is_the_rank_of_the_fields(changes, expected):
    sim = simulate((24, 20), (16, 16), structure="single crystal", **changes)
    continuous = FIELDS - {"grain", "phase", "boundary", "defect"}
    varying = [name for name in continuous if np.ptp(sim.truth[name]) > 0]
    assert sim.n_parameters == len(varying) == expected


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"scan_shape": (7,)}, r"scan_shape: expected two whole numbers .* received \(7,\)"),
        ({"scan_shape": (1, 1)}, "scan_shape: expected .* at least two positions"),
        ({"scan_shape": 7}, "scan_shape: expected"),
        ({"pattern_shape": (32, 7)}, r"pattern_shape: expected .* at least 8; received \(32, 7\)"),
        ({"pattern_shape": (32.5, 24)}, "pattern_shape: expected two whole numbers"),
        ({"dose": 0}, "dose: expected a number from 0.001 .*; received 0. Pass dose as"),
        ({"dose": float("nan")}, "dose: .* received nan"),
        ({"dose": "much"}, "dose: .* received 'much'"),
        ({"structure": "glass"}, "structure: expected one of 'polycrystal', .*; received 'glass'"),
        ({"n_grains": 36}, "n_grains: expected a whole number from 1 to 35; received 36"),
        ({"n_grains": 2.5}, "n_grains: expected a whole number"),
        ({"strain": -0.1}, "strain: expected a number from 0 to 0.2"),
        ({"thickness": (60, 20)}, r"thickness: expected .* the least and the greatest.* received \(60, 20\)"),
        ({"thickness": 30.0}, "thickness: expected two numbers in nm"),
        ({"descan": 13}, "descan: expected a number from 0 to 12"),
        ({"descan": 1, "structure": "linear"}, "descan: .* non-linear"),
        ({"beam_stop": 2}, "beam_stop: expected True or False"),
        ({"hot_pixels": 193}, "hot_pixels: expected a whole number from 0 to 192"),
        ({"vacuum": 1.0}, "vacuum: expected a number from 0 to 0.95"),
        ({"defects": 1, "structure": "linear"}, "defects: .* non-linear"),
        ({"defects": 35, "n_grains": 2}, "defects: expected at most .* inside grains"),
        ({"scan_step": 0}, "scan_step: expected"),
        ({"seed": -1}, "seed: expected a whole number from 0"),
    ],
)
def test_bad_arguments_say_what_to_do(bad, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        simulate(**{**SHAPES, "n_grains": 3, **bad})
    assert isinstance(caught.value, ValueError)
    assert caught.value.advice
