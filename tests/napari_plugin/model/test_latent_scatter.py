"""Scatter plots of latents as images."""

from __future__ import annotations

import numpy as np
import pytest

from napari_latentstem.model import latent_scatter
from napari_latentstem.model.latent_scatter import SELECTED_COLOUR, cluster_colours, draw_scatter

VIEW, SHAPE = (0.0, 1.0, 0.0, 1.0), (10, 20)


@pytest.fixture
def points():
    """Three points of cluster 1, one of cluster 2, one of none; the first two share a pixel."""
    xy = np.array([[0.11, 0.95], [0.12, 0.94], [0.9, 0.95], [0.5, 0.05], [0.9, 0.05]], np.float32)
    return xy, np.array([1, 1, 1, 2, 0])


def test_colours_are_told_apart():
    colours = cluster_colours(24)
    assert colours.shape == (25, 3)
    apart = np.abs(colours[:, None].astype(int) - colours).sum(-1)
    assert apart[~np.eye(25, dtype=bool)].min() > 10
    np.testing.assert_array_equal(cluster_colours(3), colours[:4])


def test_points_have_the_colours_of_their_clusters(points, monkeypatch):
    monkeypatch.setattr(latent_scatter, "_RADIUS_2_POINTS", 0)
    monkeypatch.setattr(latent_scatter, "_RADIUS_1_POINTS", 0)
    xy, labels = points
    image = draw_scatter(xy, VIEW, SHAPE, "points", labels)
    colours = cluster_colours(2)
    assert image.shape == (10, 20, 4)
    assert (image[..., 3] > 0).sum() == 4
    for (row, column), label in {(0, 2): 1, (0, 18): 1, (9, 10): 2, (9, 18): 0}.items():
        np.testing.assert_array_equal(image[row, column], [*colours[label], 255])


def test_few_points_are_drawn_larger(points):
    assert (draw_scatter(points[0], VIEW, SHAPE, "points")[..., 3] > 0).sum() > 20


def test_what_is_not_selected_is_dimmed(points):
    xy, labels = points
    selected = np.array([0, 0, 0, 1, 1], bool)
    image = draw_scatter(xy, VIEW, SHAPE, "points", labels, selected)
    assert image[9, 10, 3] == image[9, 18, 3] == 255
    assert 0 < image[0, 2, 3] < 100
    np.testing.assert_array_equal(image[9, 18, :3], SELECTED_COLOUR)  # of no cluster
    np.testing.assert_array_equal(image[9, 10, :3], cluster_colours(2)[2])
    nothing = draw_scatter(xy, VIEW, SHAPE, "points", labels, np.zeros(5, bool))
    np.testing.assert_array_equal(nothing, draw_scatter(xy, VIEW, SHAPE, "points", labels))


def test_selected_points_lie_above_the_others():
    xy = np.full((500, 2), 0.5, np.float32)
    selected = np.zeros(500, bool)
    selected[123] = True
    assert (draw_scatter(xy, VIEW, SHAPE, "points", None, selected)[5, 10] == [*SELECTED_COLOUR, 255]).all()


@pytest.fixture
def fine(monkeypatch):
    """Bins of one pixel, however few points there are."""
    monkeypatch.setattr(latent_scatter, "_MAX_BIN_SIZE", 1)


def test_few_points_are_counted_in_coarser_bins(points):
    xy, _ = points
    assert draw_scatter(xy, VIEW, (60, 120), "density").shape == (10, 20, 4)
    many = np.random.default_rng(0).random((7200, 2), np.float32)
    assert draw_scatter(many, VIEW, (60, 120), "density").shape == (60, 120, 4)


@pytest.mark.usefixtures("fine")
def test_density_grows_brighter_and_leaves_nothing_out(points):
    xy, _ = points
    image = draw_scatter(xy, VIEW, SHAPE, "density").astype(int)
    assert (image[..., 3] == 255).sum() == 4
    assert (image[..., 3] == 0).sum() == 196
    assert image[0, 2, :3].sum() > image[0, 18, :3].sum()


@pytest.mark.usefixtures("fine")
def test_density_marks_pixels_whose_points_are_mostly_selected(points):
    xy, _ = points
    image = draw_scatter(xy, VIEW, SHAPE, "density", None, np.array([1, 0, 0, 1, 0], bool)).astype(int)

    def hue(row, column):
        return image[row, column, :3] / image[row, column, :3].max()

    wanted = np.array(SELECTED_COLOUR) / max(SELECTED_COLOUR)
    np.testing.assert_allclose(hue(0, 2), wanted, atol=0.02)  # one of two
    np.testing.assert_allclose(hue(9, 10), wanted, atol=0.02)
    assert np.abs(hue(0, 18) - wanted).max() > 0.1


def test_a_view_beside_the_points_is_empty(points):
    for style in latent_scatter.STYLES:
        assert not draw_scatter(points[0], (5.0, 6.0, 5.0, 6.0), SHAPE, style)[..., 3].any()
