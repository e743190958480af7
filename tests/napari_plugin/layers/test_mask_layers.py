"""What is drawn in layers, as masks."""

from __future__ import annotations

import numpy as np
import pytest

from latentstem.errors import MaskError
from napari_latentstem.layers import mask_layers
from napari_latentstem.layers.scan_layers import layer_of, scan_kwargs
from napari_latentstem.widgets.mask_form import MaskForm

WAIT = 60_000  # ms


@pytest.fixture
def form(viewer, session, qtbot):
    form = MaskForm(viewer)
    qtbot.addWidget(form)
    yield form
    form.detach()


def test_what_is_drawn_is_left_out(form, session, viewer, qtbot):
    form.draw_positions()
    layer = viewer.layers["scan excluded positions"]
    layer.data[:, :3] = 1
    assert form.positions.currentData() is layer
    form.draw_pixels()
    qtbot.waitUntil(lambda: "scan excluded pixels" in viewer.layers, timeout=WAIT)
    pattern = viewer.layers["scan mean pattern"]
    np.testing.assert_allclose(pattern.data, session.scan.source.array.mean((0, 1)), rtol=1e-5)
    viewer.layers["scan excluded pixels"].data[10:13, :] = 2
    scan = form.scan_with_masks(session)
    np.testing.assert_array_equal(scan.scan_mask, np.broadcast_to(np.arange(16) < 3, (16, 16)))
    np.testing.assert_array_equal(np.flatnonzero(scan.pattern_mask.all(1)), [10, 11, 12])


def test_the_mean_pattern_lies_beside_the_scan_and_is_as_tall(form, session, viewer, qtbot):
    form.draw_pixels()
    qtbot.waitUntil(lambda: "scan mean pattern" in viewer.layers, timeout=WAIT)
    image, pattern = (layer_of(viewer, session, kind) for kind in ("sum", "mean pattern"))
    (top, _), (bottom, right) = image.extent.world
    (pattern_top, pattern_left), (pattern_bottom, _) = pattern.extent.world
    tall = bottom - top + 2  # extents are between the centres of pixels
    np.testing.assert_allclose(pattern_bottom - pattern_top + pattern.scale[0], tall)
    np.testing.assert_allclose(pattern_top - pattern.scale[0] / 2, top - 1)
    assert pattern_left > right


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 0.25)])
def test_shapes_of_any_scale_cover_scan_positions(session, viewer, scale):
    over = scan_kwargs(session)
    rows, columns = np.array([[3.0, 8.0], [2.0, 5.0]])  # scan positions
    corners = np.array([[r, c] for r, c in zip(rows[[0, 0, 1, 1]], columns[[0, 1, 1, 0]], strict=True)])
    world = corners * over["scale"] + over["translate"]
    layer = viewer.add_shapes([world / scale], shape_type="rectangle", scale=scale)
    want = np.zeros((16, 16), bool)
    want[3:9, 2:6] = True
    np.testing.assert_array_equal(mask_layers.mask_from_layer(layer, over, (16, 16)), want)


def test_labels_over_a_stack_and_of_another_extent(session, viewer):
    over = scan_kwargs(session)
    stack = np.zeros((4, 16, 16), np.uint8)
    stack[2, 5, 7] = 1
    kwargs = {"scale": (1, *over["scale"]), "translate": (0, *over["translate"])}
    layer = viewer.add_labels(stack, **kwargs)
    assert np.argwhere(mask_layers.mask_from_layer(layer, over, (16, 16))).tolist() == [[5, 7]]
    small = viewer.add_labels(np.ones((2, 3), np.uint8), scale=over["scale"], translate=(8.0, 4.0))
    want = np.zeros((16, 16), bool)
    want[4:6, 2:5] = True
    np.testing.assert_array_equal(mask_layers.mask_from_layer(small, over, (16, 16)), want)


def test_an_empty_drawing_is_told_of(form, session, viewer):
    form.draw_positions()
    with pytest.raises(
        MaskError, match="nothing is excluded: expected labels or shapes in the layer 'scan excl"
    ):
        form.scan_with_masks(session)
    viewer.layers["scan excluded positions"].data[:] = 1
    with pytest.raises(MaskError, match="scan_mask excludes everything"):
        form.scan_with_masks(session)
    with pytest.raises(MaskError, match="nothing is excluded"):
        mask_layers.mask_from_layer(viewer.add_shapes([]), scan_kwargs(session), (16, 16))


def test_what_is_excluded_already_stays_so(form, session, viewer):
    before = np.zeros((16, 16), bool)
    before[0] = True
    session.scan = session.scan.with_masks(before)
    form.draw_positions()
    viewer.layers["scan excluded positions"].data[5] = 1
    np.testing.assert_array_equal(np.flatnonzero(form.scan_with_masks(session).scan_mask.all(1)), [0, 5])


def test_the_lists_follow_the_layers(form, session, viewer):
    assert [form.positions.itemText(n) for n in range(form.positions.count())] == ["nothing"]
    form.draw_positions()
    layer = viewer.layers["scan excluded positions"]
    viewer.add_shapes([], name="outline")
    assert [form.pixels.itemText(n) for n in range(form.pixels.count())] == ["nothing", layer.name, "outline"]
    assert form.positions.currentText() == layer.name
    layer.name = "vacuum"
    assert form.positions.currentText() == "vacuum"
    viewer.layers.remove(layer)
    assert form.positions.currentText() == "nothing"
    assert form.scan_with_masks(session).scan_mask is None
