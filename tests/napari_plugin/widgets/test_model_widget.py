"""The dock for models: to files and back, on to other scans, trained on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import latentstem
from helpers import Payload
from latentstem.io.checkpoint import read_checkpoint
from napari_latentstem.layers.scan_layers import layer_of
from napari_latentstem.widgets.model_widget import ModelWidget

WAIT = 60_000  # ms


@pytest.fixture(scope="module")
def model():
    return trained((16, 16), (32, 32))


def trained(scan_shape, pattern_shape):
    data = latentstem.simulate(scan_shape, pattern_shape, dose=400, n_grains=3).counts
    quick = {"latent_dim": 3, "epochs": 2, "batch_size": 32, "progress": False}
    return latentstem.train_autoencoder(data, **quick)


@pytest.fixture
def widget(viewer, session, qtbot):
    widget = ModelWidget(viewer)
    qtbot.addWidget(widget)
    yield widget
    widget.close()


def ended(widget, qtbot):
    qtbot.waitUntil(lambda: widget.job.session is None, timeout=WAIT)


def test_a_model_is_saved_and_loaded_again(widget, session, model, viewer, qtbot, tmp_path):
    assert "This scan has no model yet" in widget.about.text()
    assert not widget.save.isEnabled()
    session.model = model
    assert widget.save.isEnabled()
    assert "<b>3 latents</b> of patterns of 32 × 32 pixels" in widget.about.text()
    widget.save_model(str(tmp_path / "model 0.5 nm"))
    qtbot.waitUntil(lambda: "Written" in widget.state.text(), timeout=WAIT)
    session.model = None
    widget.load_model(str(tmp_path / "model 0.5 nm.ckpt"))
    assert session.busy == "embedding"
    ended(widget, qtbot)
    assert session.busy == ""
    np.testing.assert_array_equal(session.embedding.maps, model.embed(session.scan).maps)
    layer = layer_of(viewer, session, "latents")
    assert (layer.data.shape, tuple(layer.scale)) == ((3, 16, 16), (1, 2, 2))
    assert widget.state.text() == "Done."


def test_a_file_that_is_no_model_is_refused(widget, session, tmp_path, qtbot):
    (tmp_path / "notes.ckpt").write_text("no model")
    widget.load_model(str(tmp_path / "notes.ckpt"))
    ended(widget, qtbot)
    assert "the checkpoint cannot be read: expected tensors and plain values only" in widget.message.text()
    assert session.model is None
    assert session.busy == ""
    assert widget.load.isEnabled()


@pytest.mark.parametrize("forced", ["", "1"])
def test_a_hostile_file_does_nothing(widget, session, model, tmp_path, qtbot, monkeypatch, forced):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", forced)
    path = model.save(tmp_path / "evil.ckpt")
    torch.save({**read_checkpoint(path), "evil": Payload(tmp_path / "executed")}, path)
    widget.load_model(str(path))
    ended(widget, qtbot)
    assert "the checkpoint cannot be read" in widget.message.text()
    assert session.model is None
    assert not (tmp_path / "executed").exists()


def test_a_model_is_applied_to_another_scan(widget, session, model, viewer, open_in, qtbot):
    data = latentstem.simulate((9, 6), (32, 32), dose=400, n_grains=2, seed=1).counts
    other = open_in(viewer, data, name="other")
    session.model = model
    viewer.layers.selection.active = layer_of(viewer, session, "sum")
    assert [widget.target.itemText(n) for n in range(widget.target.count())] == ["other"]
    widget.apply.click()
    ended(widget, qtbot)
    assert other.model is model
    np.testing.assert_array_equal(other.embedding.maps, model.embed(data).maps)
    assert session.embedding is None
    assert layer_of(viewer, other, "latents").data.shape == (3, 9, 6)


def test_a_model_for_other_patterns_is_refused(widget, session, model, viewer, open_in, counts, qtbot):
    other = open_in(viewer, counts, name="other")
    session.model = model
    viewer.layers.selection.active = layer_of(viewer, session, "sum")
    widget.apply.click()
    ended(widget, qtbot)
    assert "expected 32 x 32 pixels, as in the training scan" in widget.message.text()
    assert "received 32 x 24 pixels in" in widget.message.text()
    assert "Crop or bin the detector to that shape, or train on this scan." in widget.message.text()
    assert other.model is other.embedding is None
    assert widget.apply.isEnabled()


def test_fine_tuning_trains_the_model_on(widget, session, model, qtbot):
    session.model = model
    widget.epochs.setValue(3)
    widget.fine_tune_button.click()
    assert session.busy == "training"
    assert not widget.fine_tune_button.isEnabled()
    ended(widget, qtbot)
    tuned = session.model
    assert tuned is not model
    assert tuned.history["epoch"] == [0, 1, 2]
    assert tuned.config.learning_rate == 1e-4
    assert tuned.config.latent_dim == 3
    np.testing.assert_array_equal(session.embedding.maps, tuned.embed(session.scan).maps)


def test_fine_tuning_can_be_stopped(widget, session, model, qtbot):
    session.model = model
    widget.epochs.setValue(100_000)
    widget.fine_tune_button.click()
    qtbot.waitUntil(lambda: widget.progress.value() > 0, timeout=WAIT)
    widget.stop_button.click()
    ended(widget, qtbot)
    assert session.model is not model
    assert session.embedding is not None


def test_a_bad_learning_rate_is_named(widget, session, model):
    session.model = model
    widget.learning_rate.setText("small")
    widget.fine_tune_button.click()
    assert "bad value for learning_rate: expected a number; received 'small'" in widget.message.text()
    assert session.model is model
    assert session.busy == ""


def test_what_is_busy_is_left_alone(widget, session, model):
    session.model = model
    session.busy = "training"
    for button in (widget.fine_tune_button, widget.load, widget.apply):
        assert not button.isEnabled()
    assert widget.save.isEnabled()
    session.busy = ""
    assert widget.fine_tune_button.isEnabled()


def test_closing_gives_up(widget, session, model, viewer, qtbot):
    session.model = model
    widget.epochs.setValue(100_000)
    widget.fine_tune_button.click()
    qtbot.waitUntil(lambda: widget.progress.value() > 0, timeout=WAIT)
    widget.close()
    assert session.busy == ""
    assert session.model is model
