"""Latent maps: they fit their axes, and survive their file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentstem import Embedding
from latentstem.errors import ArgumentError, FileError
from latentstem.inference.smoothing import smooth_maps
from latentstem.scan.scan import Axis

AXES = (Axis("Rx", 7, 0.5, -1.0, "nm"), Axis("Ry", 5, 0.25, 2.0, "nm"))
PROVENANCE = {
    "config": {"latent_dim": 3, "crop": None},
    "scan": {"axes": [{"name": "Rx"}]},
    "versions": {"torch": "2"},
}


@pytest.fixture
def embedding():
    maps = np.random.default_rng(0).normal(size=(7, 5, 3)).astype(np.float32)
    maps[2, 4] = np.nan
    return Embedding(maps, AXES, PROVENANCE)


def test_file_keeps_everything(embedding, tmp_path):
    path = embedding.save(tmp_path / "latents.npz")
    again = Embedding.load(path)
    assert path == tmp_path / "latents.npz"
    assert again.maps.dtype == np.float32
    np.testing.assert_array_equal(again.maps, embedding.maps)
    assert again.axes == AXES
    assert again.provenance == PROVENANCE
    assert again.latent_dim == 3


@settings(max_examples=20, deadline=None)
@given(
    name=st.text(max_size=20),
    units=st.text(max_size=8),
    scale=st.floats(allow_nan=False, allow_infinity=False),
    offset=st.floats(allow_nan=False, allow_infinity=False),
    k=st.integers(1, 4),
)
def test_any_calibration_survives_the_file(tmp_path_factory, name, units, scale, offset, k):
    axes = (Axis(name, 2, scale, offset, units), Axis("x", 3))
    path = Embedding(np.zeros((2, 3, k), np.float32), axes).save(tmp_path_factory.mktemp("e") / "e.npz")
    assert Embedding.load(path).axes == axes


def test_suffix_is_added_once(embedding, tmp_path):
    assert embedding.save(str(tmp_path / "run.2")).name == "run.2.npz"


def test_file_opens_without_latentstem_and_without_pickles(embedding, tmp_path):
    with np.load(embedding.save(tmp_path / "latents.npz"), allow_pickle=False) as file:
        assert file["maps"].shape == (7, 5, 3)
        assert [axis["scale"] for axis in json.loads(str(file["axes"]))] == [0.5, 0.25]


def test_smoothing_starts_from_each_positions_own_latents():
    y, x = np.mgrid[:16, :12] / 10
    noise = 0.05 * np.random.default_rng(0).normal(size=(16, 12, 2))
    own = (np.stack([y, x - y], -1) + noise).astype(np.float32)
    embedding = Embedding(own, (Axis("Ry", 16), Axis("Rx", 12)), PROVENANCE)
    twice = embedding.smoothed(3).smoothed(1)
    np.testing.assert_array_equal(twice.maps, smooth_maps(own, 1))
    np.testing.assert_array_equal(twice.unsmoothed, own)
    assert twice.provenance == {**PROVENANCE, "smooth": 1}
    assert twice.axes == embedding.axes
    back = twice.smoothed(0)
    np.testing.assert_array_equal(back.maps, own)
    assert back.unsmoothed is back.maps
    assert back.provenance["smooth"] == 0
    assert embedding.provenance == PROVENANCE


def test_latents_that_were_written_smoothed_are_not_smoothed_again(embedding, tmp_path):
    read = Embedding.load(embedding.smoothed(2).save(tmp_path / "latents.npz"))
    assert read.unsmoothed is None
    with pytest.raises(ArgumentError) as error:
        read.smoothed(1)
    assert "latents are already smoothed" in str(error.value)
    assert "received latents smoothed with radius 2" in str(error.value)
    assert "model.embed(data, smooth=...)" in str(error.value)
    written = Embedding.load(embedding.smoothed(0).save(tmp_path / "own.npz"))
    assert written.smoothed(1).provenance["smooth"] == 1
    with pytest.raises(ArgumentError, match="smooth is not a radius"):
        embedding.smoothed(-1)


@pytest.mark.parametrize("maps", [np.zeros((5, 7, 3)), np.zeros((3, 7, 5)), np.zeros((7, 5))])
def test_maps_of_another_shape_are_refused(maps):
    with pytest.raises(ArgumentError, match=r"of shape \(7, 5\)"):
        Embedding(maps.astype(np.float32), AXES)


def test_maps_of_another_dtype_are_refused():
    with pytest.raises(ArgumentError, match="received float64 maps"):
        Embedding(np.zeros((7, 5, 3)), AXES)


def test_missing_file(tmp_path):
    with pytest.raises(FileError, match=r"nothing\.npz.*FileNotFoundError"):
        Embedding.load(tmp_path / "nothing.npz")


def test_other_file(tmp_path):
    np.savez(tmp_path / "other.npz", data=np.zeros(3))
    np.save(tmp_path / "other.npy", np.zeros(3))
    for name in ("other.npz", "other.npy"):
        with pytest.raises(FileError, match=r"written by Embedding\.save"):
            Embedding.load(tmp_path / name)


def test_damaged_file(embedding, tmp_path):
    path = embedding.save(tmp_path / "latents.npz")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(FileError, match="cannot read latent maps"):
        Embedding.load(path)


def test_pickled_content_is_refused(tmp_path):
    axes = json.dumps([axis.as_dict() for axis in AXES])
    np.savez(tmp_path / "evil.npz", maps=np.array([{}], dtype=object), axes=axes, provenance="{}")
    with pytest.raises(FileError, match="allow_pickle=False"):
        Embedding.load(tmp_path / "evil.npz")
