"""What units, doses and rounding do to results: nothing, or what is said here."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chisquare, poisson
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn

import latentstem
from helpers import train
from latentstem import Autoencoder, LatentModel, TrainingConfig, as_scan
from latentstem.errors import DataValueError
from latentstem.nn.batches import PatternBatch
from latentstem.nn.detector import Detector
from latentstem.nn.likelihoods.poisson import poisson_deviance
from latentstem.nn.metrics import image_quality
from latentstem.nn.networks.base import Network
from latentstem.nn.preprocessing import Preprocessing, patterns_to_tensor
from latentstem.nn.principal_components import PrincipalComponents
from latentstem.nn.scan_sample import sample_values, sample_with_neighbour_means
from latentstem.nn.scan_scores import ScanScores
from latentstem.nn.thinning import thin_counts
from latentstem.scan.quality import measure_quality
from latentstem.training.data_module import split_positions

KINDS = ("minmax", "sqrt", "log", "zscore", "none")


@pytest.fixture(scope="module")
def values():
    """Intensities (12, 10, 16, 20) that are no counts, float32."""
    scan = latentstem.simulate((12, 10), (16, 20), dose=300, n_grains=3)
    noise = np.random.default_rng(0).gamma(0.5, 0.1, scan.counts.shape)
    return (scan.expectation + noise).astype(np.float32)


def prepared(data, **arguments):
    """A module that is ready to be trained, and a batch with all of the patterns."""
    scan = as_scan(data)
    quality = measure_quality(scan)
    plain = {"latent_dim": 4, "context": 1, "split_counts": quality.counts, "reconstruction": "poisson"}
    config = TrainingConfig(**{**plain, "preprocessing": "minmax", **arguments})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Autoencoder(config.model_dump(), scan.pattern_shape)
        everything = np.arange(scan.n_positions)
        detector = module.preprocessing.detector
        module.preprocessing.fit(sample_values(scan, everything, detector), counts=quality.counts)
        single, mean = sample_with_neighbour_means(scan, everything, detector)
        if module.network.n_components:
            module.principal_components.fit(single, mean, counts=quality.counts, seed=0)
        module.initialise(mean)
    scores = ScanScores.measure(scan, module.principal_components, detector)(everything)
    return module, PatternBatch(patterns_to_tensor(scan.read(everything)), scores)


def loss_and_gradient(module, batch):
    module.zero_grad()
    loss = module.loss(batch, torch.Generator().manual_seed(0))["loss"]
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


# ---- units ----


@pytest.mark.parametrize(
    ("kind", "reconstruction", "network", "low"),
    [
        *((kind, "mse", "compact", 0.0) for kind in KINDS),
        ("zscore", "mae", "compact", -3.0),
        ("none", "huber", "compact", -3.0),
        ("auto", "poisson", "compact", 0.0),
        ("none", "mse", "resnet", 0.0),
    ],
)
def test_units_that_differ_by_a_power_of_two_change_nothing(
    values, narrow, kind, reconstruction, network, low
):
    arguments = {"preprocessing": kind, "reconstruction": reconstruction, "network": network, "epochs": 1}
    results = []
    for exponent in (0, -40, 40):
        unit = np.float32(2.0**exponent)
        data = (values + np.float32(low)) * unit
        model = train(data, **arguments)
        results.append((model.embed(data).maps, model.reconstruct(data) / unit, model.history["val/loss"]))
    for latents, reconstructed, loss in results[1:]:
        np.testing.assert_array_equal(latents, results[0][0])
        np.testing.assert_array_equal(reconstructed, results[0][1])
        assert loss == results[0][2]


def test_float_and_double_precision_data_give_the_same(values):
    one, other = (train(values.astype(dtype), epochs=1).embed(values).maps for dtype in ("<f4", ">f8"))
    np.testing.assert_array_equal(one, other)


def test_whole_numbers_are_another_dose_in_other_units(values):
    """Integers are counts in any unit; floating-point numbers are if they are whole and not too large to be not."""
    counts = np.random.default_rng(0).poisson(values)
    for data, expected in (
        (counts, True),
        (2 * counts, True),
        (counts.astype("f4"), True),
        (counts / 2, False),
        (counts.astype(np.int64) * 2**40, True),
        (values * np.float32(2.0**40), False),  # whole, because float32 has no fractions there
    ):
        assert measure_quality(as_scan(data)).counts is expected
    one, other = (measure_quality(as_scan(data)) for data in (counts, 2 * counts))
    assert other.dose == 2 * one.dose


@pytest.mark.parametrize("network", ["compact", "resnet"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reconstruction", ["mse", "poisson"])
def test_losses_and_gradients_do_not_depend_on_the_unit(values, narrow, network, kind, reconstruction):
    arguments = {"preprocessing": kind, "reconstruction": reconstruction, "network": network}
    if network == "resnet":
        arguments["context"] = 0
    # another exponent of ten is another rounding, and the power of two of "none" another share of the largest value
    want, gradient = loss_and_gradient(*prepared(values, **arguments))
    for unit in (1e-12, 1e12):
        loss, again = loss_and_gradient(*prepared(values.astype("f8") * unit, **arguments))
        assert torch.isfinite(again).all()
        if kind != "none":
            assert loss == pytest.approx(want, rel=1e-3)
            assert (again - gradient).norm() < 0.1 * gradient.norm()  # a ReLU more or less
        else:
            assert 0.2 * want < loss < 5 * want


def test_integers_in_large_units_train(values):
    data = np.rint(values * 1e3).astype(np.uint64) * 10**9  # sums beyond 2^53
    module, batch = prepared(data)
    loss, gradient = loss_and_gradient(module, batch)
    assert np.isfinite(loss)
    assert torch.isfinite(gradient).all()
    assert module.preprocessing.mean_total.item() == pytest.approx(
        data.astype("f8").sum((2, 3)).mean(), rel=1e-6
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.astype("f8") * 1e60, r"range of single precision.*1e-30 to 1e\+30; received.*Change the unit"),
        (lambda v: v * np.float32(1e-42), r"range of single precision: expected a largest magnitude from 1e-30"),
        (lambda v: v.astype("f8") + 1e9, r"range of values .*received values from 1e\+09 to 1e\+09, a range.*Subtract"),
        (lambda v: np.rint(v).astype("u8") + 2**50, r"range of values is too small.*Subtract the detector's offset"),
    ],
    ids=["huge", "denormal", "offset", "offset of integers"],
)  # fmt: skip
def test_values_that_single_precision_cannot_hold_are_refused(values, change, message):
    with pytest.raises(DataValueError, match=message):
        train(change(values))


def test_half_precision_up_to_its_largest_value(values):
    data = (values * (65504 / values.max())).astype(np.float16)
    assert data.max() == 65504
    module, batch = prepared(data, reconstruction="mse")
    assert np.isfinite(loss_and_gradient(module, batch)[0])
    assert module.preprocessing.mean_total.item() == pytest.approx(
        data.sum((2, 3), dtype="f8").mean(), rel=1e-6
    )
    assert measure_quality(as_scan(data)).dose == pytest.approx(
        module.preprocessing.mean_total.item(), rel=1e-6
    )


def test_large_sums_keep_their_digits():
    """Of patterns of 2048 x 2048 pixels with many counts, in float32 as in integers."""
    rng = np.random.default_rng(0)
    data = np.stack([rng.integers(0, 2**20, (2048, 2048), dtype=np.uint32) for _ in range(2)])[None]
    want = data.sum((2, 3), dtype=np.uint64)
    for stored in (data, data.astype(np.float32)):
        scan, positions = as_scan(stored), np.arange(2)
        preprocessing = Preprocessing("minmax", Detector(scan.pattern_shape, 4))
        preprocessing.fit(sample_values(scan, positions, preprocessing.detector), counts=True)
        assert preprocessing.mean_total.item() == pytest.approx(want.mean(), rel=1e-6)
        assert measure_quality(scan).total_intensity.ravel() == pytest.approx(want.ravel(), rel=1e-6)


# ---- dose ----


@pytest.mark.parametrize("dose", [0.1, 1, 100, 1e5, 1e7])
@pytest.mark.parametrize("network", ["compact", "resnet"])
def test_losses_and_gradients_are_finite_at_any_dose(narrow, dose, network):
    data = latentstem.simulate((12, 10), (16, 20), dose=dose, n_grains=3).counts
    assert data.sum() > 0
    for kind, reconstruction in (
        ("minmax", "poisson"),
        ("sqrt", "poisson"),
        ("log", "mse"),
        ("zscore", "mae"),
    ):
        arguments = {"preprocessing": kind, "reconstruction": reconstruction, "network": network}
        if reconstruction != "poisson":
            arguments["split_counts"] = False
        loss, gradient = loss_and_gradient(*prepared(data, **arguments))
        assert 0 < loss < np.inf
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("dose", [1, 1e7])
def test_the_dose_comes_back(dose):
    data = latentstem.simulate((24, 20), (32, 40), dose=dose, n_grains=3).counts
    model = train(data, epochs=6)
    assert model.reconstruct(data).sum((2, 3)).mean() == pytest.approx(data.sum((2, 3)).mean(), rel=0.15)
    assert all(np.isfinite(series).all() for series in model.history.values())


def test_many_counts_are_split_into_whole_halves():
    counts = torch.tensor([0.0, 1.0, 2.0**24, 1e8, 4e9]).repeat(400, 1)
    first, second = thin_counts(counts, torch.Generator().manual_seed(0))
    assert torch.equal(first + second, counts)
    assert (first >= 0).all()
    assert (second >= 0).all()
    np.testing.assert_allclose(first[:, 2:].mean(0), counts[0, 2:] / 2, rtol=1e-4)
    np.testing.assert_allclose(first[:, 2:].std(0), counts[0, 2:].sqrt() / 2, rtol=0.15)


@pytest.mark.parametrize("n", [1, 2, 7, 15, 16, 40])
def test_each_electron_is_sent_by_a_fair_coin_of_its_own(n):
    counts = torch.full((200, 13, 17), float(n))
    first, second = thin_counts(counts, torch.Generator().manual_seed(n))
    assert torch.equal(first + second, counts)
    seen = np.bincount(first.flatten().int().numpy(), minlength=n + 1)
    want = binom.pmf(np.arange(n + 1), n, 0.5) * counts.numel()
    often = want > 5
    assert seen.shape == want.shape
    assert chisquare(seen[often], want[often] * seen[often].sum() / want[often].sum()).pvalue > 1e-3
    assert not seen[want < 1e-3].any()
    halves = (first - n / 2).flatten(1).numpy()
    assert abs(np.corrcoef(halves[:, :-1].ravel(), halves[:, 1:].ravel())[0, 1]) < 0.02


# ---- against scipy and scikit-image ----


@settings(max_examples=60, deadline=None)
@given(
    log_counts=st.floats(0, 16),
    deviation=st.floats(-6, 6),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@example(log_counts=13.8, deviation=0.5, dtype=torch.float32)
def test_the_likelihood_is_that_of_scipy(log_counts, deviation, dtype):
    n = np.array([0.0, np.rint(np.exp(log_counts))])
    expected = np.array([np.exp(log_counts), max(n[1] + deviation * np.sqrt(n[1]), 0.01)])
    expected = torch.tensor(expected, dtype=dtype).requires_grad_()
    counts = torch.tensor(n, dtype=dtype)
    got = poisson_deviance(expected, counts, 0.0)
    rates = expected.detach().double().numpy()
    # scipy's own logarithms of factorials cancel, and are rounded to 10^-16 of their size
    want = poisson.logpmf(n, np.where(n > 0, n, 1e-300)) - poisson.logpmf(n, rates)
    precision = 1e-5 if dtype == torch.float32 else 1e-11
    precision_of_scipy = 3e-15 * (n * np.log(n + 2) + 1)
    rounding = 3 * torch.finfo(dtype).eps * np.abs(rates - n)
    assert (np.abs(got.detach().numpy() - want) <= rounding + precision_of_scipy + precision * want).all()
    got.sum().backward()
    np.testing.assert_allclose(expected.grad.numpy(), 1 - n / rates, rtol=precision, atol=precision)


def test_the_likelihood_is_finite_where_nothing_is_expected():
    expected = torch.tensor([0.0, 0.0, 1e-30, 1e30]).requires_grad_()
    got = poisson_deviance(expected, torch.tensor([0.0, 1e7, 3.0, 0.0]))
    got.sum().backward()
    assert torch.isfinite(got).all()
    assert torch.isfinite(expected.grad).all()
    mu = expected[:2].detach().double().numpy() + 1e-4
    want = poisson.logpmf([0, 1e7], [1e-300, 1e7]) - poisson.logpmf([0, 1e7], mu)
    np.testing.assert_allclose(got[:2].detach().numpy(), want, rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    offset=st.sampled_from([0.0, -5.0, 1e3]),
    unit=st.sampled_from([1e-12, 1.0, 1e12]),
    noise=st.sampled_from([0.01, 0.3]),
    seed=st.integers(0, 99),
)
def test_psnr_and_ssim_are_those_of_scikit_image(offset, unit, noise, seed):
    rng = np.random.default_rng(seed)
    measured = ((rng.random((3, 32, 24)).cumsum(1) / 32 + offset) * unit).astype(np.float32)
    restored = (measured + noise * unit * rng.normal(size=measured.shape)).astype(np.float32)
    data_range = float(measured.max() - measured.min())
    got = image_quality(torch.from_numpy(restored), torch.from_numpy(measured), data_range)
    pair = [(a.astype("f8"), b.astype("f8")) for a, b in zip(measured, restored, strict=True)]
    psnr = peak_signal_noise_ratio(measured.astype("f8"), restored.astype("f8"), data_range=data_range)
    ssim = [
        structural_similarity(
            a, b, data_range=data_range, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for a, b in pair
    ]
    assert got["psnr_preprocessed"] == pytest.approx(psnr, abs=1e-4)
    assert got["ssim_preprocessed"] == pytest.approx(np.mean(ssim), abs=1e-4)


@pytest.mark.parametrize("offset", [0.0, 40.0])
def test_psnr_and_ssim_under_a_mask(offset):
    """Those of scikit-image where no window touches an excluded pixel; what is excluded counts for nothing."""
    rng = np.random.default_rng(0)
    measured = rng.random((3, 40, 32)).cumsum(1) / 40 + offset
    restored = measured + 0.1 * rng.normal(size=measured.shape)
    used = np.ones((40, 32), bool)
    used[:9, 20:] = False
    inner = np.zeros_like(used)
    inner[5:-5, 5:-5] = True
    inner[:14, 15:] = False
    tensors = (torch.from_numpy(a).float() for a in (restored, measured))
    got = image_quality(*tensors, 1.0, torch.from_numpy(used))
    psnr = peak_signal_noise_ratio(measured[:, used], restored[:, used], data_range=1.0)
    images = [
        structural_similarity(
            a, b, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
        )[1]
        for a, b in zip(measured, restored, strict=True)
    ]
    assert got["psnr_preprocessed"] == pytest.approx(psnr, abs=1e-4)
    assert got["ssim_preprocessed"] == pytest.approx(np.mean([i[inner] for i in images]), abs=1e-4)


# ---- there and back ----


class _Identity(Network):
    """Latents are the preprocessed pattern."""

    def encode(self, x):
        return x.flatten(1)

    def decode(self, z):
        return z.unflatten(1, self.shape)


def _identity_model(scan, **arguments):
    counts = measure_quality(scan).counts
    module = Autoencoder(
        TrainingConfig(latent_dim=1, **arguments).model_dump(), scan.pattern_shape, scan.signature()
    )
    h, w = module.preprocessing.shape
    module.config = module.config.model_copy(update={"latent_dim": h * w})
    module.network = _Identity((h, w), h * w)
    module.principal_components = PrincipalComponents(module.preprocessing, 0, 0)
    module.preprocessing.detector.set_mask(scan.pattern_mask)
    training, _ = split_positions(scan, 0.05, 0)
    module.preprocessing.fit(sample_values(scan, training, module.preprocessing.detector), counts=counts)
    return LatentModel(module, None)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(["u1", "<u2", ">u2", "i2", "u4", "i8", "u8", "f2", "f4", ">f4", "f8"]),
    bin=st.sampled_from([1, 2, 4]),
    crop=st.sampled_from([None, (4, 36, 8, 40)]),
    masked=st.booleans(),
    fraction=st.floats(0.05, 1),
    seed=st.integers(0, 999),
)
def test_reconstruct_inverts_preprocessing(kind, dtype, bin, crop, masked, fraction, seed):
    """With a network that passes on what it is given: to 1e-5 of the largest value, bins spread evenly."""
    rng, dtype = np.random.default_rng(seed), np.dtype(dtype)
    top = float(np.iinfo(dtype).max if dtype.kind in "iu" else min(np.finfo(dtype).max, 1e12))
    data = rng.beta(0.6, 3, (3, 4, 40, 44))
    data[:, :, 10, 10], data[0, 0, 12, 12] = 0, 1
    if dtype.kind == "i":
        data = 2 * data - 1
    data = (data * min(fraction * top, 2**62)).astype(dtype)
    mask = None
    if masked:
        mask = np.zeros((40, 44), bool)
        mask[20:23, 15] = True
    scan = as_scan(data, pattern_mask=mask)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # the same positions, so that no value is below what the statistics have seen
        model = _identity_model(scan, preprocessing=kind, reconstruction="mse", bin=bin, crop=crop)
        got = model.reconstruct(data)
    y0, y1, x0, x1 = crop or (0, 40, 0, 44)
    want = np.zeros(data.shape)
    region = data[..., y0:y1, x0:x1].astype("f8").reshape(3, 4, (y1 - y0) // bin, bin, (x1 - x0) // bin, bin)
    want[..., y0:y1, x0:x1] = np.broadcast_to(region.mean((3, 5), keepdims=True), region.shape).reshape(
        3, 4, y1 - y0, x1 - x0
    )
    if mask is not None:
        coarse = mask[y0:y1, x0:x1].reshape((y1 - y0) // bin, bin, (x1 - x0) // bin, bin).any((1, 3))
        want[..., y0:y1, x0:x1][..., np.kron(coarse, np.ones((bin, bin), bool))] = 0
    assert got.dtype == np.float32
    trained = want.reshape(12, 40, 44)[split_positions(scan, 0.05, 0)[0]]
    np.testing.assert_allclose(
        got.clip(trained.min()), want.clip(trained.min()), rtol=0, atol=1e-5 * np.abs(want).max()
    )


def test_the_inverse_of_the_logarithm_stays_finite():
    preprocessing = Preprocessing("log", Detector((8, 8)))
    preprocessing.scale.fill_(8.0)
    preprocessing.unit.fill_(1e8)
    assert torch.isfinite(preprocessing.inverse(torch.full((1, 8, 8), 100.0))).all()


def test_long_doubles_are_read():
    values = np.arange(6, dtype=np.longdouble).reshape(1, 2, 3)
    assert torch.equal(patterns_to_tensor(values), torch.arange(6.0, dtype=torch.float64).reshape(1, 2, 3))


def test_every_buffer_of_an_identity_is_finite(values):
    model = _identity_model(as_scan(values), preprocessing="zscore", reconstruction="mse")
    assert isinstance(model.autoencoder.network, nn.Module)
    assert all(torch.isfinite(value).all() for value in model.autoencoder.state_dict().values())
