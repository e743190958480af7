"""Judgement of a finished run: whether it has diverged, and its summary of figures, success criteria and advice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..config import TrainingConfig
from ..errors import TrainingError
from ..nn.autoencoder import Autoencoder
from ..nn.batches import PatternBatch
from ..scan.quality import Quality

__all__ = ["Summary", "check_not_diverged", "summarise"]

MIN_PSNR = 20.0  # dB
MIN_SSIM = 0.7
_MAX_RELATIVE_MEAN_ERROR = 10.0  # error of the mean, relative to the scale of the data, of a diverged run
_RANGE_FRACTION = 0.01  # of the data's range added to its scale, for data with rare large values


@dataclass(frozen=True)
class Summary:
    """Figures of a run, which success criteria it meets, and what to change.

    Parameters
    ----------
    figures : dict
        Losses at the start and the end, PSNR, SSIM, patterns seen.
    verdicts : dict of str to bool
        Whether each success criterion is met, by its name.
    advice : list of str
        One text per symptom: the symptom, its value, and the argument to change.
    choices : list of str
        What ``auto`` chose.
    """

    figures: dict[str, float]
    verdicts: dict[str, bool]
    advice: list[str]
    choices: list[str]

    def __str__(self) -> str:
        lines = ["Training summary"]
        lines += [f"  {name:<34} {value:.5g}" for name, value in self.figures.items()]
        lines += [f"  [{'ok' if met else '--'}] {name}" for name, met in self.verdicts.items()]
        lines += [f"  advice: {text}" for text in self.advice] or ["  no problems found"]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {name: getattr(self, name) for name in ("figures", "verdicts", "advice", "choices")}


@torch.no_grad()
def check_not_diverged(
    autoencoder: Autoencoder, batch: PatternBatch, quality: Quality, config: TrainingConfig
) -> None:
    """Raise a TrainingError if training has diverged: the mean of the reconstructions is far from that of the data."""
    values = autoencoder.values(batch.patterns).double()
    mean = float(values.mean())
    reconstructed_mean = float(autoencoder.decode(autoencoder.encode_batch(batch)).double().mean())
    scale = abs(mean) + float(values.std()) + _RANGE_FRACTION * (quality.maximum - quality.minimum)
    if not abs(reconstructed_mean - mean) <= _MAX_RELATIVE_MEAN_ERROR * scale:
        raise TrainingError(
            "training has diverged",
            expected=f"held-out reconstructions whose mean is near that of the data, {mean:.3g}",
            received=f"a mean of {reconstructed_mean:.3g}",
            advice=f"Lower learning_rate (it is {config.learning_rate:g}; try a tenth) or weight_decay (it is "
            f"{config.weight_decay:g}).",
        )


def summarise(
    history: dict[str, list[float]], config: TrainingConfig, latents: np.ndarray, choices: list[str]
) -> Summary:
    """Judge a run by its history and by the latents (n, k) of held-out patterns; `choices` are what ``auto`` chose."""
    train, val = history.get("train/loss", []), history.get("val/loss", [])
    psnr, ssim = (history.get(f"final/{name}_preprocessed", [float("nan")])[-1] for name in ("psnr", "ssim"))
    figures = {"patterns seen": history.get("patterns_seen", [0])[-1]}
    if train:
        figures |= {"training loss, start": train[0], "training loss, end": train[-1]}
    if val:
        figures |= {"validation loss, start": val[0], "validation loss, best": min(val)}
    figures |= {"PSNR / dB (preprocessed, noisy)": psnr, "SSIM (preprocessed, noisy)": ssim}
    training_loss_falls = len(train) > 1 and train[-1] < train[0]
    # the minimum of a noisy curve may be early, so "follows" means that the loss ends near the minimum
    loss_range = max(val) - min(val) if val else 0.0
    validation_follows = len(val) > 1 and val[-1] < val[0] and val[-1] <= min(val) + 0.1 * loss_range
    verdicts = {
        "training loss falls": training_loss_falls,
        "validation loss follows": validation_follows,
        f"PSNR > {MIN_PSNR:g} dB": psnr > MIN_PSNR,
        f"SSIM > {MIN_SSIM:g}": ssim > MIN_SSIM,
    }
    return Summary(figures, verdicts, _advice(history, config, latents, psnr, ssim), choices)


def _advice(
    history: dict[str, list[float]], config: TrainingConfig, latents: np.ndarray, psnr: float, ssim: float
) -> list[str]:
    """One text for each symptom of the run, with its value and its remedy."""
    train, val = history.get("train/loss", []), history.get("val/loss", [])
    advice = []
    if "unstable_at_step" in history:
        advice.append(
            f"Unstable: the loss was not finite at step {history['unstable_at_step'][0]:.0f}; the last good "
            f"checkpoint is used. Lower learning_rate (it is {config.learning_rate:g}) or batch_size (it is "
            f"{config.batch_size})."
        )
    elif len(train) > 4 and (rise_fraction := np.mean(np.diff(train) > 0.2 * abs(train[0]))) > 0.2:
        advice.append(
            f"Unstable: the training loss rose by more than a fifth of its first value in {100 * rise_fraction:.0f} % "
            f"of the epochs. Lower learning_rate (it is {config.learning_rate:g}; try {config.learning_rate / 10:g})."
        )
    # a single pattern has no standard deviation
    latent_std = latents.std(0) if len(latents) > 1 else np.ones(latents.shape[1])
    n_constant = int((latent_std < 0.01 * max(latent_std.max(), 1e-12)).sum())
    if latent_std.max() < 1e-6:
        advice.append(
            f"Mode collapse: all latents are nearly constant (largest standard deviation {latent_std.max():.2g}). Raise "
            f"lambda_div (it is {config.lambda_div:g}; try 5e-4), raise lambda_sim (it is {config.lambda_sim:g}), "
            "or use another seed."
        )
    elif n_constant > 0.5 * latents.shape[1]:
        advice.append(
            f"{n_constant} of {latents.shape[1]} latents hardly vary. Use a smaller latent_dim, lower lambda_act "
            f"(it is {config.lambda_act:g}), or raise lambda_div (it is {config.lambda_div:g})."
        )
    ends_above_minimum = len(val) > 2 and int(np.argmin(val)) < len(val) - 1
    if ends_above_minimum and val[-1] > min(val) + 0.1 * (val[0] - min(val)):
        remedy = "." if config.split_counts else ", or use split_counts=True on counts."
        advice.append(
            f"Overfitting: the validation loss rose from {min(val):.5g} to {val[-1]:.5g} while training went on; "
            f"the best checkpoint is used. Train for a shorter time or set patience{remedy}"
        )
    is_good = psnr > MIN_PSNR and ssim > MIN_SSIM
    if not is_good and not config.split_counts:
        advice.append(
            f"Poor reconstruction: PSNR {psnr:.1f} dB, SSIM {ssim:.2f}. Raise latent_dim (it is "
            f"{config.latent_dim}), lower lambda_act (it is {config.lambda_act:g}), lower learning_rate (it is "
            f"{config.learning_rate:g}), or train longer."
        )
    elif not is_good:
        advice.append(
            f"PSNR {psnr:.1f} dB and SSIM {ssim:.2f} are measured against noisy patterns; at low dose no denoiser "
            f"reaches {MIN_PSNR:g} dB and {MIN_SSIM:g}. Use the validation loss instead, which is measured on held-out "
            "electrons."
        )
    return advice
