"""PSNR and SSIM are scikit-image's, on the pixels that count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from latentstem.nn.metrics import image_quality


def pair(shape=(3, 32, 24), noise=0.1):
    rng = np.random.default_rng(0)
    measured = rng.random(shape).cumsum(1) / shape[1]
    return measured + noise * rng.normal(size=shape), measured


def quality(reconstructed, measured, data_range, used=None):
    values = image_quality(
        torch.from_numpy(reconstructed).float(),
        torch.from_numpy(measured).float(),
        data_range,
        None if used is None else torch.from_numpy(used),
    )
    return values["psnr_preprocessed"], values["ssim_preprocessed"]


@pytest.mark.parametrize("data_range", [0.8, 3.0])
def test_equal_to_scikit_image(data_range):
    reconstructed, measured = pair()
    psnr, ssim = quality(reconstructed, measured, data_range)
    assert psnr == pytest.approx(
        peak_signal_noise_ratio(measured, reconstructed, data_range=data_range), abs=1e-4
    )
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    want = [
        structural_similarity(a, b, data_range=data_range, **settings)
        for a, b in zip(measured, reconstructed, strict=True)
    ]
    assert ssim == pytest.approx(np.mean(want), abs=1e-4)


def test_equal_patterns_are_perfect():
    _, measured = pair()
    psnr, ssim = quality(measured, measured, 1.0)
    assert psnr == float("inf")
    assert ssim == pytest.approx(1)


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 10, 9), (2, 8, 40)])
def test_small_patterns_have_values(shape):
    psnr, ssim = quality(*pair(shape), 1.0)
    assert np.isfinite(psnr)
    assert 0 < ssim < 1


def test_excluded_pixels_count_for_nothing():
    reconstructed, measured = pair()
    used = np.ones((32, 24), bool)
    used[:16] = False
    want = quality(reconstructed, measured, 1.0, used)
    for array in (reconstructed, measured):
        array[:, ~used] = np.nan if array is measured else 1e9
    assert quality(reconstructed, measured, 1.0, used) == want
    mse = np.mean((reconstructed - measured)[:, used] ** 2)
    assert want[0] == pytest.approx(10 * np.log10(1 / mse), abs=1e-3)  # not flattered by the empty half


def test_a_beam_stop_does_not_flatter_ssim():
    reconstructed, measured = pair((3, 48, 40), noise=0.5)
    used = np.ones((48, 40), bool)
    used[:28, 15:25] = False
    with_stop, without = (quality(reconstructed, measured, 1.0, mask)[1] for mask in (used, used | True))
    assert with_stop == pytest.approx(without, abs=0.02)
