"""What a streamed pass finds in a scan: everything that was planted, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import latentstem
from latentstem.errors import DataValueError
from latentstem.io.open import as_scan
from latentstem.scan.quality import measure_quality

NOTHING = "No empty or outlying patterns, no hot or dead detector pixels, no saturation."


def counts(scan_shape=(7, 5), pattern_shape=(32, 24), dose=40.0, seed=0):
    """Poisson counts of a smooth pattern, four different dimensions by default."""
    y, x = (np.linspace(-1, 1, n) for n in pattern_shape)
    pattern = dose * np.exp(-(y[:, None] ** 2) - 2 * x**2)
    return np.random.default_rng(seed).poisson(pattern, (*scan_shape, *pattern_shape)).astype(np.uint16)


def at(mask):
    return [tuple(place) for place in np.argwhere(mask).tolist()]


@given(
    dtype=st.sampled_from(["u1", ">u2", "i4", "u8", "f2", "<f4", ">f8"]),
    factor=st.sampled_from([1, 0.25, -1]),
    masked=st.booleans(),
    seed=st.integers(0, 9),
)
def test_numbers_are_numpys(dtype, factor, masked, seed):
    data = counts(seed=seed)
    data = (data * factor).astype(dtype) if np.dtype(dtype).kind == "f" else data.astype(dtype)
    rng = np.random.default_rng(seed)
    masks = (
        {"scan_mask": rng.random((7, 5)) < 0.3, "pattern_mask": rng.random((32, 24)) < 0.3} if masked else {}
    )
    quality = measure_quality(as_scan(data, **masks))
    keep_scan, keep_pixels = (
        ~masks[name] if masked else np.ones(shape, bool)
        for name, shape in (("scan_mask", (7, 5)), ("pattern_mask", (32, 24)))
    )
    plain = data.astype(float)
    used = plain[keep_scan][:, keep_pixels]
    assert (quality.minimum, quality.maximum) == (used.min(), used.max())
    assert quality.n_positions == keep_scan.sum()
    assert quality.dose == pytest.approx(used.sum(axis=1).mean(), rel=1e-5)
    np.testing.assert_allclose(quality.mean_pattern, plain[keep_scan].mean(axis=0) * keep_pixels, rtol=1e-5)
    total = np.where(keep_scan, (plain * keep_pixels).sum(axis=(2, 3)), np.nan)
    np.testing.assert_allclose(quality.total_intensity, total, rtol=1e-5)
    assert quality.counts == bool((used >= 0).all() and (used == np.rint(used)).all())
    assert quality.lines()[1:] == [NOTHING]


@pytest.mark.parametrize("kind", ["numpy", "chunked"])
def test_each_pattern_is_read_once(kind, tmp_path):
    h5py = pytest.importorskip("h5py")
    data = counts()
    if kind == "chunked":
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("data", data=data, chunks=(3, 2, 32, 24))
        scan = as_scan(tmp_path / "a.h5")
    else:
        scan = as_scan(data)
    read, original = [], scan.source.read
    scan.source.read = lambda indices: read.extend(indices.tolist()) or original(indices)
    quality = measure_quality(scan)
    assert sorted(read) == list(range(35))
    np.testing.assert_allclose(quality.mean_pattern, data.mean(axis=(0, 1)))


def test_text():
    lines = measure_quality(as_scan(counts())).lines()
    assert lines[0].startswith("7 x 5 scan of 32 x 24 patterns, uint16 from 0 to ")
    assert "values look like counts" in lines[0]
    assert lines[1:] == [NOTHING]


def test_empty_patterns():
    data = counts()
    data[2, 3] = data[6, 0] = 0
    quality = measure_quality(as_scan(data))
    assert at(quality.empty) == [(2, 3), (6, 0)]
    assert not quality.outlying.any()
    assert "2 empty patterns, at (2, 3), (6, 0): exclude with scan_mask." in quality.lines()
    assert not measure_quality(as_scan(data, scan_mask=quality.empty)).empty.any()


def test_patterns_that_sum_to_zero_are_not_empty():
    data = np.random.default_rng(0).normal(size=(7, 5, 32, 24))
    data[1, 1] = 0
    data[1, 2] = 1
    data[1, 2, ::2] = -1
    assert at(measure_quality(as_scan(data)).empty) == [(1, 1)]


@pytest.mark.parametrize("factor", [0.1, 3])
def test_outlying_total_intensity(factor):
    data = counts((12, 10))
    data[3, 4] = data[3, 4] * factor
    data[8] = data[8] * factor  # a whole scan line
    quality = measure_quality(as_scan(data))
    assert at(quality.outlying) == [(3, 4), *((8, x) for x in range(10))]
    assert "11 patterns of outlying total intensity, at (3, 4), (8, 0)" in quality.lines()[1]


def test_vacuum_and_thickness_are_not_outlying():
    data = counts((12, 10))
    data[:5, :4] = data[:5, :4] // 4
    data[8:, 5:] *= 3
    data[5:8] = data[5:8] // 2
    assert not measure_quality(as_scan(data)).outlying.any()


def test_line_scan():
    data = counts((1, 40))
    data[0, 20] //= 8
    quality = measure_quality(as_scan(data))
    assert not quality.hot.any()
    assert at(quality.outlying) == [(0, 20)]


@pytest.mark.parametrize("dose", [0.5, 40])
def test_hot_and_dead_pixels(dose):
    data = counts((24, 25), dose=dose)
    hot, stuck, dead = [(0, 0), (9, 7), (9, 8)], (20, 3), [(15, 11), (18, 9)]
    for place in hot:
        data[(..., *place)] = np.random.default_rng(1).poisson(10 * dose + 5, (24, 25))
    data[(..., *stuck)] = 5000
    for place in dead:
        data[(..., *place)] = 0
    quality = measure_quality(as_scan(data))
    assert at(quality.hot) == sorted([*hot, stuck])
    assert at(quality.dead) == dead
    mask = quality.suggested_pattern_mask()
    assert at(mask) == sorted([*hot, stuck, *dead])
    assert (
        "4 hot detector pixels, at (0, 0), (9, 7), (9, 8), (20, 3): exclude with pattern_mask."
        in quality.lines()
    )
    clean = measure_quality(as_scan(data, pattern_mask=mask))
    assert clean.lines()[1:] == [NOTHING]
    assert clean.maximum < 1000


def cross(shape=(32, 24)):
    """Gaps between the four modules of a detector."""
    gaps = np.zeros(shape, bool)
    gaps[15:17] = gaps[:, 11] = True
    return gaps


def dead_module(shape=(32, 24)):
    module = np.zeros(shape, bool)
    module[:16, :12] = True
    return module


@pytest.mark.parametrize(
    "gaps", [cross(), dead_module(), cross() | dead_module()], ids=["gaps", "module", "both"]
)
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (np.uint16, 2**16 - 1), (np.uint32, 2**32 - 1), (np.int32, -1), (np.float32, 2**32 - 1), (np.uint16, 0),
        (np.uint32, 2**16 - 1),
    ],
)  # fmt: skip
def test_gaps_are_found_and_left_out(gaps, dtype, value):
    clean = counts((12, 10)).astype(dtype)
    data = clean.copy()
    data[..., gaps] = value
    quality = measure_quality(as_scan(data))
    np.testing.assert_array_equal(quality.gaps, gaps)
    np.testing.assert_array_equal(quality.suggested_pattern_mask(), gaps)
    assert quality.counts
    assert quality.dose == pytest.approx(clean[..., ~gaps].sum((2,)).mean(), rel=1e-6)
    assert not quality.saturated
    (line,) = [line for line in quality.lines() if "without a measurement" in line]
    assert line.startswith(f"{gaps.sum()} detector pixels")
    assert line.endswith("excluded.")
    masked = as_scan(data, pattern_mask=gaps)
    assert not measure_quality(masked).gaps.any()


@pytest.mark.parametrize("unit", [1.0, 1e4, 1e-6])
def test_no_gap_is_found_over_real_pixels_whatever_the_unit(unit):
    data = counts((12, 10), dose=0.003)  # whole lines are zero by chance
    data[..., 20:, :] = 0
    assert (data.sum((0, 1)) == 0).all(1).any()
    assert not measure_quality(as_scan((data * unit).astype(np.float32))).gaps.any()
    bright = (counts((12, 10)) * unit).astype(np.float32)
    bright[..., cross()] = 0
    np.testing.assert_array_equal(measure_quality(as_scan(bright)).gaps, cross())


def test_a_gap_goes_on_under_a_mask():
    data, mask = counts((12, 10)), np.zeros((32, 24), bool)
    data[..., cross()] = 2**16 - 1
    mask[10:20, 8:14] = True  # over the direct beam and the middle of the cross
    np.testing.assert_array_equal(measure_quality(as_scan(data, pattern_mask=mask)).gaps, cross() & ~mask)


def test_no_gap_is_found_over_a_saturated_beam_or_a_beam_stop():
    saturated = counts((12, 10)).astype(np.uint16)
    saturated[..., 14:18, 10:14] = 2**16 - 1  # the direct beam
    assert not measure_quality(as_scan(saturated)).gaps.any()
    simulated = latentstem.simulate((12, 10), (64, 66), dose=50, seed=5, beam_stop=True)
    assert not measure_quality(as_scan(simulated)).gaps[:, 40:].any()


def test_beam_pixels_beside_a_gap_of_zeros_are_not_hot():
    y, x = np.mgrid[:32, :24]
    beam = 200 * np.exp(-((y - 14) ** 2 + (x - 12) ** 2) / 2)
    data = np.random.default_rng(0).poisson(0.5 + beam, (12, 10, 32, 24))
    data[..., cross()] = 0
    assert not measure_quality(as_scan(data)).hot.any()


def test_training_leaves_gaps_out():
    data = counts((8, 7)).astype(np.uint16)
    data[..., cross()] = 2**16 - 1
    model = latentstem.train_autoencoder(data, latent_dim=2, epochs=1, progress=False)
    masked = latentstem.train_autoencoder(data, latent_dim=2, epochs=1, progress=False, pattern_mask=cross())
    np.testing.assert_allclose(model.embed(data).maps, masked.embed(data).maps, rtol=1e-4, atol=1e-5)
    assert not model.reconstruct(data)[..., cross()].any()


@pytest.mark.parametrize("offset", [0, 500])
def test_hot_pixels_on_a_camera_with_offset(offset):
    data = counts((12, 10), dose=5).astype(np.float32) * 1.7 + offset
    data[:, :, 20, 5] += 100
    data += np.random.default_rng(0).normal(0, 1, data.shape).astype(np.float32)
    assert at(measure_quality(as_scan(data)).hot) == [(20, 5)]


@pytest.mark.parametrize("pattern_shape", [(8, 9), (16, 12), (32, 24), (64, 66)])
@pytest.mark.parametrize("structure", ["polycrystal", "single crystal"])
@pytest.mark.parametrize("dose", [50, 20000])
def test_diffraction_spots_are_not_hot(pattern_shape, structure, dose):
    simulated = latentstem.simulate((12, 10), pattern_shape, dose=dose, structure=structure, seed=5)
    quality = measure_quality(as_scan(simulated))
    assert not quality.suggested_pattern_mask().any()
    assert not quality.saturated


def test_sharp_spots_are_not_hot():
    y, x = np.mgrid[:48, :40]
    spots = sum(
        np.exp(-2 * ((y - row) ** 2 + (x - column) ** 2)) for row in (8, 24, 40) for column in (7, 19, 31)
    )
    data = np.random.default_rng(0).poisson(0.2 + 100 * spots, (12, 10, 48, 40)).astype(np.uint16)
    data[..., 30, 13] = np.random.default_rng(1).poisson(50, (12, 10))
    assert at(measure_quality(as_scan(data)).hot) == [(30, 13)]


def test_hot_pixels_and_beam_stop_of_a_simulated_scan():
    simulated = latentstem.simulate((16, 18), (48, 40), hot_pixels=6, beam_stop=True, vacuum=0.2, seed=2)
    quality = measure_quality(as_scan(simulated))
    stop = latentstem.simulate((16, 18), (48, 40), beam_stop=True, vacuum=0.2, seed=2).pattern_mask
    assert at(quality.hot) == at(simulated.pattern_mask & ~stop)
    assert not quality.dead.any()


def test_saturation():
    data = counts((12, 10), dose=400)
    clipped = np.minimum(data, 380)
    assert measure_quality(as_scan(clipped)).saturated == np.count_nonzero(data >= 380)
    assert "values are saturated at 380" in measure_quality(as_scan(clipped)).lines()[-1]
    full = np.minimum(data, 255).astype(np.uint8)
    assert measure_quality(as_scan(full)).saturated == np.count_nonzero(data >= 255)
    scaled = clipped.astype(np.float32) / 380
    assert measure_quality(as_scan(scaled)).saturated == np.count_nonzero(data >= 380)


def test_saturation_found_block_by_block(monkeypatch):
    monkeypatch.setattr("latentstem.scan.passes._BLOCK_VALUES", 32 * 24)
    data = np.minimum(counts((12, 10), dose=400), 380)
    data[:6] = np.minimum(data[:6], 100)
    assert measure_quality(as_scan(data)).saturated == np.count_nonzero(data == 380)


@pytest.mark.parametrize("dose", [0.05, 1, 400])
def test_few_counts_are_not_saturation(dose):
    data = counts((24, 20), dose=dose)
    assert measure_quality(as_scan(data)).saturated == 0
    assert measure_quality(as_scan(data / np.float32(7))).saturated == 0


@pytest.mark.parametrize(
    ("dtype", "values", "look_like"),
    [
        (np.uint16, (0, 1, 2), True),
        (np.float32, (0, 1, 2), True),
        (np.float64, (0, 1.5, 2), False),
        (np.float32, (0, -1, 2), False),
        (np.int8, (-1, 0, 1), False),
    ],
)
def test_what_looks_like_counts(dtype, values, look_like):
    data = np.random.default_rng(0).choice(values, (7, 5, 32, 24)).astype(dtype)
    assert measure_quality(as_scan(data)).counts is look_like


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(bad):
    data = counts().astype(np.float32)
    data[2, 3, 4, 5] = data[2, 3, 6, 7] = data[6, 1, 4, 5] = bad
    message = (
        r"3 that are not, in 2 patterns at scan positions \(2, 3\), \(6, 1\), "
        r"in 2 detector pixels \(4, 5\), \(6, 7\)\. Exclude them with pattern_mask = ~np.isfinite\(data\)"
    )
    with pytest.raises(DataValueError, match=message):
        measure_quality(as_scan(data))
    mask = ~np.isfinite(data)
    for masks in ({"pattern_mask": mask.any(axis=(0, 1))}, {"scan_mask": mask.any(axis=(2, 3))}):
        assert measure_quality(as_scan(data, **masks)).lines()[1:] == [NOTHING]


def test_corrupted_patterns():
    data = counts((12, 10)).astype(np.float32)
    data[2, 3] = np.nan
    with pytest.raises(
        DataValueError, match=r"768 that are not, in 1 patterns.*Exclude them with scan_mask ="
    ):
        measure_quality(as_scan(data))


@pytest.mark.parametrize("value", [0, 7])
def test_constant_data(value):
    data = np.full((7, 5, 32, 24), value, np.uint8)
    with pytest.raises(DataValueError, match=f"35 patterns that are {value} everywhere"):
        measure_quality(as_scan(data))
    data[0, 0, 0, 0] = 9
    measure_quality(as_scan(data))
    mask = np.zeros((7, 5), bool)
    mask[0, 0] = True
    with pytest.raises(DataValueError, match=r"data are constant.*masks do not exclude the signal"):
        measure_quality(as_scan(data, scan_mask=mask))


def test_shared_files(shared_data):
    h5 = shared_data / "formats/arina/test_00_master.h5"
    with pytest.raises(DataValueError, match=r"16 patterns that are 0 everywhere"):
        measure_quality(as_scan(h5))
    simulated = measure_quality(as_scan(shared_data / "orient4d-scan32/scan_32.npz"))
    assert simulated.counts
    assert simulated.dose == pytest.approx(300, rel=0.05)
    assert simulated.lines()[1:] == [NOTHING]
