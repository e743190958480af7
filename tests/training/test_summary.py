"""The summary recognises trouble, in numbers, and says which argument to change."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import torch

from latentstem.config import TrainingConfig
from latentstem.training.summary import Summary, summarise

CONFIG = TrainingConfig.from_arguments("reference", latent_dim=6)
GOOD = {"train": [5.0, 2.0, 1.5, 1.4, 1.35, 1.3], "val": [5.1, 2.2, 1.8, 1.7, 1.65, 1.6]}


def summary(
    train=GOOD["train"], val=GOOD["val"], psnr=30.0, ssim=0.9, latents=None, config=CONFIG, **history
):
    history = {
        "train/loss": list(train),
        "val/loss": list(val),
        "final/psnr_preprocessed": [psnr],
        "final/ssim_preprocessed": [ssim],
        "patterns_seen": [100 * (i + 1) for i in range(len(train))],
        **history,
    }
    if latents is None:
        latents = np.random.default_rng(0).normal(size=(40, 6))
    return summarise(history, config, latents.astype(np.float32), ["a choice"])


def test_a_good_run():
    good = summary()
    assert good.advice == []
    assert all(good.verdicts.values())
    assert len(good.verdicts) == 4
    shown = str(good)
    for part in (
        "training loss, start",
        "1.3",
        "validation loss, best",
        "PSNR / dB",
        "30",
        "[ok] SSIM > 0.7",
        "no problems",
    ):
        assert part in shown
    assert good.figures["patterns seen"] == 600


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({"train": [1.0, 1.1, 1.2]}, "training loss falls"),
        ({"val": [1.0, 0.4, 0.9, 1.3]}, "validation loss follows"),
        ({"val": [1.0]}, "validation loss follows"),
        ({"psnr": 19.9}, "PSNR > 20 dB"),
        ({"ssim": 0.69}, "SSIM > 0.7"),
        ({"psnr": float("nan")}, "PSNR > 20 dB"),
    ],
)
def test_each_criterion_can_fail_alone(changed, verdict):
    verdicts = summary(**changed).verdicts
    assert [name for name, met in verdicts.items() if not met] == [verdict]
    assert f"[--] {verdict}" in str(summary(**changed))


COLLAPSED = np.ones((40, 6))
MOSTLY_DEAD = np.random.default_rng(0).normal(size=(40, 6)) * [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (
            {"psnr": 12.3},
            ("Poor reconstruction: PSNR 12.3 dB", "Raise latent_dim (it is 6)", "lambda_act", "train longer"),
        ),
        ({"ssim": 0.31}, ("SSIM 0.31", "Raise latent_dim")),
        ({"psnr": float("nan")}, ("Poor reconstruction",)),
        (
            {"latents": COLLAPSED},
            (
                "Mode collapse",
                "standard deviation 0",
                "Raise lambda_div (it is 0.0002; try 5e-4)",
                "lambda_sim",
            ),
        ),
        (
            {"latents": MOSTLY_DEAD},
            ("4 of 6 latents hardly vary", "smaller latent_dim", "lambda_act (it is 0.0001)"),
        ),
        (
            {"unstable_at_step": [77.0]},
            ("not finite at step 77", "last good checkpoint", "learning_rate (it is 0.001)"),
        ),
        ({"train": [1, 2, 1, 2, 1, 2, 1]}, ("Unstable", "rose by more than a fifth", "50 %", "try 0.0001")),
        (
            {"val": [5.0, 2.0, 1.0, 1.6, 2.2, 2.9]},
            ("Overfitting", "from 1 to 2.9", "patience", "split_counts=True"),
        ),
    ],
)
def test_each_symptom_has_its_number_and_its_remedy(trouble, said):
    (advice,) = summary(**trouble).advice
    for part in said:
        assert part in advice
    assert f"advice: {advice}" in str(summary(**trouble))


def test_split_counts_are_not_advised_where_they_are_used():
    config = TrainingConfig.from_arguments("default", split_counts=True, latent_dim=6)
    (advice,) = summary(val=[5.0, 2.0, 1.0, 1.6, 2.2, 2.9], config=config).advice
    assert advice.endswith("Train for a shorter time or set patience.")


def test_low_values_on_split_counts_are_not_called_poor():
    config = TrainingConfig.from_arguments("default", split_counts=True, latent_dim=6)
    (advice,) = summary(psnr=15, config=config).advice
    assert "against noisy patterns" in advice
    assert "Poor" not in advice


def test_one_held_out_pattern_is_no_collapse():
    assert summary(latents=np.ones((1, 6))).advice == []


def test_a_run_without_an_epoch_can_be_summarised():
    empty = summarise({}, CONFIG, np.zeros((0, 6)), [])
    assert not any(empty.verdicts.values())


def test_it_travels_in_a_checkpoint():
    stored = io.BytesIO()
    original = summary(psnr=np.float64(12).item())
    torch.save(original.as_dict(), stored)
    stored.seek(0)
    assert Summary(**torch.load(stored, weights_only=True)) == original
    assert {f.name for f in dataclasses.fields(Summary)} == set(original.as_dict())
