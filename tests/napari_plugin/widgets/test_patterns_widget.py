"""The dock with diffraction patterns, in a real viewer."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt

import latentstem
from helpers import train
from latentstem.report import examples
from napari_latentstem.layers.sessions import sessions_of
from napari_latentstem.widgets.patterns_widget import PatternsWidget

TRUTH = {"structure": "polycrystal", "dose": 400, "n_grains": 3}


@pytest.fixture(scope="module")
def model():
    return train(latentstem.simulate((16, 16), (32, 32), **TRUTH).counts, epochs=1)


@pytest.fixture
def opened(make_napari_viewer, qtbot, calibrated, open_in, model):
    """A viewer, the session of a scan with a model, and the dock."""

    def make(**arguments):
        viewer = make_napari_viewer(**arguments)
        session = open_in(viewer, calibrated)
        session.model, session.embedding = model, model.embed(calibrated)
        dock = PatternsWidget(viewer)
        viewer.window.add_dock_widget(dock, name="Patterns")
        docks.append(dock)
        settle(qtbot, dock)
        return viewer, session, dock

    docks = []
    yield make
    for dock in docks:
        dock.close()


def settle(qtbot, dock):
    """Wait until everything that was asked for is shown."""
    qtbot.wait(10)
    qtbot.waitUntil(lambda: not (dock._pattern_worker.working or dock._decode_worker.working), timeout=10000)
    qtbot.wait(10)


def at(canvas, viewer, layer, position):
    """Where a scan position is on the screen."""
    world = layer.data_to_world(position)[-2:]
    scene, view = viewer.scene, canvas.view
    assert scene is not None
    x, y = (view.transform * view.scene.transform).map([world[1], world[0]])[:2]
    return QPoint(round(x), round(y))


def test_the_pictures_are_the_library_s(opened, qtbot, calibrated, model):
    _, session, dock = opened()
    session.position = (5, 9)
    settle(qtbot, dock)
    raw, reconstruction, residual, decoded = dock.images()
    whole = model.reconstruct(calibrated)
    np.testing.assert_array_equal(raw, calibrated.read([5 * 16 + 9])[0])
    np.testing.assert_allclose(reconstruction, whole[5, 9], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(decoded, whole[5, 9], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        residual, examples.residual(raw[None], whole[5, 9][None])[0], rtol=1e-2, atol=1e-3
    )
    assert dock.description.text() == "row 5, column 9 (y = 10, x = 18 nm)"
    assert dock.pictures[0].caption == dock.pictures[1].caption, "one contrast"
    assert dock.pictures[2].caption.endswith("σ")
    assert dock.pictures[0]._bar[1].endswith("Å⁻¹")


def test_clicking_and_dragging_on_the_map(opened, qtbot):
    viewer, session, dock = opened(show=True)
    canvas = viewer.window._qt_viewer.canvas
    image = viewer.layers[0]
    qtbot.wait(100)

    def place(position):
        return at(canvas, viewer, image, position)

    qtbot.mouseClick(canvas.native, Qt.MouseButton.LeftButton, pos=place((4, 11)))
    assert session.position == (4, 11)
    centre = viewer.scene.camera.center
    qtbot.mousePress(canvas.native, Qt.MouseButton.LeftButton, pos=place((4, 11)))
    for target in ((5, 10), (9, 2), (12, 2)):
        qtbot.mouseMove(canvas.native, place(target))
        qtbot.wait(20)
    qtbot.mouseRelease(canvas.native, Qt.MouseButton.LeftButton, pos=place((12, 2)))
    assert session.position == (12, 2)
    assert viewer.scene.camera.center == centre, "the map stays where it is while the marker moves"
    assert viewer.scene.camera.mouse_pan
    np.testing.assert_array_equal(dock.marker.layer.data, [[12, 2]])
    settle(qtbot, dock)
    np.testing.assert_array_equal(dock.images()[0], session.scan.read([12 * 16 + 2])[0])


def test_a_click_while_drawing_or_beside_the_map_moves_nothing(opened, qtbot):
    viewer, session, _ = opened(show=True)
    canvas, image = viewer.window._qt_viewer.canvas, viewer.layers[0]
    qtbot.wait(100)
    beside = at(canvas, viewer, image, (-2, 5))
    qtbot.mouseClick(canvas.native, Qt.MouseButton.LeftButton, pos=beside)
    assert session.position == (0, 0)
    labels = viewer.add_labels(np.zeros((16, 16), int), scale=image.scale, units=image.units)
    labels.mode = "paint"
    qtbot.mouseClick(canvas.native, Qt.MouseButton.LeftButton, pos=at(canvas, viewer, image, (8, 8)))
    assert session.position == (0, 0)
    labels.mode = "pan_zoom"
    qtbot.mouseClick(canvas.native, Qt.MouseButton.LeftButton, pos=at(canvas, viewer, image, (8, 8)))
    assert session.position == (8, 8)


def test_the_marker_stays_on_top_and_leaves_the_choice_of_layer(opened, qtbot, calibrated):
    viewer, _, dock = opened()
    assert viewer.layers.selection.active is viewer.layers[0]
    viewer.add_image(np.zeros((16, 16)))
    qtbot.waitUntil(lambda: viewer.layers[-1] is dock.marker.layer)


def test_holding_the_key_averages_over_the_drawn_region(opened, qtbot, calibrated, model):
    viewer, session, dock = opened(show=True)
    qtbot.mouseClick(dock.draw_region, Qt.MouseButton.LeftButton)
    shapes = viewer.layers.selection.active
    assert shapes.mode == "add_polygon_lasso"
    shapes.add_rectangles([[1.6, 2.6], [1.6, 7.4], [5.4, 7.4], [5.4, 2.6]])
    qtbot.waitUntil(lambda: session.region is not None)
    wanted = np.zeros((16, 16), bool)
    wanted[2:6, 3:8] = True
    np.testing.assert_array_equal(session.region, wanted)
    shapes.mode = "pan_zoom"
    canvas = viewer.window._qt_viewer.canvas.native
    qtbot.keyPress(canvas, Qt.Key.Key_H)
    settle(qtbot, dock)
    raw, reconstruction, *_ = dock.images()
    np.testing.assert_allclose(raw, calibrated.read(np.flatnonzero(wanted)).mean(0), rtol=1e-5)
    whole = model.reconstruct(calibrated)
    np.testing.assert_allclose(reconstruction, whole[wanted].mean(0), rtol=1e-3, atol=1e-4)
    assert dock.description.text() == "mean of 20 of the region's 20 positions"
    qtbot.keyRelease(canvas, Qt.Key.Key_H)
    settle(qtbot, dock)
    np.testing.assert_array_equal(dock.images()[0], calibrated.read([0])[0])
    viewer.layers.remove(shapes)
    assert session.region is None


def test_averaging_without_a_region_says_how_to_draw_one(opened, qtbot):
    _, _, dock = opened()
    qtbot.mousePress(dock.average, Qt.MouseButton.LeftButton)
    assert dock.message.text().startswith("There is no region to average over: draw one")
    qtbot.mouseRelease(dock.average, Qt.MouseButton.LeftButton)
    assert dock.message.text() == ""


def test_sliders_show_what_the_decoder_makes_of_latents(opened, qtbot, model):
    _, session, dock = opened()
    session.position = (3, 3)
    settle(qtbot, dock)
    own = session.embedding.unsmoothed
    assert not np.allclose(own, session.embedding.maps, atol=0.01), "the maps are smoothed"
    assert list(dock.sliders._sliders) == np.argsort(-own.reshape(-1, 4).std(0)).tolist(), (
        "the most varying first"
    )
    slider, shown = dock.sliders._sliders[2]
    slider.setValue(slider.maximum())
    settle(qtbot, dock)
    latents = own[3, 3].copy()
    latents[2] = np.percentile(own[..., 2], 99.5)
    np.testing.assert_allclose(dock.images()[3], model.decode(latents), rtol=1e-4, atol=1e-5)
    assert shown.text() == f"{latents[2]:.3g}"
    dock.sliders.reset_button.click()
    settle(qtbot, dock)
    np.testing.assert_allclose(dock.images()[3], model.decode(own[3, 3]), rtol=1e-4, atol=1e-5)


def test_latents_of_another_model_have_no_sliders(opened, qtbot, calibrated):
    _, session, dock = opened()
    assert dock.sliders.isVisibleTo(dock)
    session.embedding = latentstem.Embedding(np.zeros((16, 16, 7), np.float32), calibrated.axes[:2])
    assert not dock.sliders.isVisibleTo(dock)


def test_without_a_model_there_is_the_pattern_and_what_to_do(opened, qtbot):
    _, session, dock = opened()
    session.model = None
    settle(qtbot, dock)
    assert dock.images()[0] is not None
    assert dock.images()[1:3] == [None, None]
    assert dock.pictures[1].hint == "Train a model, or load one."


def test_an_excluded_position_is_said_to_be_one(opened, qtbot, calibrated):
    _, session, dock = opened()
    mask = np.zeros((16, 16), bool)
    mask[2, 2] = True
    session.scan = calibrated.with_masks(mask)
    session.position = (2, 2)
    settle(qtbot, dock)
    assert dock.pictures[1].hint == "This position is excluded."
    assert dock.images()[0].sum() > 0


def test_a_model_that_does_not_fit_is_told_and_the_dock_goes_on(opened, qtbot, scan, model):
    _, session, dock = opened()
    session.model = train(scan, epochs=1)
    settle(qtbot, dock)
    assert "expected 16 x 20 pixels" in dock.message.text()
    assert "Crop or bin the detector to that shape" in dock.message.text()
    assert dock.images() == [None] * 4
    session.model = model
    settle(qtbot, dock)
    assert dock.message.text() == ""
    assert dock.images()[1] is not None


def test_brightness_and_what_is_under_the_mouse(opened, qtbot):
    _, _, dock = opened()
    before = dock.pictures[1]._image.pixelColor(20, 12).red()
    dock.scale.setCurrentText("log")
    assert dock.pictures[1]._image.pixelColor(20, 12).red() > before
    dock.shared_contrast.setChecked(False)
    assert dock.pictures[0].caption != dock.pictures[1].caption
    dock.pictures[0].hovered.emit(16, 20)
    assert dock.description.text().startswith(f"row 16, column 20: {dock.images()[0][16, 20]:.4g}; |k| = ")
    dock.pictures[0].unhovered.emit()
    assert dock.description.text().startswith("row 0, column 0 (")


def test_two_scans_are_looked_at_in_turn(opened, qtbot, counts, open_in):
    viewer, first, dock = opened()
    first.position = (5, 5)
    second = open_in(viewer, counts, "second")
    sessions_of(viewer).active = second
    settle(qtbot, dock)
    np.testing.assert_array_equal(dock.images()[0], counts[0, 0])
    assert dock.description.text() == "row 0, column 0"
    assert dock.marker.layer.name == "second position"
    first.position = (1, 1)  # of no concern here
    settle(qtbot, dock)
    np.testing.assert_array_equal(dock.images()[0], counts[0, 0])
    viewer.layers.selection.active = viewer.layers[0]
    settle(qtbot, dock)
    np.testing.assert_array_equal(dock.images()[0], first.scan.read([17])[0])


def test_closing_takes_the_marker_away_and_lets_go(opened, qtbot):
    viewer, session, dock = opened()
    viewer.window.remove_dock_widget(dock)
    assert [layer.name for layer in viewer.layers] == ["scan"]
    assert not [f for f in viewer.mouse_drag_callbacks if "PositionMarker" in repr(f)]
    session.position = (1, 1)
    assert not dock._pattern_worker.working
    again = PatternsWidget(viewer)
    settle(qtbot, again)
    assert again.images()[0] is not None
    again.close()


def test_before_anything_is_open_it_says_what_to_do(make_napari_viewer, qtbot, calibrated, open_in):
    viewer = make_napari_viewer()
    dock = PatternsWidget(viewer)
    qtbot.addWidget(dock)
    assert {picture.hint for picture in dock.pictures} == {"Open a scan."}
    dock.draw_region.click()
    assert dock.message.text() == "Open a scan first."
    open_in(viewer, calibrated)
    settle(qtbot, dock)
    assert dock.images()[0] is not None
    viewer.layers.select_all()
    viewer.layers.remove_selected()
    qtbot.waitUntil(lambda: len(viewer.layers) == 0)
    assert dock.pictures[0].hint == "Open a scan."
