"""The dock with latent space, in a real viewer."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPointF, Qt

from latentstem import Embedding
from napari_latentstem.layers.sessions import sessions_of
from napari_latentstem.model import latent_space as space
from napari_latentstem.model.latent_scatter import SELECTED_COLOUR
from napari_latentstem.widgets.latent_space_widget import LatentSpaceWidget


@pytest.fixture
def embedding(calibrated):
    """Two clusters, the left and the right half of the scan, in the latents 1 and 2; one excluded position."""
    rng = np.random.default_rng(0)
    maps = rng.normal(0, [0.1, 0.5, 0.3, 0.01], (16, 16, 4)).astype(np.float32)
    maps[:, 6:, 1] += 10
    maps[:, 6:, 2] -= 4
    maps[3, 3] = np.nan
    return Embedding(maps, calibrated.axes[:2])


@pytest.fixture
def opened(make_napari_viewer, qtbot, calibrated, open_in, embedding):
    """A viewer, the session of a scan with latents, and the dock."""

    def make(**arguments):
        viewer = make_napari_viewer(**arguments)
        session = open_in(viewer, calibrated)
        session.embedding = embedding
        dock = LatentSpaceWidget(viewer)
        viewer.window.add_dock_widget(dock, name="Latent space")
        docks.append(dock)
        settle(qtbot, dock)
        return viewer, session, dock

    docks = []
    yield make
    for dock in docks:
        dock.close()


def settle(qtbot, dock):
    """Wait until everything that was asked for is shown, in a window that has its final size."""
    size = None
    while size != dock.scatter.view.size():  # a window that is shown on a busy machine is laid out late
        size = dock.scatter.view.size()
        for _ in range(2):  # what has come may lead to more
            qtbot.waitUntil(lambda: not dock.working, timeout=20000)
            qtbot.wait(20)


def layer(viewer, kind):
    return next((found for found in viewer.layers if found.name == f"scan {kind}"), None)


def right_half():
    chosen = np.zeros((16, 16), bool)
    chosen[:, 6:] = True
    return chosen


AROUND_THE_RIGHT = ((7.0, -7.0), (13.0, -7.0), (13.0, -1.0), (7.0, -1.0))


def outline(qtbot, view, corners, modifier=Qt.KeyboardModifier.NoModifier):
    """Drag along the corners, in the coordinates of the cloud."""
    places = [view.to_widget(*corner).toPoint() for corner in corners]
    qtbot.mousePress(view, Qt.MouseButton.LeftButton, modifier, places[0])
    for place in places[1:]:
        qtbot.mouseMove(view, place)
        qtbot.wait(5)
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, modifier, places[-1])


def test_the_two_latents_that_vary_most_are_shown(opened, qtbot, embedding):
    _, _, dock = opened()
    assert dock.scatter.view.axis_labels == ("latent 1", "latent 2")
    table, _ = space.latent_table(embedding)
    np.testing.assert_array_equal(dock.scatter.latents.projection.xy, table[:, [1, 2]])
    assert dock.scatter.style_box.currentText() == "points"
    dock.scatter.second.setValue(3)
    settle(qtbot, dock)
    np.testing.assert_array_equal(dock.scatter.latents.projection.xy, table[:, [1, 3]])
    dock.scatter.projection.setCurrentText("PCA")
    settle(qtbot, dock)
    assert dock.scatter.view.axis_labels[0].startswith("PC 1 (")
    assert not dock.scatter.first.isVisibleTo(dock)
    before = dock.scatter.view._image
    dock.scatter.style_box.setCurrentText("density")
    settle(qtbot, dock)
    assert dock.scatter.view._image is not before


def test_an_outline_in_the_cloud_is_a_mask_on_the_map_with_its_mean_pattern(opened, qtbot, calibrated):
    viewer, session, dock = opened(show=True)
    outline(qtbot, dock.scatter.view, AROUND_THE_RIGHT)
    qtbot.waitUntil(lambda: session.selection is not None)
    settle(qtbot, dock)
    np.testing.assert_array_equal(session.selection, right_half())
    shown = layer(viewer, "selection")
    np.testing.assert_array_equal(shown.data, right_half())
    np.testing.assert_allclose(shown.scale, viewer.layers["scan"].scale)
    assert [str(unit) for unit in shown.units] == ["nanometer", "nanometer"]
    assert viewer.layers.selection.active is viewer.layers["scan"]
    assert dock.about.text() == "160 of 256 positions (62%) selected"
    (picture,) = dock.mean_patterns.pictures
    assert (picture.title, picture.caption, picture.frame) == ("selection", "160 patterns", SELECTED_COLOUR)
    mean = calibrated.read(np.flatnonzero(right_half())).mean(0)
    brightest = np.unravel_index(mean.argmax(), mean.shape)
    assert picture._image.pixelColor(int(brightest[1]), int(brightest[0])).red() == 255
    dock.clear.click()
    settle(qtbot, dock)
    assert session.selection is None
    assert not shown.data.any()
    assert not dock.mean_patterns.isVisibleTo(dock)


def test_shift_adds_to_the_selection(opened, qtbot):
    _, session, dock = opened(show=True)
    outline(qtbot, dock.scatter.view, AROUND_THE_RIGHT)
    qtbot.waitUntil(lambda: session.selection is not None)
    left = ((-2.0, -2.0), (2.0, -2.0), (2.0, 2.0), (-2.0, 2.0))
    outline(qtbot, dock.scatter.view, left, Qt.KeyboardModifier.ShiftModifier)
    qtbot.waitUntil(lambda: session.selection.sum() == 255)
    assert not session.selection[3, 3], "an excluded position has no point"


def test_what_is_painted_on_the_map_lights_up_in_the_cloud(opened, qtbot):
    viewer, session, dock = opened()
    dock.paint.click()
    painted = layer(viewer, "selection")
    assert viewer.layers.selection.active is painted
    assert painted.mode == "polygon"
    assert "double click" in dock.message.text()
    before = dock.scatter.view._image
    painted.mode = "paint"
    painted.data_setitem((np.array([4, 4]), np.array([7, 8])), 1)
    painted.events.paint(value=[])
    settle(qtbot, dock)
    assert np.argwhere(session.selection).tolist() == [[4, 7], [4, 8]]
    assert dock.scatter.view._image is not before
    viewer.layers.remove(painted)
    settle(qtbot, dock)
    assert session.selection is None


def test_clusters_are_a_layer_with_features_and_mean_patterns(opened, qtbot, calibrated, embedding):
    viewer, session, dock = opened()
    dock.number.setValue(2)
    dock.find_clusters.click()
    assert not dock.find_clusters.isEnabled()
    assert "Finding clusters" in dock.message.text()
    settle(qtbot, dock)
    assert dock.find_clusters.isEnabled()
    assert dock.message.text() == "2 clusters"
    labels = layer(viewer, "clusters")
    wanted = np.where(right_half(), 1, 2)
    wanted[3, 3] = 0
    np.testing.assert_array_equal(labels.data, wanted)
    np.testing.assert_allclose(labels.scale, viewer.layers["scan"].scale)
    assert labels.features["index"].tolist() == [1, 2]
    assert labels.features["positions"].tolist() == [160, 95]
    np.testing.assert_allclose(labels.features["latent 1"][0], embedding.maps[:, 6:, 1].mean(), rtol=1e-5)
    assert [picture.title for picture in dock.mean_patterns.pictures] == ["cluster 1", "cluster 2"]
    assert [picture.caption for picture in dock.mean_patterns.pictures] == ["160 patterns", "95 patterns"]
    colour = labels.get_color(1)[:3]
    np.testing.assert_allclose(np.array(dock.mean_patterns.pictures[0].frame) / 255, colour, atol=0.01)
    qtbot.mouseClick(dock.mean_patterns.pictures[1], Qt.MouseButton.LeftButton)
    settle(qtbot, dock)
    np.testing.assert_array_equal(session.selection, wanted == 2)
    assert [picture.title for picture in dock.mean_patterns.pictures] == [
        "selection",
        "cluster 1",
        "cluster 2",
    ]
    dock.number.setValue(3)
    dock.find_clusters.click()
    settle(qtbot, dock)
    assert labels.data.max() == 3, "the same layer is brought up to date"
    assert len(labels.features) == 3
    viewer.layers.remove(labels)
    settle(qtbot, dock)
    assert [picture.title for picture in dock.mean_patterns.pictures] == ["selection"]


def test_too_many_clusters_are_told_and_the_dock_goes_on(opened, qtbot, calibrated):
    _, session, dock = opened()
    maps = np.full((16, 16, 3), np.nan, np.float32)
    maps[0, :5] = np.arange(15).reshape(5, 3)
    session.embedding = Embedding(maps, calibrated.axes[:2])
    settle(qtbot, dock)
    dock.find_clusters.click()
    settle(qtbot, dock)
    assert "expected 1 to 5 clusters" in dock.message.text()
    assert dock.find_clusters.isEnabled()


def test_latents_as_features_of_points(opened, qtbot, embedding):
    viewer, _, dock = opened()
    dock.points.click()
    points = layer(viewer, "positions")
    assert len(points.data) == 255
    assert list(points.features) == ["latent 0", "latent 1", "latent 2", "latent 3"]
    np.testing.assert_array_equal(points.data[60], [3, 13])  # one before it is excluded
    assert points.features["latent 2"][60] == embedding.maps[3, 13, 2]
    dock.number.setValue(2)
    dock.find_clusters.click()
    settle(qtbot, dock)
    dock.points.click()
    assert sorted(set(layer(viewer, "positions").features["cluster"])) == [1, 2]


def test_a_click_goes_to_the_position_of_the_nearest_point(opened, qtbot):
    _, session, dock = opened(show=True)
    x, y = dock.scatter.latents.projection.xy[100]
    qtbot.mouseClick(
        dock.scatter.view, Qt.MouseButton.LeftButton, pos=dock.scatter.view.to_widget(x, y).toPoint()
    )
    at = dock.scatter.view.to_widget(*dock.scatter.view.marker)
    assert (at - dock.scatter.view.to_widget(x, y)).manhattanLength() < 4
    assert session.selection is None
    session.position = (3, 3)
    assert dock.scatter.view.marker is None, "an excluded position has no point"


def test_zoom_keeps_what_is_under_the_mouse_and_a_double_click_shows_all(opened, qtbot):
    from qtpy.QtCore import QPoint
    from qtpy.QtGui import QWheelEvent

    _, _, dock = opened(show=True)
    view = dock.scatter.view
    whole, at = view.view, QPointF(100, 80)
    before = view.to_data(at)
    turn = QWheelEvent(
        at, view.mapToGlobal(at.toPoint()).toPointF() if hasattr(QPoint, "toPointF") else at, QPoint(),
        QPoint(0, 240), Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    view.wheelEvent(turn)
    assert view.view[1] - view.view[0] < 0.7 * (whole[1] - whole[0])
    np.testing.assert_allclose(view.to_data(at), before, rtol=1e-6)
    qtbot.mousePress(view, Qt.MouseButton.RightButton, pos=QPointF(100, 80).toPoint())
    qtbot.mouseMove(view, QPointF(130, 90).toPoint())
    qtbot.mouseRelease(view, Qt.MouseButton.RightButton, pos=QPointF(130, 90).toPoint())
    np.testing.assert_allclose(view.to_data(QPointF(130, 90)), before, rtol=1e-3)
    qtbot.mouseDClick(view, Qt.MouseButton.LeftButton, pos=QPointF(100, 80).toPoint())
    assert view.view == whole


def test_two_scans_have_clouds_of_their_own(opened, qtbot, counts, open_in):
    viewer, first, dock = opened()
    second = open_in(viewer, counts, "second")
    sessions_of(viewer).active = second
    settle(qtbot, dock)
    assert dock.scatter.latents is None
    assert dock.scatter.view.hint.startswith("Train a model")
    assert not dock.find_clusters.isEnabled()
    maps = np.random.default_rng(1).normal(size=(7, 5, 2)).astype(np.float32)
    second.embedding = Embedding(maps, second.scan.axes[:2])
    settle(qtbot, dock)
    np.testing.assert_array_equal(dock.scatter.latents.table, maps.reshape(35, 2))
    first.selection = right_half()
    settle(qtbot, dock)
    assert dock.about.text().startswith("Drag in the plot")
    sessions_of(viewer).active = first
    settle(qtbot, dock)
    assert dock.about.text().startswith("160 of 256")


def test_closing_lets_go_and_leaves_the_layers(opened, qtbot):
    viewer, session, dock = opened()
    session.selection = right_half()
    settle(qtbot, dock)
    viewer.window.remove_dock_widget(dock)
    assert layer(viewer, "selection") is not None
    session.selection = None
    layer(viewer, "selection").events.paint(value=[])
    assert not dock.working
    assert dock.scatter.latents is None


def test_before_anything_is_open_it_says_what_to_do(make_napari_viewer, qtbot):
    dock = LatentSpaceWidget(make_napari_viewer())
    qtbot.addWidget(dock)
    assert dock.scatter.view.hint == "Open a scan."
    assert not dock.find_clusters.isEnabled()
