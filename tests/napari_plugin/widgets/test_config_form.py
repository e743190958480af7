"""The form for the configuration of a run, and its loss curves."""

from __future__ import annotations

import numpy as np
import pytest

import latentstem
from napari_latentstem.widgets.config_form import ConfigForm
from napari_latentstem.widgets.loss_curves import LossCurves


@pytest.mark.parametrize("preset", ["default", "reference", "fast", "quality", "low-memory"])
def test_a_preset_fills_in_the_form(qtbot, preset):
    form = ConfigForm()
    qtbot.addWidget(form)
    form.set_preset(preset)
    assert form.config() == latentstem.TrainingConfig.from_arguments(preset)


def test_what_is_filled_in_is_the_config(qtbot):
    form = ConfigForm()
    qtbot.addWidget(form)
    for name, value in {
        "latent_dim": 5,
        "crop": (1, 20, 2, 30),
        "split_counts": False,
        "patience": 4,
    }.items():
        form.set_value(name, value)
    form.set_length("minutes at most", 3)
    config = form.config()
    assert (config.latent_dim, config.crop, config.split_counts, config.patience) == (
        5,
        (1, 20, 2, 30),
        False,
        4,
    )
    assert (config.epochs, config.max_patterns, config.max_time) == (None, None, "00:00:03:00")
    assert "latent_dim" not in form.config_for_fine_tuning().model_fields_set
    assert form.config_to_resume().model_fields_set == {"epochs", "max_patterns", "max_time", "device"}
    assert all(editor.toolTip() for editor in form._editors.values())


def test_auto_latents(qtbot):
    form = ConfigForm()
    qtbot.addWidget(form)
    box = form._editors["latent_dim"]
    form.set_value("latent_dim", "auto")
    assert box.text() == "auto"
    assert form.config().latent_dim == "auto"
    assert "latent_dim" not in form.config_for_fine_tuning().model_fields_set
    box.selectAll()
    qtbot.keyClicks(box, "12")
    assert form.config().latent_dim == 12
    box.selectAll()
    qtbot.keyClicks(box, "auto")
    assert form.config().latent_dim == "auto"
    box.stepUp()
    assert form.config().latent_dim == 1
    form.set_value("latent_dim", "auto")
    form.set_preset("default")
    assert form.config().latent_dim == 32


def test_curves_keep_the_first_losses_from_hiding_the_rest(qtbot):
    curves = LossCurves()
    qtbot.addWidget(curves)
    assert curves.limits() == (0, 1)
    curves.grab()
    curves.add_step(0, 5000, 1000.0)
    for step in range(1, 5000):
        curves.add_step(step, 5000, 1.0 + step / 5000)
    low, high = curves.limits()
    assert 0.8 < low < 1 < 2 < high < 2.2
    assert len(curves._steps) <= 600
    assert np.ptp(np.diff([step for step, _ in curves._steps])) == 0
    curves.set_history([1000, 2000], [1.5, 1.2], [1.6])
    assert curves.training == [(1000, 1.5), (2000, 1.2)]
    assert curves.validation == [(2000, 1.6)]
    curves.grab()
    curves.clear()
    assert curves.limits() == (0, 1)
