"""Detector values to network input and back, on the pixels that count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentstem import as_scan
from latentstem.errors import ArgumentError, DataValueError, MaskError
from latentstem.nn.detector import Detector
from latentstem.nn.preprocessing import Preprocessing, patterns_to_tensor
from latentstem.nn.scan_sample import sample_values
from latentstem.scan.scan import Scan

KINDS = ("minmax", "sqrt", "log", "zscore", "none")
SHAPE = (7, 5, 32, 24)


def fitted(kind, data, *, counts=False, positions=None, detector=None, **masks):
    scan = as_scan(data, **masks)
    preprocessing = Preprocessing(kind, detector or Detector(scan.pattern_shape))
    preprocessing.detector.set_mask(scan.pattern_mask)
    positions = np.arange(scan.n_positions) if positions is None else positions
    preprocessing.fit(sample_values(scan, positions, preprocessing.detector), counts=counts)
    return preprocessing


def patterns(seed=0, dtype="float64", scale=1.0, low=0.0):
    values = np.random.default_rng(seed).gamma(0.5, 1.0, SHAPE) * scale + low * scale
    return values.astype(dtype)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(
    exponent=st.floats(-6, 9),
    low=st.sampled_from([0.0, -3.0, 5.0]),
    dtype=st.sampled_from(
        ["float32", "float64", ">f4", "float16", "uint8", "int16", "uint16", "int32", "uint32"]
    ),
    counts=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_kind_inverts(kind, exponent, low, dtype, counts, seed):
    kept = np.dtype(dtype)
    if kept.kind in "ui":
        info = np.iinfo(kept)
        scale = min(10**exponent, info.max / 40)
        low = low if info.min < 0 else abs(low)
        data = np.rint(patterns(seed, scale=max(scale, 2), low=low)).clip(info.min, info.max).astype(kept)
    else:
        data = patterns(seed, dtype, 10 ** min(exponent, 3 if kept.itemsize == 2 else 9), low)
        counts = False
    values = patterns_to_tensor(as_scan(data).read(np.arange(35))).float()
    preprocessing = fitted(kind, data, counts=counts)
    x = preprocessing(values)
    assert x.dtype == torch.float32
    assert torch.isfinite(x).all()
    error = (preprocessing.inverse(x) - values).abs().max()
    assert error <= 1e-5 * values.abs().max()


@pytest.mark.parametrize("kind", ["minmax", "sqrt", "log"])
def test_input_is_of_the_order_of_one(kind):
    x = fitted(kind, patterns(scale=1e6))(torch.from_numpy(patterns(scale=1e6)[0]).float())
    assert x.min() >= -1e-6
    assert 0.3 < x.max() <= 1 + 1e-6


def test_zscore_has_mean_zero_and_spread_one():
    data = patterns(scale=40, low=-3)
    x = fitted("zscore", data)(torch.from_numpy(data.reshape(-1, 32, 24)).float())
    assert abs(x.mean()) < 1e-4
    assert abs(x.std() - 1) < 1e-3


def test_statistics_are_those_of_the_used_values():
    data, mask = patterns(scale=40, low=2), np.eye(32, 24, dtype=bool)
    values = data[:, :, ~mask]
    minmax, zscore = (fitted(kind, data, pattern_mask=mask) for kind in ("minmax", "zscore"))
    assert minmax.offset.item() == pytest.approx(values.min())
    assert minmax.scale.item() == pytest.approx(np.ptp(values))
    assert zscore.offset.item() == pytest.approx(values.mean())
    assert zscore.scale.item() == pytest.approx(values.std(), rel=1e-3)
    assert minmax.unit.item() == pytest.approx(values.mean())
    assert minmax.mean_total.item() == pytest.approx(values.sum(2).mean())


def test_sqrt_makes_the_noise_of_counts_even():
    rng = np.random.default_rng(0)
    counts = np.stack([rng.poisson(mean, (35, 32, 24)) for mean in (4, 40, 400)])
    preprocessing = fitted("sqrt", counts[2].reshape(SHAPE).astype("uint16"), counts=True)
    spread = preprocessing(torch.from_numpy(counts).float()).std((1, 2, 3)) * preprocessing.scale
    assert torch.allclose(spread, torch.ones(3), atol=0.06)


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_come_from_the_training_positions_and_used_pixels_alone(kind):
    data = patterns()
    pattern_mask = np.zeros((32, 24), bool)
    pattern_mask[3:6, 20] = True
    clean = fitted(kind, data, positions=np.arange(20), pattern_mask=pattern_mask)
    spoilt = data.copy()
    spoilt[:, :, pattern_mask] = [np.nan, 1e9, -1e9]
    spoilt.reshape(35, 32, 24)[20:] = 1e12
    again = fitted(kind, spoilt, positions=np.arange(20), pattern_mask=pattern_mask)
    for name, value in clean.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_statistics_travel_in_the_state():
    one = fitted("log", patterns(scale=1e3))
    other = Preprocessing("log", Detector((32, 24)))
    other.load_state_dict(one.state_dict())
    x = torch.rand(2, 32, 24) * 1e3
    assert torch.equal(one(x), other(x))
    assert other.describe() == one.describe()


def test_large_scans_are_sampled(monkeypatch):
    from latentstem.nn import scan_sample as module

    reads = []
    read = Scan.read
    monkeypatch.setattr(Scan, "read", lambda self, at: reads.append(at) or read(self, at))
    monkeypatch.setattr(module, "_MAX_SAMPLE_PATTERNS", 66)
    monkeypatch.setattr(module, "_MAX_BATCH_VALUES", 10 * 32 * 24)
    data = np.concatenate([patterns(seed) for seed in range(4)])
    list(sample_values(as_scan(data), np.arange(130), Detector((32, 24)), seed=3))
    assert [len(at) for at in reads] == [10] * 6 + [6]
    assert len(np.unique(np.concatenate(reads))) == 66
    assert np.concatenate(reads).max() < 130
    reads.clear()
    monkeypatch.setattr(module, "_MAX_SAMPLE_VALUES", 20 * 32 * 24)  # of large patterns, fewer
    list(sample_values(as_scan(data), np.arange(130), Detector((32, 24)), seed=3))
    assert [len(at) for at in reads] == [10, 10]


@pytest.mark.parametrize("low", [-3.0, 0.0, 5.0, 1e4])
def test_statistics_in_parts_are_those_of_all_values(low, monkeypatch):
    from latentstem.nn import scan_sample as module

    monkeypatch.setattr(module, "_MAX_BATCH_VALUES", 4 * 32 * 24)
    data = np.rint(patterns(scale=3, low=low / 3))
    mask = np.zeros((32, 24), bool)
    mask[3:5, 7] = True
    data[:, :, mask] = -1e6
    made = fitted("zscore", data, pattern_mask=mask)
    values = data[:, :, ~mask]
    assert made.offset.item() == pytest.approx(values.mean(), rel=1e-6)
    assert made.scale.item() == pytest.approx(values.std(ddof=1), rel=1e-6)
    assert made.fitted_range.tolist() == [values.min(), values.max()]
    assert made.mean_total.item() == pytest.approx(values.sum(2).mean(), rel=1e-6)
    lowest = min(0, values.min())
    assert made.unit.item() == pytest.approx((values[values > lowest] - lowest).mean(), rel=1e-6)


def test_constant_patterns_are_refused():
    data = patterns()
    data[:, :, 8:16, 8:16] = 2.0
    with pytest.raises(
        DataValueError, match=r"constant.*received the value 2 everywhere.*masks and the crop"
    ):
        fitted("minmax", data, detector=Detector((32, 24), crop=(8, 16, 8, 16)))


# ---- the detector ----


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_bin_and_crop_agree_with_numpy_and_come_back_on_the_detector(data):
    binning = data.draw(st.integers(1, 6))
    h, w = (data.draw(st.integers(8, 12)) * binning for _ in range(2))
    y0, x0 = (data.draw(st.integers(0, 5)) for _ in range(2))
    height, width = y0 + h + data.draw(st.integers(0, 4)), x0 + w + data.draw(st.integers(0, 4))
    counts = np.random.default_rng(0).poisson(30, (2, height, width))
    detector = Detector((height, width), binning, (y0, y0 + h, x0, x0 + w))
    binned = detector(torch.from_numpy(counts))
    want = counts[:, y0 : y0 + h, x0 : x0 + w]
    want = want.reshape(2, h // binning, binning, w // binning, binning).sum((2, 4))
    np.testing.assert_array_equal(binned.numpy(), want)  # whole numbers stay whole: counts stay counts
    restored = detector.to_detector(binned)
    assert restored.shape == (2, height, width)
    np.testing.assert_allclose(detector(restored).numpy(), want, rtol=1e-5)
    outside = np.ones((height, width), bool)
    outside[y0 : y0 + h, x0 : x0 + w] = False
    assert not restored.numpy()[:, outside].any()


def test_a_bin_with_an_excluded_pixel_is_excluded():
    mask = np.zeros((32, 24), bool)
    mask[5, 7] = True
    detector = Detector((32, 24), 2)
    detector.set_mask(mask)
    assert detector.used.shape == (16, 12)
    assert np.argwhere(detector.used.numpy() == 0).tolist() == [[2, 3]]
    values = np.ones((1, 32, 24))
    values[0, 5, 7] = np.nan
    binned = detector(torch.from_numpy(values))
    assert binned[0, 2, 3] == 0
    assert torch.isfinite(binned).all()
    restored = detector.to_detector(binned + 1)
    assert not restored[0, 4:6, 6:8].any()


def test_the_mask_can_be_taken_off():
    detector = Detector((32, 24))
    detector.set_mask(np.eye(32, 24, dtype=bool))
    detector.set_mask(None)
    assert detector.used.all()


def test_a_mask_that_hits_every_bin_is_refused():
    mask = np.zeros((32, 24), bool)
    mask[::2, ::2] = True
    with pytest.raises(
        MaskError, match=r"bin of 2 x 2 pixels.*received 192 of 768 pixels excluded.*smaller bin"
    ):
        Detector((32, 24), 2).set_mask(mask)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"crop": (0, 33, 0, 24)},
            r"crop reaches outside the detector.*inside 32 x 24.*crop=\(0, 33, 0, 24\)",
        ),
        ({"bin": 3}, r"divisor of 32 and 24; received bin=3\. Use crop=\(0, 30, 0, 24\)"),
        ({"bin": 4}, r"at least 8 x 8; received 8 x 6"),
    ],
)
def test_bad_regions_are_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        Detector((32, 24), **arguments)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int64", "uint64", "float16", "f8"]
)
def test_every_dtype_becomes_a_tensor_of_the_same_values(dtype):
    values = np.arange(6, dtype=dtype).reshape(1, 2, 3)[:, :, ::-1]
    if values.dtype.kind in "ui":
        values = values + (np.iinfo(dtype).max // 2 if values.dtype.itemsize < 8 else 2**40)
    values.flags.writeable = False
    np.testing.assert_array_equal(patterns_to_tensor(values).numpy().astype("f8"), values.astype("f8"))
