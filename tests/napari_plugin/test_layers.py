"""Layers of a scan: calibrated, with units, in robust contrast."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import Qt

from latentstem import Embedding
from latentstem.errors import ArgumentError
from napari_latentstem import layers
from napari_latentstem.maps_widget import MapsWidget
from napari_latentstem.state import KEY, Session


@pytest.fixture
def latents(calibrated) -> Embedding:
    """Latents (16, 16, 4): a ramp of size 1, noise of size 10, a constant, a ramp of size 3; one position is out."""
    y, x = np.mgrid[:16, :16] / 15
    noise = np.random.default_rng(0).uniform(0, 10, (16, 16))
    maps = np.stack([y, noise, np.full((16, 16), 2.0), 3 * x], axis=-1).astype(np.float32)
    maps[5, 6] = np.nan
    return Embedding(maps, calibrated.axes[:2])


def calibrate(scan, scale, offset, units):
    y, x, *detector = scan.axes
    return replace(
        scan,
        axes=(
            replace(y, scale=scale[0], offset=offset[0], units=units),
            replace(x, scale=scale[1], offset=offset[1], units=units),
            *detector,
        ),
    )


def test_layers_lie_where_the_scan_does(make_napari_viewer, calibrated):
    session = Session(calibrate(calibrated, (2, 3), (10, 20), "nm"), "scan")
    viewer = make_napari_viewer()
    layer = viewer.add_labels(np.zeros((16, 16), int), **layers.scan_kwargs(session, "kind"))
    assert tuple(layer.world_to_data((14, 29))) == (2, 3)
    assert [str(unit) for unit in layer.units] == ["nanometer"] * 2
    assert layer.axis_labels == ("y", "x")
    assert layer.metadata == {KEY: session, layers.KIND: "kind"}


@pytest.mark.parametrize(
    ("units", "shown"),
    [
        ("", "pixel"),
        ("1/angstrom", "1 / angstrom"),
        ("mrad", "milliradian"),
        ("um", "micrometer"),
        ("mishmash", "pixel"),
        ("10", "pixel"),
        ("((", "pixel"),
    ],
)
def test_units_are_napari_s_or_pixels(make_napari_viewer, calibrated, units, shown):
    session = Session(calibrate(calibrated, (1, 1), (0, 0), units), "scan")
    layer = make_napari_viewer().add_image(np.zeros((16, 16)), **layers.scan_kwargs(session))
    assert str(layer.units[0]) == shown


def test_a_scale_of_nought_is_a_pixel(calibrated):
    session = Session(calibrate(calibrated, (0, 0), (0, 0), "nm"), "scan")
    assert layers.scan_kwargs(session)["scale"] == (1, 1)


def test_the_stack_of_latents_is_calibrated_and_updated_in_place(
    make_napari_viewer, calibrated, latents, open_in
):
    viewer = make_napari_viewer()
    session = open_in(viewer, calibrated, "grains")
    with pytest.raises(ArgumentError, match=r"no latent maps: .*Train a model, or load one"):
        layers.show_embedding(viewer, session)
    session.embedding = latents
    layer = layers.show_embedding(viewer, session)
    assert layer.name == "grains latents"
    assert layer.data.shape == (4, 16, 16)
    assert layer.axis_labels == ("latent", "y", "x")
    assert tuple(layer.scale) == (1, 2, 2)
    assert [str(unit) for unit in layer.units] == ["dimensionless", "nanometer", "nanometer"]
    assert layer.colormap.name == "viridis"
    np.testing.assert_array_equal(layer.data[3], latents.maps[..., 3])
    session.embedding = Embedding(2 * latents.maps, latents.axes)
    assert layers.show_embedding(viewer, session) is layer
    np.testing.assert_array_equal(layer.data[3], 2 * latents.maps[..., 3])
    assert layer.contrast_limits[1] == pytest.approx(2, rel=0.05)


def test_limits_leave_out_outliers_and_nan():
    image = np.linspace(0, 1, 10_000, dtype=np.float32).reshape(100, 100)
    image[0, 0], image[0, 1], image[0, 2] = 1e9, -1e9, np.nan
    assert layers.robust_limits(image) == pytest.approx((0.005, 0.995), abs=1e-3)
    assert layers.robust_limits(image, 10) == pytest.approx((0.1, 0.9), abs=1e-3)
    for flat in (np.zeros((3, 3)), np.full((3, 3), 1e7), np.full((3, 3), np.nan)):
        low, high = layers.robust_limits(flat)
        assert low < high


def test_composite_stretches_each_channel_and_is_clear_where_excluded(latents):
    picture = layers.composite(latents.maps, (0, 3, 2), clip=0)
    assert picture.shape == (16, 16, 4)
    np.testing.assert_array_equal(picture[5, 6], 0)
    assert picture[0, 0].tolist() == [0, 0, 0, 1]
    assert picture[15, 15].tolist() == [1, 1, 0, 1]
    assert picture[15, 0].tolist() == [1, 0, 0, 1]


def test_virtual_images_come_to_the_front(make_napari_viewer, calibrated, open_in):
    viewer = make_napari_viewer()
    session = open_in(viewer, calibrated, "grains")
    layer = layers.show_virtual_image(viewer, session, "dark field")
    assert [layer.name for layer in viewer.layers] == ["grains", "grains dark field"]
    np.testing.assert_array_equal(layer.data, session.images["dark field"])
    front = layers.show_virtual_image(viewer, session, "sum")
    assert viewer.layers[-1] is front
    assert viewer.layers.selection.active is front
    assert len(viewer.layers) == 2


# ---- the dock ----


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
        qtbot.wait_until(lambda: widget.list.count() and not widget._ranking.working)
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

    def carried(model, embedding):
        asked.append((model, embedding))
        return np.array([0.1, 0.2, 0.6, 0.1])

    monkeypatch.setattr("napari_latentstem.maps_widget.carried", carried)
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
    np.testing.assert_array_equal(layer.data, layers.composite(latents.maps, (1, 3, 0), 0))
    widget.channels[0].setCurrentIndex(widget.channels[0].findData(2))
    widget.channels[0].activated.emit(0)
    np.testing.assert_array_equal(layer.data, layers.composite(latents.maps, (2, 3, 0), 0))
    assert len(viewer.layers) == 3
    session.embedding = Embedding(latents.maps[..., ::-1], latents.axes)  # of another model
    assert listed(widget, qtbot) == [2, 0, 3, 1]
    chosen = tuple(channel.currentData() for channel in widget.channels)
    np.testing.assert_array_equal(layer.data, layers.composite(session.embedding.maps, chosen, 0))


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
    session.embedding = replace(want, own=None)  # as they are read from a file
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
    from napari_latentstem import writer

    widget._save("latents", writer.export_latents, writer.LATENT_FILES, str(tmp_path / "latents.npz"))
    qtbot.wait_until(lambda: "Written" in widget.message.text())
    np.testing.assert_array_equal(Embedding.load(tmp_path / "latents.npz").maps, latents.maps)
    widget._save("latents", writer.export_latents, writer.LATENT_FILES, str(tmp_path / "latents.tif"))
    qtbot.wait_until(lambda: "another suffix. Choose one of .npz" in widget.message.text())
    widget._save(
        "reconstructions", writer.export_reconstructions, writer.PATTERN_FILES, str(tmp_path / "r.npy")
    )
    qtbot.wait_until(lambda: "nothing to reconstruct with" in widget.message.text())


def test_closing_lets_go_of_the_viewer(maps_widget, latents):
    viewer, session, widget = maps_widget
    viewer.window.remove_dock_widget(widget)
    assert widget.stopped
    session.embedding = latents
    assert listed(widget) == []
    assert "grains latents" not in viewer.layers
