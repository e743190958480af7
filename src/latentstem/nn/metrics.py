"""Image quality of preprocessed patterns: PSNR and SSIM."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

__all__ = ["image_quality"]

_WINDOW_RADIUS = 5  # of the Gaussian window of SSIM, in pixels
_SIGMA = 1.5  # of that window, in pixels
_PIXELS_PER_BATCH = 2**20


def image_quality(
    reconstructed: Tensor, recorded: Tensor, data_range: float, used: Tensor | None = None
) -> dict[str, float]:
    """PSNR and SSIM of reconstructed against recorded patterns.

    Both are measured after preprocessing. The recorded patterns contain noise, which counts as error, so a perfect
    denoiser does not reach the highest values.

    Parameters
    ----------
    reconstructed, recorded : Tensor, shape (n, h, w)
        Preprocessed patterns.
    data_range : float
        Difference of the largest and the smallest value of the training sample, preprocessed.
    used : Tensor, shape (h, w), bool, optional
        False for excluded pixels. PSNR leaves them out; SSIM is averaged over the pixels whose window touches
        neither them nor the edge, or if there is none, over all that are used.

    Returns
    -------
    dict
        ``psnr_preprocessed`` in dB and ``ssim_preprocessed``.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    if used is None:
        used = torch.ones(recorded.shape[1:], dtype=torch.bool, device=recorded.device)
    # double precision, because variances are computed as differences of squares
    used, reconstructed, recorded = used.cpu(), reconstructed.cpu().double(), recorded.cpu().double()
    psnr = peak_signal_noise_ratio(reconstructed[:, used], recorded[:, used], data_range=data_range)
    padded_excluded = nn.functional.pad((~used).float()[None], (_WINDOW_RADIUS,) * 4, value=1.0)
    inner = nn.functional.max_pool2d(padded_excluded, 2 * _WINDOW_RADIUS + 1, stride=1)[0] == 0
    total = 0.0
    for part in torch.arange(len(recorded)).split(max(1, _PIXELS_PER_BATCH // used.numel())):
        first, second = (torch.where(used, p[part], 0.0).numpy() for p in (reconstructed, recorded))
        ssim = _ssim(first, second, data_range)
        total += float(ssim[:, (inner if inner.any() else used).numpy()].mean(1).sum())
    return {"psnr_preprocessed": float(psnr), "ssim_preprocessed": total / len(recorded)}


def _ssim(first: np.ndarray, second: np.ndarray, data_range: float) -> np.ndarray:
    """SSIM at each pixel of patterns (n, h, w) in double precision (Wang et al., IEEE Trans. Image Process. 13, 600, 2004).

    The values are those of torchmetrics, whose two-dimensional convolution takes 121 times the memory of the patterns.
    """

    def mean(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, (0, _SIGMA, _SIGMA), mode="mirror", truncate=_WINDOW_RADIUS / _SIGMA)

    x, y = mean(first), mean(second)
    variances = np.maximum(mean(first**2) - x**2, 0) + np.maximum(mean(second**2) - y**2, 0)
    covariance = mean(first * second) - x * y
    low, high = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    return (2 * x * y + low) * (2 * covariance + high) / ((x**2 + y**2 + low) * (variances + high))
