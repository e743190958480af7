"""py4DSTEM datacubes become scans, and get their results back as datacubes and on their tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import dask.array as da
import emdfile
import h5py
import numpy as np
import py4DSTEM
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import latentstem
from latentstem.errors import (
    ArgumentError,
    MaskError,
    ModelMismatchError,
    ScanDimensionError,
    ScanShapeError,
    UnsupportedDataError,
)
from latentstem.hosts.py4dstem import scan_from_datacube
from latentstem.scan.scan import Axis

AXES = (
    Axis("Rx", 7, 0.3, 0.0, "nm"),
    Axis("Ry", 5, 0.3, 0.0, "nm"),
    Axis("Qx", 32, 0.02, 0.0, "1/angstrom"),
    Axis("Qy", 24, 0.02, 0.0, "1/angstrom"),
)


def calibrated(data, name="a cube"):
    cube = py4DSTEM.DataCube(data, name=name)
    cube.calibration.set_R_pixel_size(0.3)
    cube.calibration.set_R_pixel_units("nm")
    cube.calibration.set_Q_pixel_size(0.02)
    cube.calibration.set_Q_pixel_units("A^-1")
    return cube


@pytest.fixture
def cube(counts):
    return calibrated(counts)


def same_numbers(actual, expected):
    """Equal to rounding: patterns in chunks go through the network in another order than those in memory."""
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def save(path, node):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        py4DSTEM.save(str(path), node, mode="o")
    return path


# ---- datacube to scan


@pytest.fixture(params=["memory", "memmap", "h5py", "dask"])
def any_data(request, counts, tmp_path):
    if request.param == "memory":
        yield counts
    elif request.param == "memmap":
        np.save(tmp_path / "data.npy", counts)
        yield np.load(tmp_path / "data.npy", mmap_mode="r")
    elif request.param == "dask":
        yield da.from_array(counts, chunks=(3, 2, 32, 24))
    else:
        with h5py.File(tmp_path / "data.h5", "w") as file:
            yield file.create_dataset("data", data=counts, chunks=(2, 3, 32, 24))


def test_scan_has_the_patterns_and_the_calibration(any_data, counts):
    scan = latentstem.as_scan(calibrated(any_data))
    assert scan.scan_shape == (7, 5)
    assert scan.pattern_shape == (32, 24)
    assert scan.axes == AXES
    assert (scan.name, scan.dtype) == ("a cube", np.uint16)
    np.testing.assert_array_equal(scan.read([34, 0, 6]), counts[[6, 0, 1], [4, 0, 1]])


def test_uncalibrated_datacube(counts):
    scan = scan_from_datacube(py4DSTEM.DataCube(counts))
    assert [axis.name for axis in scan.axes] == ["Rx", "Ry", "Qx", "Qy"]
    assert {(axis.scale, axis.offset, axis.units) for axis in scan.axes} == {(1.0, 0.0, "")}


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(2, 4), st.integers(1, 4), st.integers(8, 11), st.integers(8, 11)),
    size=st.floats(1e-3, 1e3),
    units=st.sampled_from(
        [("A", "mrad", "angstrom", "mrad"), ("pixels", "pixels", "", ""), ("nm", "A^-1", "nm", "1/angstrom")]
    ),
    dtype=st.sampled_from(["u1", ">i2", "<u4", "f4", ">f8"]),
)
def test_any_shape_calibration_and_dtype(shape, size, units, dtype):
    data = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    cube = py4DSTEM.DataCube(data)
    cube.calibration.set_R_pixel_size(size)
    cube.calibration.set_R_pixel_units(units[0])
    cube.calibration.set_Q_pixel_units(units[1])
    scan = scan_from_datacube(cube, shape[:2])
    assert [axis.scale for axis in scan.axes] == [size, size, 1.0, 1.0]
    assert [axis.units for axis in scan.axes] == [units[2], units[2], units[3], units[3]]
    np.testing.assert_array_equal(scan.read(np.arange(scan.n_positions)), data.reshape(-1, *shape[2:]))


def test_one_row_of_patterns_with_scan_shape(counts):
    cube = calibrated(counts.reshape(35, 1, 32, 24))
    scan = latentstem.as_scan(cube, (7, 5))
    assert scan.axes == (Axis("y", 7), Axis("x", 5), *AXES[2:])
    np.testing.assert_array_equal(scan.read([33]), counts[6:, 3])
    with pytest.raises(ScanShapeError, match="expected 7 x 6 = 42 patterns; received 35"):
        latentstem.as_scan(cube, (7, 6))


def test_units_that_say_that_scan_and_detector_are_swapped():
    patterns = np.random.default_rng(0).poisson(3, (9, 10, 32, 24)).astype(np.uint16)
    datacube = py4DSTEM.DataCube(patterns.transpose(2, 3, 0, 1))
    datacube.calibration.set_R_pixel_units("A^-1")
    with pytest.raises(ScanDimensionError, match="scan and detector are swapped") as caught:
        latentstem.as_scan(datacube)
    call = "py4DSTEM.DataCube(datacube.data.transpose(2, 3, 0, 1))"
    assert call in caught.value.advice
    turned = latentstem.as_scan(eval(call))
    np.testing.assert_array_equal(turned.read([3]), patterns[:1, 3])


def test_other_objects_of_py4dstem_are_refused(cube):
    for other in (cube.root, emdfile.Array(np.zeros((7, 5, 32, 24)))):
        with pytest.raises(UnsupportedDataError, match=r"expected a py4DSTEM DataCube; received emdfile\."):
            latentstem.as_scan(other)


# ---- training


def test_training_through_a_datacube_is_training_on_its_array(any_data, embedding):
    cube = calibrated(any_data)
    trained = cube.train_autoencoder(epochs=1, latent_dim=3, progress=False)
    assert trained.scan_signature["axes"][0] == AXES[0].as_dict()
    same_numbers(latentstem.embed(cube, trained).maps, embedding.maps)


def test_masks_reach_training(cube, counts):
    masks = {"scan_mask": np.zeros((7, 5), bool), "pattern_mask": np.zeros((32, 24), bool)}
    masks["scan_mask"][1, 3] = masks["pattern_mask"][:4] = True
    arguments = {"epochs": 1, "latent_dim": 2, "progress": False}
    trained = cube.train_autoencoder(**masks, **arguments)
    expected = latentstem.train_autoencoder(counts, **masks, **arguments)
    np.testing.assert_array_equal(trained.embed(counts).maps, expected.embed(counts).maps)
    with pytest.raises(MaskError, match=r"shape \(7, 5\); received bool \(5, 7\)"):
        cube.train_autoencoder(scan_mask=masks["scan_mask"].T, **arguments)


# ---- latents on the tree


def check_latents(latents, embedding):
    assert type(latents) is emdfile.Array
    same_numbers(latents.data, np.moveaxis(embedding.maps, -1, 0))
    assert latents.data.dtype == np.float32
    assert tuple(latents.dim_names) == ("latent", "Rx", "Ry")
    assert tuple(latents.dim_units) == ("", "nm", "nm")
    for dim, expected in zip(latents.dims, (range(3), np.arange(7) * 0.3, np.arange(5) * 0.3), strict=True):
        np.testing.assert_allclose(dim, expected)
    provenance = json.loads(latents.metadata["latentstem"]["provenance"])
    assert provenance["config"]["latent_dim"] == 3
    assert provenance["applied_to"]["name"] == "a cube"


def test_latents_are_stored_and_returned(any_data, model, embedding):
    cube = calibrated(any_data)
    latents = cube.embed(model, name="my latents")
    assert cube.tree("my latents") is latents
    check_latents(latents, embedding)


def test_latents_survive_saving(cube, model, embedding, tmp_path):
    cube.embed(model)
    again = py4DSTEM.read(str(save(tmp_path / "cube.h5", cube)))
    assert isinstance(again, py4DSTEM.DataCube)
    check_latents(again.tree("latents"), embedding)


def test_latents_can_be_read_without_latentstem(cube, model, tmp_path):
    cube.embed(model)
    save(tmp_path / "cube.h5", cube)
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "latentstem":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import py4DSTEM
cube = py4DSTEM.read({str(tmp_path / "cube.h5")!r})
latents = cube.tree("latents")
assert not hasattr(cube, "embed") and "latentstem" not in sys.modules
print(type(latents).__name__, latents.data.shape, latents.dim_names)
print(latents.metadata["latentstem"]["provenance"])
"""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=environment,
        cwd=Path(tmp_path),
    )
    assert run.returncode == 0, run.stderr
    assert "Array (3, 7, 5)" in run.stdout
    assert "'latent', 'Rx', 'Ry'" in run.stdout
    assert '"latent_dim": 3' in run.stdout


