"""The model that a user holds: what it takes, what it gives, and what it refuses."""

from __future__ import annotations

import json
import warnings

import dask.array as da
import h5py
import numpy as np
import pytest
import torch

import latentstem
from helpers import maps, train
from latentstem.errors import MaskError, ModelMismatchError


@pytest.fixture(scope="module")
def model(scan):
    # with seed 0, what is learnt from the other positions of so small a scan does not help those held out
    return train(scan, epochs=50, context=1, seed=1)


def test_embedding(model, scan):
    embedding = model.embed(scan)
    assert embedding.maps.shape == (12, 10, 4)
    assert embedding.maps.dtype == np.float32
    assert [axis.size for axis in embedding.axes] == [12, 10]
    assert embedding.provenance["config"]["latent_dim"] == 4
    assert embedding.provenance["applied_to"]["pattern_shape"] == [16, 20]
    json.dumps(embedding.provenance)


def test_reconstruction_is_in_the_units_of_the_data(model, scan):
    rebuilt = model.reconstruct(scan)
    assert rebuilt.shape == scan.shape
    assert rebuilt.dtype == np.float32
    assert rebuilt.sum() == pytest.approx(scan.sum(), rel=0.03)
    mean = np.broadcast_to(scan.mean((0, 1)), scan.shape)
    clean = latentstem.simulate((12, 10), (16, 20), dose=300, n_grains=3).expectation
    assert np.mean((rebuilt - clean) ** 2) < 0.5 * np.mean((mean - clean) ** 2)


def test_reconstruct_is_decode_of_embed_without_smoothing(model, scan):
    np.testing.assert_allclose(
        model.decode(model.embed(scan, smooth=0).maps), model.reconstruct(scan), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 1, 3, 4), (0, 4), (300, 4)])
def test_decode_takes_any_leading_axes(model, shape):
    assert model.decode(np.zeros(shape)).shape == (*shape[:-1], 16, 20)
    assert model.decode(np.zeros(shape)).dtype == np.float32


@pytest.mark.parametrize("latents", [np.zeros((3, 5)), np.zeros(()), np.zeros((4, 3))])
def test_decode_refuses_other_latents(model, latents):
    with pytest.raises(ModelMismatchError, match=r"4 latents along the last axis; received shape \("):
        model.decode(latents)


# ---- every door ----


def test_every_door_gives_the_same_numbers(model, scan, tmp_path):
    want, rebuilt = maps(model, scan), model.reconstruct(scan)
    np.save(tmp_path / "scan.npy", scan)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        chunked = file.create_dataset("data", data=scan, chunks=(5, 3, 16, 20))
        doors = [
            tmp_path / "scan.npy",
            np.load(tmp_path / "scan.npy", mmap_mode="r"),
            chunked,
            da.from_array(scan, chunks=(4, 7, 16, 20)),
            torch.from_numpy(scan.astype("int32")),
            scan.astype(">u2"),
            scan.astype("float64"),
            np.asfortranarray(scan),
            latentstem.as_scan(scan),
        ]
        for data in doors:
            np.testing.assert_allclose(maps(model, data), want, atol=1e-5)
            np.testing.assert_allclose(model.reconstruct(data), rebuilt, atol=1e-3)
    stack = scan.reshape(120, 16, 20)
    np.testing.assert_array_equal(maps(model, stack, scan_shape=(12, 10)), want)


def test_functions_take_a_model_or_its_path(model, scan, tmp_path):
    path = model.save(tmp_path / "ae.ckpt")
    for held in (model, path, str(path)):
        np.testing.assert_array_equal(latentstem.embed(scan, held).maps, maps(model, scan))
        np.testing.assert_array_equal(latentstem.reconstruct(scan, held), model.reconstruct(scan))


def test_excluded_positions(model, scan):
    mask = np.zeros((12, 10), bool)
    mask[2:5, 3] = mask[11] = True
    spoilt = scan.copy()
    spoilt[mask] = 65535
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is said of intensities that nobody looks at
        one, other = (maps(model, data, scan_mask=mask) for data in (scan, spoilt))
    np.testing.assert_array_equal(one, other)
    assert np.isnan(one[mask]).all()
    assert np.isfinite(one[~mask]).all()
    np.testing.assert_array_equal(*(model.reconstruct(data, scan_mask=mask) for data in (spoilt, scan)))


def test_a_mask_of_another_shape_is_refused(model, scan):
    with pytest.raises(MaskError, match=r"shape \(12, 10\); received bool \(5, 7\)"):
        model.embed(scan, scan_mask=np.zeros((5, 7), bool))


# ---- what it does not fit ----


def test_another_pattern_shape_is_refused(model, scan):
    for use in (model.embed, model.reconstruct):
        with pytest.raises(
            ModelMismatchError, match=r"expected 16 x 20 pixels, .*received 18 x 20 pixels in 'scan'.*Crop"
        ):
            use(np.pad(scan, ((0, 0), (0, 0), (1, 1), (0, 0))))


def test_swapped_detector_axes_are_refused(model, scan):
    with pytest.raises(ModelMismatchError, match="received 20 x 16 pixels"):
        model.embed(scan.swapaxes(2, 3))


@pytest.mark.parametrize("factor", [30, 1 / 30])
def test_intensities_far_off_are_warned_about(model, scan, factor):
    with pytest.warns(
        UserWarning,
        match=r"\(float64\) have a mean total intensity of .*, the training scan \(uint16\) of 29",
    ):
        model.embed(scan * float(factor))


def test_like_intensities_are_not(model, scan):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.embed(scan[::2, :7] * 3)


# ---- what it tells of itself ----


def test_description(model):
    told = model.describe()
    assert set(told) == {"format_version", "config", "preprocessing", "trained_on", "versions"}
    assert told["trained_on"]["scan_shape"] == [12, 10]
    assert told["trained_on"]["dtype"] == "uint16"
    assert model.scan_signature == told["trained_on"]
    assert model.versions == told["versions"]
    assert model.pattern_shape == (16, 20)
    json.dumps(told)
    assert "auto" not in told["config"].values() or told["config"]["device"] == "auto"
    assert repr(model) == "LatentModel(compact, 4 latents, 16 x 20 pixels, poisson)"


def test_what_is_handed_out_is_a_copy(model):
    model.scan_signature["scan_shape"] = None
    model.versions["torch"] = None
    assert model.scan_signature["scan_shape"] == [12, 10]
    assert model.versions["torch"]


def test_using_a_model_changes_nothing(model, scan):
    before = {name: value.clone() for name, value in model.autoencoder.state_dict().items()}
    generator = torch.get_rng_state()
    first, second = maps(model, scan), maps(model, scan)
    np.testing.assert_array_equal(first, second)
    assert torch.equal(torch.get_rng_state(), generator)
    for name, value in model.autoencoder.state_dict().items():
        assert torch.equal(value, before[name])
    assert not model.autoencoder.training


def test_progress_is_shown_where_asked_for(model, scan, capsys):
    model.embed(scan)
    assert capsys.readouterr().err == ""
    model.embed(scan, progress=True)
    assert "120/120" in capsys.readouterr().err
