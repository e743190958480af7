"""Projections of latents, and clusters."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from latentstem import Embedding
from latentstem.errors import ArgumentError
from latentstem.scan.scan import Axis
from napari_latentstem.model import clustering, latent_scatter
from napari_latentstem.model import latent_space as space


@pytest.fixture
def blobs():
    """Three groups of 300, 150 and 60 points in five dimensions, and which is which."""
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [300, 150, 60])
    middles = np.array([[0, 0, 0, 0, 0], [9, 0, 4, 0, 0], [0, 9, 0, 4, 0]])
    points = middles[truth] + rng.normal(size=(510, 5))
    order = rng.permutation(510)
    return points[order].astype(np.float32), truth[order]


def test_the_table_leaves_out_excluded_positions():
    maps = np.arange(7 * 5 * 3, dtype=np.float32).reshape(7, 5, 3)
    maps[2, 4], maps[0, 0] = np.nan, np.nan
    table, positions = space.latent_table(Embedding(maps, (Axis("y", 7), Axis("x", 5))))
    assert table.shape == (33, 3)
    assert 0 not in positions
    assert 2 * 5 + 4 not in positions
    np.testing.assert_array_equal(table[0], maps[0, 1])
    back = clustering.label_map(np.ones(33, int), positions, (7, 5))
    np.testing.assert_array_equal(back == 0, np.isnan(maps[..., 0]))
    assert back.dtype == np.int32


def test_two_latents_are_shown_as_they_are(blobs):
    table, _ = blobs
    shown = space.project(table, "two latents", (3, 1))
    np.testing.assert_array_equal(shown.xy, table[:, [3, 1]])
    assert shown.axis_labels == ("latent 3", "latent 1")
    assert shown.latents == (3, 1)


def test_pca_shows_the_most_variance_first(blobs):
    table, _ = blobs
    xy, names, latents = space.project(table, "PCA")
    assert latents is None
    singular = np.linalg.svd(table - table.mean(0), compute_uv=False)
    np.testing.assert_allclose(xy.std(0) * np.sqrt(510), singular[:2], rtol=1e-3)
    share = singular[0] ** 2 / (singular**2).sum()
    assert names[0] == f"PC 1 ({share:.0%} of the variance)"


def test_umap_that_is_missing_says_what_to_install(blobs, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ArgumentError, match="pip install umap-learn"):
        space.project(blobs[0], "UMAP")


@pytest.mark.parametrize("most", [100, 1000])
def test_umap_is_fitted_to_part_of_many_points(blobs, monkeypatch, most):
    class UMAP:
        def __init__(self, **arguments):
            assert arguments["n_components"] == 2

        def fit(self, table):
            assert len(table) <= most
            self.embedding_ = table[:, :2]
            return self

        def transform(self, table):
            return table[:, :2]

    fake = ModuleType("umap")
    fake.UMAP = UMAP
    monkeypatch.setitem(sys.modules, "umap", fake)
    monkeypatch.setattr(space, "_UMAP_POINTS", most)
    xy, names, _ = space.project(blobs[0], "UMAP")
    np.testing.assert_array_equal(xy, blobs[0][:, :2])
    assert names == ("UMAP 1", "UMAP 2")


@pytest.mark.parametrize("shape", [(10, 1), (2, 4)])
def test_too_little_to_project_is_refused(shape):
    with pytest.raises(
        ArgumentError, match=rf"2 latents and 3 scan positions.*received {shape[1]} latents of"
    ):
        space.project(np.ones(shape, np.float32), "PCA")


def test_the_view_holds_nearly_all_points_and_survives_a_constant():
    xy = np.random.default_rng(0).normal(size=(5000, 2)).astype(np.float32)
    xy[0] = 1e6
    x0, x1, y0, y1 = space.view_limits(xy)
    held = (xy[:, 0] > x0) & (xy[:, 0] < x1) & (xy[:, 1] > y0) & (xy[:, 1] < y1)
    assert 0.99 < held.mean() < 1
    assert x1 < 10
    x0, x1, y0, y1 = space.view_limits(np.full((10, 2), 3.0, np.float32))
    assert x0 < 3 < x1
    assert y0 < 3 < y1


def test_points_fall_into_pixels_with_up_upwards():
    xy = np.array([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9], [2.0, 0.5], [0.5, -0.1]], np.float32)
    where = latent_scatter.pixel_index(xy, (0, 1, 0, 1), (2, 4))
    assert where.tolist() == [4, 7, 0, -1, -1]


def test_later_points_cover_earlier_ones_and_grow_to_disks():
    where = np.array([14, 14, 0, -1])
    seen = latent_scatter.topmost_points(where, (4, 7), 0, np.array([0, 1, 2, 3]))
    assert seen[2, 0] == 1
    assert seen[0, 0] == 2
    assert (seen >= 0).sum() == 2
    assert latent_scatter.topmost_points(where, (4, 7), 0, np.array([1, 0]))[2, 0] == 0
    disk = latent_scatter.topmost_points(np.array([17]), (5, 7), 1, np.array([0]))
    assert (disk == 0).sum() == 9
    assert disk[2, 3] == 0
    assert (latent_scatter.topmost_points(where, (4, 7), 1, np.array([], int)) == -1).all()


def test_the_lasso_takes_what_lies_inside(blobs):
    xy = blobs[0][:, :2]
    square = np.array([[5, -9], [14, -9], [14, 5], [5, 5]], float)
    wanted = (xy[:, 0] > 5) & (xy[:, 0] < 14) & (xy[:, 1] > -9) & (xy[:, 1] < 5)
    np.testing.assert_array_equal(space.in_polygon(xy, square), wanted)
    assert wanted.any()
    assert not space.in_polygon(xy, square[:2]).any()


@pytest.mark.parametrize("method", clustering.CLUSTERINGS)
@pytest.mark.parametrize("fitted", [None, 200])
def test_clusters_are_found_and_numbered_by_size(blobs, method, fitted, monkeypatch):
    table, truth = blobs
    if fitted:
        monkeypatch.setattr(clustering, "_FIT_POINTS", fitted)
        monkeypatch.setattr(clustering, "_HDBSCAN_POINTS", fitted)
    scaled = table * np.array([1, 1, 1, 1, 0.01], np.float32)  # the units of a latent must not matter
    labels = clustering.cluster(scaled, method, 3)
    sure = labels > 0
    assert sure.mean() > 0.7
    assert adjusted_rand_score(truth[sure], labels[sure]) > 0.95
    assert labels.dtype == np.int32
    assert np.all(np.diff(np.bincount(labels)[1:]) <= 0), "the largest cluster is number 1"


def test_points_of_no_cluster_are_zero():
    points = np.random.default_rng(1).normal(size=(200, 2)).astype(np.float32)
    points = np.concatenate([points, points + 30, [[-40.0, 60.0]]]).astype(np.float32)
    labels = clustering.cluster(points, "HDBSCAN")
    assert labels.max() == 2
    assert labels[-1] == 0


@pytest.mark.parametrize("wanted", [0, 11])
def test_more_clusters_than_positions_are_refused(wanted):
    with pytest.raises(ArgumentError, match=f"1 to 10 clusters.*received {wanted} clusters"):
        clustering.cluster(np.ones((10, 3), np.float32), "k-means", wanted)


def test_clusters_are_the_same_each_time(blobs):
    table, _ = blobs
    for method in clustering.CLUSTERINGS:
        np.testing.assert_array_equal(
            clustering.cluster(table, method, 4), clustering.cluster(table, method, 4)
        )


def test_features_describe_each_cluster():
    labels = np.array([1, 1, 2, 0, 2, 1])
    table = np.arange(12, dtype=np.float32).reshape(6, 2)
    found = clustering.cluster_features(labels, table)
    assert found["index"].tolist() == found["label"].tolist() == [1, 2]
    assert found["positions"].tolist() == [3, 2]
    np.testing.assert_allclose(found["share"], [3 / 6, 2 / 6])
    np.testing.assert_allclose(found["latent 1"], [table[[0, 1, 5], 1].mean(), table[[2, 4], 1].mean()])


def test_nothing_is_said_of_no_cluster():
    found = clustering.cluster_features(np.zeros(4, int), np.ones((4, 2), np.float32))
    assert all(len(column) == 0 for column in found.values())


def test_features_of_positions_hold_latents_and_cluster():
    table = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert list(clustering.position_features(table)) == ["latent 0", "latent 1"]
    found = clustering.position_features(table, np.array([2, 1, 0]))
    assert found["cluster"].tolist() == [2, 1, 0]
    assert found["latent 1"].tolist() == [1, 3, 5]
