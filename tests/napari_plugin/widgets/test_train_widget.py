"""The dock that trains: what is filled in is what is run, and whatever happens it can be used again."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import numpy as np
import pytest
from qtpy.QtWidgets import QScrollArea

import latentstem
from latentstem.training.training_module import TrainingModule
from napari_latentstem.layers.scan_layers import layer_of
from napari_latentstem.layers.sessions import sessions_of
from napari_latentstem.widgets.train_widget import TrainWidget

WAIT = 60_000  # ms


@pytest.fixture
def widget(viewer, session, qtbot):
    widget = docked(viewer, qtbot)
    yield widget
    widget.close()


def docked(viewer, qtbot=None):
    widget = TrainWidget(viewer)
    if qtbot is not None:
        qtbot.addWidget(widget)
    widget.form.set_value("latent_dim", 3)
    widget.form.set_value("batch_size", 32)
    widget.form.set_length("epochs", 2)
    widget.baselines.setChecked(False)
    return widget


def train(widget, qtbot, **how):
    widget.start(**how)
    qtbot.waitUntil(lambda: widget.job.session is None, timeout=WAIT)


def in_mid_run(widget, qtbot):
    widget.form.set_length("epochs", 100_000)
    widget.start()
    qtbot.waitUntil(lambda: widget.live_latents.session is not None, timeout=WAIT)


def no_thread():
    return not [thread for thread in threading.enumerate() if thread.name == "latentstem-training"]


# ---- a run ----


def test_training_gives_a_model_and_calibrated_latent_maps(widget, session, viewer, qtbot):
    train(widget, qtbot)
    assert widget.state.text() == "Done."
    assert session.model.config.latent_dim == 3
    assert session.model.history["epoch"] == [0, 1]
    np.testing.assert_array_equal(session.embedding.maps, session.model.embed(session.scan).maps)
    layer = layer_of(viewer, session, "latents")
    assert layer.data.shape == (3, 16, 16)
    assert tuple(layer.scale) == (1, 2, 2)
    assert [str(unit) for unit in layer.units[1:]] == ["nanometer"] * 2
    np.testing.assert_array_equal(layer.data, np.moveaxis(session.embedding.maps, -1, 0))
    assert session.busy == ""
    assert "validation loss, best" in widget.summary.text()


def test_progress_curves_and_forming_maps_are_live(widget, session, viewer, qtbot):
    in_mid_run(widget, qtbot)
    assert session.busy == "training"
    layer = layer_of(viewer, session, "latents")
    assert layer.data.shape == (3, 16, 16)
    assert tuple(layer.scale) == (1, 2, 2)
    before = layer.data.copy()
    qtbot.waitUntil(lambda: not np.array_equal(layer.data, before), timeout=WAIT)
    assert "left" in widget.state.text()
    assert widget.progress.maximum() == 1_500_000
    assert 0 < widget.progress.value() < 1_500_000
    qtbot.waitUntil(lambda: len(widget.loss_curves.validation) > 2, timeout=WAIT)
    assert len(widget.loss_curves.training) > 2
    assert widget.loss_curves._steps
    assert viewer.layers.selection.active is not layer
    np.testing.assert_allclose(np.diff([step for step, _ in widget.loss_curves.validation]), 15, rtol=0.2)
    viewer.layers.remove(layer)
    count = len(widget.loss_curves.validation)
    qtbot.waitUntil(lambda: len(widget.loss_curves.validation) > count, timeout=WAIT)
    assert layer_of(viewer, session, "latents") is None  # not forced on the user again


def test_in_a_small_window_the_curves_come_into_view(session, viewer, qtbot):
    widget, area = docked(viewer, qtbot), QScrollArea()
    qtbot.addWidget(area)
    area.setWidget(widget)
    area.setWidgetResizable(True)
    area.resize(360, 300)
    area.show()
    assert area.verticalScrollBar().value() == 0
    widget.start()
    top = widget.loss_curves.mapTo(area.viewport(), widget.loss_curves.rect().topLeft()).y()
    assert 0 <= top <= 300 - widget.loss_curves.minimumHeight()
    widget.close()


def test_stop_keeps_the_model_so_far_and_continue_trains_it_on(widget, session, qtbot):
    in_mid_run(widget, qtbot)
    assert not widget.train.isEnabled()
    assert not widget.form.isEnabled()
    widget.stop_button.click()
    qtbot.waitUntil(lambda: widget.job.session is None, timeout=WAIT)
    assert widget.state.text() == "Stopped: this is the best model so far."
    assert session.embedding.maps.shape == (16, 16, 3)
    before = session.model
    assert widget.train.isEnabled()
    assert not widget.stop_button.isEnabled()
    widget.form.set_value("latent_dim", 7)  # which the weights fix
    widget.form.set_length("epochs", 1)
    train(widget, qtbot, continued=True)
    assert session.model is not before
    assert session.model.config.latent_dim == 3
    assert session.model.history["epoch"] == [0]


def test_a_stopped_run_with_a_folder_goes_on_exactly(widget, session, qtbot, tmp_path):
    widget.folder.setText(str(tmp_path / "run"))
    in_mid_run(widget, qtbot)
    widget.stop_button.click()
    qtbot.waitUntil(lambda: widget.job.session is None, timeout=WAIT)
    before = session.model.history
    done = len(before["epoch"])
    widget.form.set_length("epochs", done + 1)
    train(widget, qtbot, continued=True)
    assert widget.message.text() == ""
    history = session.model.history
    assert history["patterns_seen"][:done] == before["patterns_seen"]
    assert history["patterns_seen"][-1] == (done + 1) * 15 * 16


def test_the_verdict_against_pca_is_shown(widget, session, qtbot):
    widget.baselines.setChecked(True)
    train(widget, qtbot)
    assert "best baseline" in session.model.evidence["verdict"]
    assert session.model.evidence["verdict"].split(" (")[0] in widget.summary.text()


# ---- what goes wrong ----


def test_an_error_says_what_to_do_and_the_next_run_is_clean(widget, session, qtbot, monkeypatch):
    original = TrainingModule.training_step

    def training_step(self, batch, index):
        raise latentstem.errors.TrainingError(
            "no luck", expected="luck", received="none", advice="Try again."
        )

    monkeypatch.setattr(TrainingModule, "training_step", training_step)
    train(widget, qtbot)
    assert "no luck: expected luck; received none. Try again." in widget.message.text()
    assert session.model is None
    assert session.busy == ""
    assert "no luck" in session.message
    monkeypatch.setattr(TrainingModule, "training_step", original)
    train(widget, qtbot)
    assert widget.message.text() == ""
    assert widget.state.text() == "Done."
    assert session.model is not None


def test_a_value_that_cannot_be_used_is_named(widget, session):
    widget.form.set_value("learning_rate", "fast")
    widget.train.click()
    assert "bad value for learning_rate: expected a number; received 'fast'" in widget.message.text()
    assert widget.job.session is None
    assert widget.train.isEnabled()


def test_without_a_scan_nothing_can_be_started(viewer, qtbot):
    widget = docked(viewer, qtbot)
    assert not widget.train.isEnabled()
    widget.start()
    assert widget.job.session is None


# ---- how it ends ----


def test_closing_the_widget_stops_training_and_frees_memory(widget, session, viewer, qtbot):
    made = set()
    original = TrainingModule.training_step

    def training_step(self, batch, index):
        made.add(weakref.ref(self))
        return original(self, batch, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", training_step)
        in_mid_run(widget, qtbot)
    assert made
    widget.close()
    qtbot.waitUntil(no_thread, timeout=WAIT)
    assert session.busy == ""
    assert session.model is None
    assert layer_of(viewer, session, "latents") is None
    qtbot.wait(50)
    gc.collect()
    assert [ref() for ref in made] == [None]


def test_taking_the_dock_away_stops_training(session, viewer, qtbot):
    widget = docked(viewer, qtbot)
    dock = viewer.window.add_dock_widget(widget)
    in_mid_run(widget, qtbot)
    viewer.window.remove_dock_widget(dock)
    qtbot.waitUntil(no_thread, timeout=WAIT)
    assert session.busy == ""


def test_closing_the_viewer_stops_training(session, viewer, qtbot):
    widget = docked(viewer)  # goes with the viewer
    viewer.window.add_dock_widget(widget)
    in_mid_run(widget, qtbot)
    viewer.close()
    deadline = time.monotonic() + 30
    while not no_thread() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert no_thread()


def test_after_a_failure_the_latents_are_those_of_the_model_before(
    widget, session, viewer, qtbot, monkeypatch
):
    train(widget, qtbot)
    model, maps = session.model, session.embedding.maps
    original = TrainingModule.training_step

    def training_step(self, batch, index):
        if self.current_epoch == 2:
            raise ZeroDivisionError
        return original(self, batch, index)

    monkeypatch.setattr(TrainingModule, "training_step", training_step)
    widget.form.set_value("latent_dim", 5)
    in_mid_run(widget, qtbot)
    layer = layer_of(viewer, session, "latents")
    assert len(layer.data) == 5
    qtbot.waitUntil(lambda: widget.job.session is None, timeout=WAIT)
    assert session.model is model
    assert "ZeroDivisionError" in widget.message.text()
    np.testing.assert_array_equal(layer.data, np.moveaxis(maps, -1, 0))


def test_removing_the_scan_stops_training(widget, session, viewer, qtbot):
    in_mid_run(widget, qtbot)
    viewer.layers.clear()
    qtbot.waitUntil(no_thread, timeout=WAIT)
    qtbot.waitUntil(lambda: widget.job.session is None, timeout=WAIT)
    assert list(viewer.layers) == []


def test_the_number_of_latents_can_be_found(widget, session, viewer, qtbot, monkeypatch):
    monkeypatch.setattr("latentstem.training.run._TRIAL_STEPS", 4)
    widget.form.set_value("latent_dim", "auto")
    widget.start()
    assert widget.state.text() == "Preparing: searching for the number of latents …"
    qtbot.waitUntil(lambda: widget.job.session is None, timeout=WAIT)
    found = session.model.config.latent_dim
    assert layer_of(viewer, session, "latents").data.shape == (found, 16, 16)
    assert f"latent_dim={found}" in widget.summary.text()


def test_what_is_left_of_a_run_does_not_reach_the_next_scan(widget, session, viewer, open_in, counts, qtbot):
    in_mid_run(widget, qtbot)
    other, models = open_in(viewer, counts, name="other"), []
    other.events.model.connect(lambda new, old: models.append(new))
    for layer in sessions_of(viewer).layers_of(session):
        viewer.layers.remove(layer)
    widget.form.set_length("epochs", 1)
    widget.form.set_value("batch_size", 8)
    train(widget, qtbot)
    assert widget.message.text() == ""
    assert [model.pattern_shape for model in models] == [(32, 24)]
    assert other.embedding.maps.shape == (7, 5, 3)


def test_of_two_open_scans_the_chosen_one_is_trained(widget, session, viewer, open_in, counts, qtbot):
    other = open_in(viewer, counts, name="other")
    assert [widget.scan.itemText(n) for n in range(widget.scan.count())] == ["scan", "other"]
    assert widget.scan.session is other
    widget.scan.setCurrentIndex(0)
    widget.scan.activated.emit(0)
    widget.start()
    viewer.layers.selection.active = layer_of(viewer, other, "sum")  # looks at the other one meanwhile
    assert not widget.train.isEnabled()
    qtbot.waitUntil(lambda: widget.job.session is None, timeout=WAIT)
    assert session.model is not None
    assert other.model is None
    assert widget.train.isEnabled()


def test_what_is_drawn_is_left_out(widget, session, viewer, qtbot):
    widget.masks.draw_positions()
    widget.train.click()
    assert "nothing is excluded: expected labels or shapes in the layer" in widget.message.text()
    viewer.layers["scan excluded positions"].data[:, :3] = 1
    widget.masks.draw_pixels()
    qtbot.waitUntil(lambda: "scan excluded pixels" in viewer.layers, timeout=WAIT)
    viewer.layers["scan excluded pixels"].data[10:13, :] = 2
    train(widget, qtbot)
    assert widget.message.text() == ""
    assert np.isnan(session.embedding.maps[:, :3]).all()
    assert np.isfinite(session.embedding.maps[:, 3:]).all()
    assert not session.model.autoencoder.preprocessing.detector.used[10:13].any()