def test_embedding_again_replaces_the_latents(cube, model, embedding, tmp_path):
    first = cube.embed(model)
    mask = np.zeros((7, 5), bool)
    mask[2, 4] = True
    second = cube.embed(model, scan_mask=mask)
    assert cube.tree("latents") is second is not first
    np.testing.assert_array_equal(np.isnan(second.data), np.broadcast_to(mask, (3, 7, 5)))
    again = py4DSTEM.read(str(save(tmp_path / "cube.h5", cube)))
    np.testing.assert_array_equal(again.tree("latents").data, second.data)
    check_latents(again.embed(model), embedding)


def test_other_nodes_are_not_replaced(cube, model):
    probe = emdfile.Array(np.zeros((32, 24)), name="probe")
    cube.attach(probe)
    with pytest.raises(ArgumentError, match="received 'probe', which is already a Array"):
        cube.embed(model, name="probe")
    assert cube.tree("probe") is probe
    for name in ("", "my/latents"):
        with pytest.raises(ArgumentError, match="without slashes"):
            cube.embed(model, name=name)


def test_latents_of_one_row_of_patterns(counts, model, embedding):
    latents = calibrated(counts.reshape(35, 1, 32, 24)).embed(model, scan_shape=(7, 5))
    np.testing.assert_array_equal(latents.data, np.moveaxis(embedding.maps, -1, 0))
    assert tuple(latents.dim_units) == ("", "pixels", "pixels")
    np.testing.assert_array_equal(latents.dims[1], np.arange(7))


