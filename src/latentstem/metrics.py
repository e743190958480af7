"""Image quality in the preprocessed space, by torchmetrics."""

from __future__ import annotations

from torch import Tensor

__all__ = ["image_quality"]


def image_quality(reconstructed: Tensor, measured: Tensor, data_range: float) -> dict[str, float]:
    """PSNR and SSIM of reconstructed against measured patterns.

    Both are measured in the preprocessed space, against the patterns as recorded: noise counts as error, so a perfect
    denoiser does not reach the highest values.

    Parameters
    ----------
    reconstructed, measured : Tensor, shape (n, h, w)
        Patterns in the preprocessed space.
    data_range : float
        Difference of the largest and the smallest value of the training sample in that space.

    Returns
    -------
    dict
        ``psnr_preprocessed`` in dB and ``ssim_preprocessed``.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    psnr = peak_signal_noise_ratio(reconstructed, measured, data_range=data_range)
    ssim = structural_similarity_index_measure(
        reconstructed[:, None], measured[:, None], data_range=data_range
    )
    return {"psnr_preprocessed": float(psnr), "ssim_preprocessed": float(ssim)}
