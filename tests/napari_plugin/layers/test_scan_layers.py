"""Layers of a scan: calibrated, with units, in robust contrast."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from latentstem import Embedding
from latentstem.errors import ArgumentError
from napari_latentstem.layers import latent_layers, scan_layers
from napari_latentstem.layers.sessions import SESSION_KEY
from napari_latentstem.model import map_contrast
from napari_latentstem.model.session import Session


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
    layer = viewer.add_labels(np.zeros((16, 16), int), **scan_layers.scan_kwargs(session, "kind"))
    assert tuple(layer.world_to_data((14, 29))) == (2, 3)
    assert [str(unit) for unit in layer.units] == ["nanometer"] * 2
    assert layer.axis_labels == ("y", "x")
    assert layer.metadata == {SESSION_KEY: session, scan_layers.KIND_KEY: "kind"}


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
    layer = make_napari_viewer().add_image(np.zeros((16, 16)), **scan_layers.scan_kwargs(session))
    assert str(layer.units[0]) == shown


def test_a_scale_of_nought_is_a_pixel(calibrated):
    session = Session(calibrate(calibrated, (0, 0), (0, 0), "nm"), "scan")
    assert scan_layers.scan_kwargs(session)["scale"] == (1, 1)


def test_the_stack_of_latents_is_calibrated_and_updated_in_place(
    make_napari_viewer, calibrated, latents, open_in
):
    viewer = make_napari_viewer()
    session = open_in(viewer, calibrated, "grains")
    with pytest.raises(ArgumentError, match=r"no latent maps: .*Train a model, or load one"):
        latent_layers.show_embedding(viewer, session)
    session.embedding = latents
    layer = latent_layers.show_embedding(viewer, session)
    assert layer.name == "grains latents"
    assert layer.data.shape == (4, 16, 16)
    assert layer.axis_labels == ("latent", "y", "x")
    assert tuple(layer.scale) == (1, 2, 2)
    assert [str(unit) for unit in layer.units] == ["dimensionless", "nanometer", "nanometer"]
    assert layer.colormap.name == "viridis"
    np.testing.assert_array_equal(layer.data[3], latents.maps[..., 3])
    session.embedding = Embedding(2 * latents.maps, latents.axes)
    assert latent_layers.show_embedding(viewer, session) is layer
    np.testing.assert_array_equal(layer.data[3], 2 * latents.maps[..., 3])
    assert layer.contrast_limits[1] == pytest.approx(2, rel=0.05)


def test_limits_leave_out_outliers_and_nan():
    image = np.linspace(0, 1, 10_000, dtype=np.float32).reshape(100, 100)
    image[0, 0], image[0, 1], image[0, 2] = 1e9, -1e9, np.nan
    assert map_contrast.robust_limits(image) == pytest.approx((0.005, 0.995), abs=1e-3)
    assert map_contrast.robust_limits(image, 10) == pytest.approx((0.1, 0.9), abs=1e-3)
    for flat in (np.zeros((3, 3)), np.full((3, 3), 1e7), np.full((3, 3), np.nan)):
        low, high = map_contrast.robust_limits(flat)
        assert low < high


def test_composite_stretches_each_channel_and_is_clear_where_excluded(latents):
    picture = map_contrast.composite(latents.maps, (0, 3, 2), clip=0)
    assert picture.shape == (16, 16, 4)
    np.testing.assert_array_equal(picture[5, 6], 0)
    assert picture[0, 0].tolist() == [0, 0, 0, 1]
    assert picture[15, 15].tolist() == [1, 1, 0, 1]
    assert picture[15, 0].tolist() == [1, 0, 0, 1]


def test_virtual_images_come_to_the_front(make_napari_viewer, calibrated, open_in):
    viewer = make_napari_viewer()
    session = open_in(viewer, calibrated, "grains")
    layer = scan_layers.show_virtual_image(viewer, session, "dark field")
    assert [layer.name for layer in viewer.layers] == ["grains", "grains dark field"]
    np.testing.assert_array_equal(layer.data, session.images["dark field"])
    front = scan_layers.show_virtual_image(viewer, session, "sum")
    assert viewer.layers[-1] is front
    assert viewer.layers.selection.active is front
    assert len(viewer.layers) == 2
