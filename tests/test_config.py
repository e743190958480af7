"""The training configuration: what it takes, what it refuses, and how it says so."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentstem.config import PRESETS, TrainingConfig
from latentstem.errors import ArgumentError


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid_and_differ_only_where_they_say(preset):
    config = TrainingConfig.from_arguments(preset)
    changed = {name for name, value in TrainingConfig() if getattr(config, name) != value}
    assert changed <= set(PRESETS[preset])
    assert json.loads(config.model_dump_json()) is not None


def test_reference_is_the_guides_network_objective_and_defaults():
    config = TrainingConfig.from_arguments("reference")
    assert (config.network, config.reconstruction, config.preprocessing) == ("resnet", "mse", "minmax")
    assert (config.lambda_act, config.lambda_sim, config.lambda_div) == (1e-4, 5e-5, 2e-4)
    assert (config.learning_rate, config.batch_size, config.latent_dim) == (1e-3, 2048, 32)
    assert (config.context, config.split_counts) == (0, False)


def test_arguments_win_over_the_preset():
    assert TrainingConfig.from_arguments("low-memory", batch_size=7).batch_size == 7


@given(
    st.builds(
        TrainingConfig,
        latent_dim=st.integers(1, 1024),
        crop=st.none() | st.just([1, 20, 0, 9]),
        max_time=st.none() | st.timedeltas(timedelta(seconds=1), timedelta(days=150)),
        split_counts=st.sampled_from(["auto", True, False]),
        learning_rate=st.floats(1e-8, 10),
        epochs=st.none() | st.integers(1, 10**6),
    )
)
def test_json_round_trip(config):
    assert TrainingConfig(**json.loads(config.model_dump_json())) == config


def test_numpy_scalars_become_plain_values():
    config = TrainingConfig(latent_dim=np.int64(5), lambda_act=np.float64(0.5))
    assert type(config.latent_dim) is int
    assert type(config.lambda_act) is float


def test_frozen():
    with pytest.raises(ValueError, match="frozen"):
        TrainingConfig().latent_dim = 3


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("00:00:02:00", "00:00:02:00"),
        ("0:26:0:75", "01:02:01:15"),
        ({"minutes": 2}, "00:00:02:00"),
        (timedelta(days=1, seconds=3.7), "01:00:00:03"),
        (None, None),
    ],
)
def test_max_time_takes_what_lightning_takes(given, stored):
    from pytorch_lightning.callbacks import Timer

    config = TrainingConfig(max_time=given)
    assert config.max_time == stored
    if stored is not None:
        assert Timer(config.max_time).time_remaining() > 0


OUT_OF_RANGE = [
    ("latent_dim", 0, "a whole number from 1 to 1024, or 'auto'"),
    ("latent_dim", 2000, "a whole number from 1 to 1024, or 'auto'"),
    ("latent_dim", 3.5, "a whole number from 1 to 1024, or 'auto'"),
    ("latent_dim", "many", "a whole number from 1 to 1024, or 'auto'"),
    ("latent_dim", True, "a whole number from 1 to 1024, or 'auto'"),
    ("latent_dim", None, "a whole number"),
    ("epochs", 0, "a value >= 1"),
    ("batch_size", -4, "a value >= 1"),
    ("lambda_act", -1e-4, "a value >= 0"),
    ("lambda_act", float("nan"), "a finite number"),
    ("lambda_sim", float("inf"), "a finite number"),
    ("lambda_div", "strong", "a number"),
    ("learning_rate", 0, "a value > 0"),
    ("learning_rate", 11, "a value <= 10"),
    ("validation_fraction", 0.95, r"a value < 0\.9"),
    ("validation_fraction", 0, "a value > 0"),
    ("seed", -1, "a value >= 0"),
    ("workers", -1, "a value >= 0"),
    ("context", 9, "a value <= 3"),
    ("network", "unet", "'compact' or 'resnet'"),
    ("preprocessing", "sqr", "'sqrt'"),
    ("reconstruction", "l2", "'poisson'"),
    ("device", "tpu", "'cuda'"),
    ("precision", 16, "'bf16-mixed'"),
    ("schedule", "step", "'cosine'"),
    ("split_counts", "yes", "True, False or 'auto'"),
    ("realtime_metrics", "maybe", "True or False"),
    ("crop", (1, 2, 3), "row start, row stop, column start, column stop"),
    ("crop", (5, 2, 0, 3), "each stop greater than its start"),
    ("crop", (-1, 9, 0, 9), "row start"),
    ("crop", "all", "row start"),
    ("max_time", 60, "'DD:HH:MM:SS'"),
    ("max_time", "2m", "'DD:HH:MM:SS'"),
    ("max_time", {"fortnights": 1}, r"\{'minutes': 2\}"),
    ("max_time", "00:00:00:00", "at least one second"),
]


@pytest.mark.parametrize(("name", "value", "expected"), OUT_OF_RANGE)
def test_bad_values_are_refused_in_plain_words(name, value, expected):
    with pytest.raises(ArgumentError, match=rf"bad value for {name}: expected .*{expected}") as caught:
        TrainingConfig.from_arguments(**{name: value})
    assert f"received {value!r}. See {name} in the parameters" in str(caught.value)
    assert str(caught.value).count("expected") == 1
    for jargon in ("Input should", "pydantic", "unable to", "Field required", "{", "Value error"):
        assert jargon not in caught.value.expected.replace("{'minutes': 2}", "")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("latnt_dim", "latent_dim"), ("lamda_act", "lambda_act"), ("batchsize", "batch_size")],
)
def test_a_misspelt_argument_is_told_the_right_one(wrong, right):
    with pytest.raises(ArgumentError, match=rf"received '{wrong}'\. Did you mean '{right}'\?"):
        TrainingConfig.from_arguments(**{wrong: 1})


def test_an_unknown_argument_is_told_all():
    with pytest.raises(ArgumentError, match=r"expected one of network, latent_dim.*See the parameters"):
        TrainingConfig.from_arguments(zzz=1)


def test_an_unknown_preset_is_told_the_nearest():
    with pytest.raises(ArgumentError, match=r"one of default, .*received 'qualty'\. Did you mean 'quality'"):
        TrainingConfig.from_arguments("qualty")


def test_contradiction_is_named():
    with pytest.raises(ArgumentError, match=r"split_counts and reconstruction contradict.*'mse'"):
        TrainingConfig.from_arguments(split_counts=True, reconstruction="mse")