@pytest.mark.parametrize("scan", [(2, 18), (18, 2), (1, 36)])
def test_latents_of_long_thin_scans_keep_their_calibration(scan, counts, model, tmp_path):
    patterns = np.concatenate([counts.reshape(35, 32, 24), counts[0, :1]])
    cube = calibrated(patterns.reshape(*scan, 32, 24))
    cube.embed(model)
    again = py4DSTEM.read(str(save(tmp_path / "cube.h5", cube))).tree("latents")
    assert again.data.shape == (3, *scan)
    for dim, size in zip(again.dims[1:], scan, strict=True):
        np.testing.assert_allclose(dim, np.arange(size) * 0.3)


# ---- reconstruction


def test_reconstruction_is_a_calibrated_datacube(any_data, model, reconstruction):
    cube = calibrated(any_data)
    cube.calibration.set_origin((np.full((7, 5), 15.0), np.full((7, 5), 11.0)))
    clean = cube.reconstruct(model)
    assert type(clean) is py4DSTEM.DataCube
    same_numbers(clean.data, reconstruction)
    assert clean.data.dtype == np.float32
    assert clean.name == "a cube"
    assert latentstem.as_scan(clean).axes == AXES
    for mine, theirs in zip(clean.dims, cube.dims, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert clean.dim_units == cube.dim_units
    np.testing.assert_array_equal(clean.calibration.get_qx0(), cube.calibration.get_qx0())


def test_the_calibration_is_copied(cube, model):
    cube.calibration.set_origin((np.full((7, 5), 15.0), np.full((7, 5), 11.0)))
    clean = cube.reconstruct(model)
    assert clean.root is not cube.root
    clean.calibration.set_R_pixel_size(9.0)
    clean.calibration.get_qx0()[:] = 0
    assert cube.calibration.get_R_pixel_size() == 0.3
    assert cube.dims[0][1] == 0.3
    assert (cube.calibration.get_qx0() == 15).all()


def test_the_reconstruction_can_be_saved_and_read(cube, model, reconstruction, tmp_path):
    again = py4DSTEM.read(str(save(tmp_path / "clean.h5", cube.reconstruct(model))))
    np.testing.assert_array_equal(again.data, reconstruction)
    assert latentstem.as_scan(again).axes == AXES


def test_excluded_positions_are_nan_in_reconstructions(cube, model):
    mask = np.zeros((7, 5), bool)
    mask[2, 4] = True
    np.testing.assert_array_equal(np.isnan(cube.reconstruct(model, scan_mask=mask).data[..., 0, 0]), mask)


def test_reconstruction_of_one_row_of_patterns(counts, model, reconstruction):
    clean = calibrated(counts.reshape(35, 1, 32, 24)).reconstruct(model, scan_shape=(7, 5))
    np.testing.assert_array_equal(clean.data, reconstruction.reshape(35, 1, 32, 24))


def test_model_from_a_file(cube, model, embedding, reconstruction, tmp_path):
    path = model.save(tmp_path / "ae.ckpt")
    check_latents(cube.embed(path), embedding)
    np.testing.assert_array_equal(cube.reconstruct(str(path)).data, reconstruction)


def test_patterns_of_another_shape_are_refused(counts, model):
    cube = calibrated(counts[..., :20])
    for method in (cube.embed, cube.reconstruct):
        with pytest.raises(ModelMismatchError, match=r"32 x 24 pixels.*received 32 x 20 pixels in 'a cube'"):
            method(model)
    assert "latents" not in cube.treekeys


def test_the_datacube_is_left_as_it_was(cube, model, counts):
    before = dict(cube.calibration._params)
    cube.train_autoencoder(epochs=1, latent_dim=2, progress=False)
    cube.reconstruct(model)
    assert cube.data is counts
    assert cube.calibration._params == before
    assert list(cube.treekeys) == []
