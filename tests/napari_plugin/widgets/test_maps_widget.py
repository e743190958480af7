"""The dock with latent maps, in a real viewer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import Qt

from latentstem import Embedding
from latentstem.io.output_files import latent_suffixes, pattern_suffixes
from napari_latentstem.layers.writer import (
    export_latents,
    export_reconstructions,
)
from napari_latentstem.model import map_contrast
from napari_latentstem.widgets.maps_widget import MapsWidget


@pytest.fixture
def maps_widget(make_napari_viewer, calibrated, latents, open_in):
    viewer = make_napari_viewer()
    session = open_in(viewer, calibrated, "grains")
    widget = MapsWidget(viewer)
    viewer.window.add_dock_widget(widget)
    return viewer, session, widget


def listed(widget, qtbot=None):
    """Latents in the order in which they are listed; with a bot, once they have been ranked."""
    if qtbot is not None:
        qtbot.wait_until(lambda: widget.list.count() and not widget._rank_worker.working)
        qtbot.wait(20)
    return [widget.list.item(row).data(Qt.ItemDataRole.UserRole) for row in range(widget.list.count())]


def test_latents_are_listed_in_the_order_of_what_they_carry(maps_widget, latents, qtbot):
    _viewer, session, widget = maps_widget
    assert not widget.maps_box.isEnabled()
    assert "train or load a model" in widget.message.text()
    session.embedding = latents
    assert widget.maps_box.isEnabled()
    assert listed(widget, qtbot) == [1, 3, 0, 2]
    assert widget.list.item(0).text() == "1: 90 %"
    assert "variance" in widget.list.item(0).toolTip()
    assert [channel.currentData() for channel in widget.channels] == [1, 3, 0]


def test_with_a_model_latents_are_ranked_by_what_they_draw(maps_widget, latents, qtbot, monkeypatch):
    _, session, widget = maps_widget
    asked = []

    class Model:
        class config:
            latent_dim = 4

    def by_decoding(model, embedding):
        asked.append((model, embedding))
        return np.array([0.1, 0.2, 0.6, 0.1])

    monkeypatch.setattr("napari_latentstem.widgets.latent_map_list.by_decoding", by_decoding)
    session.model = Model()
    session.embedding = latents
    qtbot.wait_until(lambda: listed(widget) == [2, 1, 0, 3])
    assert asked == [(session.model, latents)]


def test_a_click_shows_the_latent_in_its_own_contrast(maps_widget, latents, qtbot):
    viewer, session, widget = maps_widget
    session.embedding = latents
    assert listed(widget, qtbot) == [1, 3, 0, 2]
    layer = viewer.layers["grains latents"]
    widget.list.setCurrentRow(1)
    assert viewer.dims.current_step[0] == 3
    assert layer.contrast_limits == pytest.approx([0, 3], abs=0.1)
    widget.clip.setValue(10)
    assert layer.contrast_limits == pytest.approx([0.3, 2.7], abs=0.2)
    viewer.dims.set_current_step(0, 0)
    assert widget.list.currentItem().data(Qt.ItemDataRole.UserRole) == 0
    assert layer.contrast_limits == pytest.approx([0.1, 0.9], abs=0.1)


def test_three_latents_make_a_composite(maps_widget, latents, qtbot):
    viewer, session, widget = maps_widget
    session.embedding = latents
    assert listed(widget, qtbot) == [1, 3, 0, 2]
    widget.clip.setValue(0)
    qtbot.mouseClick(widget.show_composite, Qt.MouseButton.LeftButton)
    layer = viewer.layers["grains RGB"]
    assert layer.rgb
    assert tuple(layer.scale) == (2, 2)
    np.testing.assert_array_equal(layer.data, map_contrast.composite(latents.maps, (1, 3, 0), 0))
    widget.channels[0].setCurrentIndex(widget.channels[0].findData(2))
    widget.channels[0].activated.emit(0)
    np.testing.assert_array_equal(layer.data, map_contrast.composite(latents.maps, (2, 3, 0), 0))
    assert len(viewer.layers) == 3
    session.embedding = Embedding(latents.maps[..., ::-1], latents.axes)  # of another model
    assert listed(widget, qtbot) == [2, 0, 3, 1]
    chosen = tuple(channel.currentData() for channel in widget.channels)
    np.testing.assert_array_equal(layer.data, map_contrast.composite(session.embedding.maps, chosen, 0))


def test_latents_are_smoothed_as_far_as_is_asked(maps_widget, latents, qtbot):
    viewer, session, widget = maps_widget
    y, x = np.mgrid[:16, :16] / 15
    noise = 0.05 * np.random.default_rng(0).normal(size=(16, 16, 2))
    own = Embedding((np.stack([y, x], -1) + noise).astype(np.float32), latents.axes)
    session.embedding = own
    assert (widget.smooth.value(), widget.smooth.text(), widget.smooth.isEnabled()) == (0, "not", True)
    widget.smooth.setValue(2)
    qtbot.wait_until(lambda: session.embedding is not own)
    want = own.smoothed(2)
    np.testing.assert_array_equal(session.embedding.maps, want.maps)
    np.testing.assert_array_equal(viewer.layers["grains latents"].data, np.moveaxis(want.maps, -1, 0))
    widget.smooth.setValue(0)
    qtbot.wait_until(lambda: session.embedding.provenance["smooth"] == 0)
    np.testing.assert_array_equal(session.embedding.maps, own.maps)
    session.embedding = want
    assert (widget.smooth.value(), widget.smooth.isEnabled()) == (2, True)
    session.embedding = replace(want, unsmoothed=None)  # as they are read from a file
    assert (widget.smooth.value(), widget.smooth.isEnabled()) == (2, False)


def test_two_scans_each_have_their_own_list(maps_widget, counts, latents, open_in, qtbot):
    viewer, session, widget = maps_widget
    session.embedding = latents
    other = open_in(viewer, counts, "other")
    assert listed(widget) == []
    other.embedding = Embedding(np.zeros((7, 5, 2), np.float32), other.scan.axes[:2])
    assert listed(widget, qtbot) == [0, 1]
    viewer.layers.selection.active = viewer.layers["grains"]
    qtbot.wait_until(lambda: listed(widget) == [1, 3, 0, 2])


def test_the_chooser_shows_a_virtual_image(maps_widget):
    viewer, session, widget = maps_widget
    widget.image.setCurrentText("bright field")
    widget.image.activated.emit(1)
    np.testing.assert_array_equal(viewer.layers["grains bright field"].data, session.images["bright field"])


def test_files_are_written_and_errors_are_shown(maps_widget, latents, qtbot, tmp_path):
    _, session, widget = maps_widget
    session.embedding = latents
    widget._save("latents", export_latents, latent_suffixes(), str(tmp_path / "latents.npz"))
    qtbot.wait_until(lambda: "Written" in widget.message.text())
    np.testing.assert_array_equal(Embedding.load(tmp_path / "latents.npz").maps, latents.maps)
    widget._save("latents", export_latents, latent_suffixes(), str(tmp_path / "latents.tif"))
    qtbot.wait_until(lambda: "another suffix. Choose one of .npz" in widget.message.text())
    widget._save("reconstructions", export_reconstructions, pattern_suffixes(), str(tmp_path / "r.npy"))
    qtbot.wait_until(lambda: "no model to reconstruct with" in widget.message.text())


def test_closing_lets_go_of_the_viewer(maps_widget, latents):
    viewer, session, widget = maps_widget
    viewer.window.remove_dock_widget(widget)
    assert widget.stopped
    session.embedding = latents
    assert listed(widget) == []
    assert "grains latents" not in viewer.layers
