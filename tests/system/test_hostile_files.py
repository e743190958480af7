"""Files from strangers: nothing in them is executed, nothing outside is read, nothing absurd is allocated."""

from __future__ import annotations

import gc
import json
import os
import pickle
import sys
import tarfile
import time
import zipfile

import h5py
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import latentstem
from helpers import Payload, train
from latentstem.cli import app
from latentstem.errors import CheckpointError, FileError, LatentSTEMError, UnsupportedDataError
from latentstem.io.checkpoint import read_checkpoint, write_checkpoint

SHAPE = (7, 5, 32, 24)


@pytest.fixture(params=["", "1"], ids=["", "no_weights_only"])
def forced(request, monkeypatch):
    """torch as it is, and told to unpickle everything."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", request.param)


@pytest.fixture
def trace(tmp_path):
    """What a payload makes; gone again at the end, or the test has failed."""
    trace = tmp_path / "executed"
    yield trace
    assert not trace.exists()


@pytest.fixture(scope="module")
def model_file(scan, tmp_path_factory):
    return train(scan, epochs=1).save(tmp_path_factory.mktemp("model") / "ae.ckpt")


def objects(trace):
    array = np.empty(SHAPE, object)
    array[...] = Payload(trace)
    return array


def npy(path, trace):
    np.save(path.with_suffix(".npy"), objects(trace))
    return path.with_suffix(".npy")


def npz(path, trace):
    np.savez(path.with_suffix(".npz"), data=objects(trace))
    return path.with_suffix(".npz")


def npz_beside_the_data(path, trace):
    np.savez(path.with_suffix(".npz"), data=np.ones(SHAPE), axes=np.array(Payload(trace), object))
    return path.with_suffix(".npz")


def bare_pickle(suffix):
    def write(path, trace):
        path = path.with_suffix(suffix)
        path.write_bytes(pickle.dumps(Payload(trace)))
        return path

    return write


def torch_file(suffix, zipped):
    def write(path, trace):
        content = {"data": torch.ones(SHAPE), "state_dict": {}, "evil": Payload(trace)}
        torch.save(content, path.with_suffix(suffix), _use_new_zipfile_serialization=zipped)
        return path.with_suffix(suffix)

    return write


def torch_tar(path, trace):
    """The format of torch before 0.1.10."""
    path = path.with_suffix(".pt")
    with tarfile.open(path, "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            inside = path.with_name(name)
            inside.write_bytes(pickle.dumps(Payload(trace)))
            archive.add(inside, name)
    return path


DATA = {
    "npy": npy,
    "npz": npz,
    "npz_axes": npz_beside_the_data,
    "pt_zip": torch_file(".pt", True),
    "pt_legacy": torch_file(".pt", False),
    "pt_tar": torch_tar,
    **{f"pickle{suffix}": bare_pickle(suffix) for suffix in (".npy", ".npz", ".pt", ".h5", ".pkl", ".mrc")},
}


@pytest.mark.usefixtures("forced")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # hosts leave files open
@pytest.mark.parametrize("kind", DATA)
def test_no_pickle_in_data_is_executed(tmp_path, trace, model_file, kind):
    path = DATA[kind](tmp_path / "evil", trace)
    for verb in (
        latentstem.as_scan,
        lambda path: latentstem.embed(path, model_file),
        lambda path: latentstem.train_autoencoder(path, progress=False),
        latentstem.Embedding.load,
    ):
        with pytest.raises(LatentSTEMError, match="expected"):
            verb(path)
    gc.collect()  # the files that hosts leave open, while their warnings are ignored


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("kind", ["npy", "pt_zip", "pickle.npy"])
def test_no_pickle_is_executed_by_the_command_line(tmp_path, trace, model_file, kind):
    path, good = DATA[kind](tmp_path / "evil", trace), tmp_path / "good.npy"
    np.save(good, np.ones(SHAPE))
    out = ["--output", str(tmp_path / "out.npz")]
    for arguments in (
        ["info", path],
        ["train", "--data", path, "--output_dir", tmp_path / "out"],
        ["embed", "--data", path, "--model", model_file, *out],
        ["reconstruct", "--data", path, "--model", model_file, *out],
        ["report", model_file, "--data", path],
        ["info", good, "--scan_mask", path],
        ["embed", "--data", good, "--model", model_file, "--scan_mask", path, *out],
        ["train", "--data", good, "--pattern_mask", path, "--output_dir", tmp_path / "out"],
    ):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_no_pickle_in_a_model_is_executed(tmp_path, trace, model_file, scan, kind):
    path = tmp_path / "evil.ckpt"
    content = {**read_checkpoint(model_file), "evil": Payload(trace), "optimizer_states": []}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    for verb in (
        latentstem.load,
        latentstem.Autoencoder.load_from_checkpoint,
        lambda path: latentstem.embed(scan, path),
        lambda path: train(scan, init_from=path),
        lambda path: train(scan, resume_from=path),
    ):
        with pytest.raises(CheckpointError, match="cannot be read"):
            verb(path)
    for arguments in (["info", path], ["embed", "--data", "none.npy", "--model", path]):
        assert CliRunner().invoke(app, [str(argument) for argument in arguments]).exit_code == 2


def test_expressions_in_hyperspy_files_are_not_evaluated(tmp_path, trace):
    """HyperSpy evaluates the expression of an axis when it loads the file."""
    hs = pytest.importorskip("hyperspy.api")
    zarr = pytest.importorskip("zarr")
    axis = {"_type": "FunctionalDataAxis", "expression": f"__import__('os').mkdir({str(trace)!r}) + x"}
    for suffix in (".hspy", ".zspy"):
        path = tmp_path / f"evil{suffix}"
        hs.signals.Signal2D(np.ones(SHAPE)).save(path)
        file = h5py.File(path, "r+") if suffix == ".hspy" else zarr.open(str(path), mode="r+")
        group = file["Experiments/__unnamed__"]
        group.attrs["package"] = "antigravity"
        for name in ("scale", "offset"):
            del group["axis-0"].attrs[name]
        group["axis-0"].attrs.update(axis)
        if suffix == ".hspy":
            file.close()
        with pytest.raises(UnsupportedDataError, match="non-uniform axis"):
            latentstem.as_scan(path)
    (tmp_path / "evil.hspy").rename(tmp_path / "evil.hdf5")
    with pytest.raises(UnsupportedDataError, match="non-uniform axis"):
        latentstem.as_scan(tmp_path / "evil.hdf5")
    assert "antigravity" not in sys.modules


def test_kinds_of_files_that_hyperspy_would_execute(tmp_path, trace):
    pytest.importorskip("hyperspy.api")
    (tmp_path / "a.nc").write_bytes(b"CDF\x01 history = __import__('os').mkdir()")
    with pytest.raises(FileError, match=r"can execute code.*netCDF.*If you trust its source"):
        latentstem.as_scan(tmp_path / "a.nc")
    with zipfile.ZipFile(tmp_path / "a.zspy", "w") as archive:
        archive.writestr(".zgroup", '{"zarr_format": 2}')
    with pytest.raises(FileError, match="cannot be read"):
        latentstem.as_scan(tmp_path / "a.zspy")


@pytest.mark.parametrize("place", ["filters", "compressor"])
def test_pickles_in_chunks_of_zarr(tmp_path, trace, place):
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "a.zarr"
    zarr.open(str(path), mode="w", shape=SHAPE, chunks=SHAPE, dtype="u1", compressor=None)[:] = 1
    about = json.loads((path / ".zarray").read_text())
    codec = {"id": "pickle", "protocol": 5}
    about[place] = [codec] if place == "filters" else codec
    (path / ".zarray").write_text(json.dumps(about))
    (path / "0.0.0.0").write_bytes(pickle.dumps(Payload(trace)))
    for data in (path, zarr.open(str(path), mode="r")):
        with pytest.raises(FileError, match=r"chunks are pickles.*without the codec 'pickle'"):
            latentstem.as_scan(data)


# ---- other files ----


def linked(path, outside, how):
    with h5py.File(path, "w", libver="latest") as file:
        if how == "external storage":
            file.create_dataset("scan", SHAPE, "u1", external=[(str(outside), 0, h5py.h5f.UNLIMITED)])
        elif how == "virtual":
            layout = h5py.VirtualLayout(SHAPE, "u1")
            layout[:] = h5py.VirtualSource(str(outside), "scan", SHAPE)
            file.create_virtual_dataset("scan", layout)
        elif how == "frames":
            file["entry/data/data_000001"] = h5py.ExternalLink(str(outside), "scan")
        else:
            file["Experiments"] = h5py.ExternalLink(str(outside), "/")


@pytest.mark.parametrize("how", ["external storage", "virtual", "frames", "link"])
@pytest.mark.parametrize("target", ["file", "relative", "fifo", "/dev/zero", "chain"])
def test_hdf5_files_that_point_outside_their_folder(tmp_path, how, target):
    folder = tmp_path / "downloaded"
    folder.mkdir()
    outside = tmp_path / "secret.h5"
    with h5py.File(outside, "w") as file:
        file["scan"] = np.arange(np.prod(SHAPE), dtype="u1").reshape(SHAPE)
    if target == "fifo":
        outside.unlink()
        os.mkfifo(outside)
    place = {"relative": "../secret.h5", "/dev/zero": "/dev/zero"}.get(target, outside)
    if target == "chain":
        linked(folder / "between.h5", outside, how)
        place = "between.h5"
    linked(folder / "a.h5", place, how if target != "chain" else "link")
    with pytest.raises(FileError, match=r"links outside its folder.*files in its folder"):
        latentstem.as_scan(folder / "a.h5", (7, 5))


def test_hdf5_files_that_point_to_files_beside_them(tmp_path, monkeypatch):
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    with h5py.File(folder / "b.h5", "w") as file:
        file["scan"] = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 251
    linked(folder / "a.h5", "b.h5", "virtual")
    monkeypatch.chdir(elsewhere)
    scan = latentstem.as_scan(folder / "a.h5")
    np.testing.assert_array_equal(scan.read(np.arange(35)).ravel(), np.arange(np.prod(SHAPE)) % 251)
    (folder / "b.h5").rename(elsewhere / "b.h5")  # where HDF5 would find it, of which nobody would know
    with pytest.raises(FileError, match="links outside its folder"):
        latentstem.as_scan(folder / "a.h5")


# ---- absurd sizes, and damage ----


def npy_header(shape):
    return (
        b"\x93NUMPY\x01\x00"
        + (118).to_bytes(2, "little")
        + (f"{{'descr': '<u2', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n")
    )


def absurd_npz(path, shape):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.npy", npy_header(shape) + bytes(99))


def absurd_hdf5(path, shape):
    with h5py.File(path, "w") as file:
        file.create_dataset("scan", shape, "u2", chunks=(1, 1, 8, 8))


def absurd_zarr(path, shape):
    pytest.importorskip("zarr").open(str(path), mode="w", shape=shape, dtype="u2", chunks=(1, 1, 8, 8))


def absurd_pt(path, shape):
    torch.save(torch.ones(1, dtype=torch.uint8).expand(shape), path)


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        (".npy", lambda path, shape: path.write_bytes(npy_header(shape) + bytes(99))),
        (".npz", absurd_npz),
        (".h5", absurd_hdf5),
        (".zarr", absurd_zarr),
        (".pt", absurd_pt),
    ],
)
@pytest.mark.parametrize("shape", [(2**20, 2**20, 2**10, 2**10), (2, 2, 2**28, 2**29), (2**30, 2**20, 8, 8)])
def test_absurd_sizes_of_data(tmp_path, suffix, write, shape):
    write(tmp_path / f"a{suffix}", shape)
    start = time.monotonic()
    with pytest.raises(LatentSTEMError, match=r"expected.*received"):
        latentstem.as_scan(tmp_path / f"a{suffix}")
    assert time.monotonic() - start < 5


def set_at(*path_and_value):
    *path, last, value = path_and_value

    def change(content):
        for key in path:
            content = content[key]
        content[last] = value

    return change


def laughs():
    """Three to the power of forty values in forty lists."""
    value = ["ha"]
    for _ in range(40):
        value = [value, value, value]
    return value


def expand(content):
    shape = (2**20, 2**20)
    content["hyper_parameters"]["pattern_shape"] = list(shape)
    for name, tensor in content["state_dict"].items():
        if tensor.ndim == 2 and "detector" in name:
            content["state_dict"][name] = torch.ones(1).expand(shape)


@pytest.mark.parametrize(
    "change",
    [
        set_at("hyper_parameters", "config", "latent_dim", 10**9),
        set_at("hyper_parameters", "pattern_shape", [10**6, 10**6]),
        set_at("hyper_parameters", "pattern_shape", [2**28, 2**28]),
        set_at("hyper_parameters", "pattern_shape", [10**60, 8]),
        set_at("hyper_parameters", "pattern_shape", [-16, 20]),
        set_at("hyper_parameters", "pattern_shape", "16"),
        set_at("hyper_parameters", "config", "bin", 10**30),
        set_at("hyper_parameters", "config", "network", "resnet"),
        set_at("hyper_parameters", "scan", laughs()),
        set_at("hyper_parameters", "scan", "name", 5),
        set_at("hyper_parameters", "choices", [laughs()]),
        set_at("latentstem", "history", "loss", "nothing"),
        set_at("latentstem", "versions", 3),
        set_at("latentstem", "summary", {"figures": 1}),
        set_at("latentstem", "evidence", [1]),
        set_at("state_dict", "network.surplus", torch.ones(3)),
        set_at("state_dict", 3),
        expand,
    ],
)
def test_absurd_values_in_a_model(model_file, tmp_path, change):
    content = read_checkpoint(model_file)
    change(content)
    path = write_checkpoint(content, tmp_path / "a.ckpt")
    start = time.monotonic()
    with pytest.raises(CheckpointError, match=r"incomplete or altered.*another copy"):
        latentstem.load(path)
    assert time.monotonic() - start < 5


def test_a_flipped_bit_anywhere_is_found_or_harmless(model_file, tmp_path, scan):
    """Also one in a weight, which torch would not notice."""
    whole, path = model_file.read_bytes(), tmp_path / "a.ckpt"
    first, refused = latentstem.embed(scan, model_file).maps, 0
    for place in np.random.default_rng(0).integers(0, 8 * len(whole), 25):
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        try:
            np.testing.assert_array_equal(latentstem.embed(scan, path).maps, first)
        except CheckpointError as error:
            refused += "checksum mismatch" in str(error) or "cannot be read" in str(error)
    assert refused > 15


def test_zipped_again(model_file, tmp_path):
    """Compressed parts could grow a thousandfold."""
    path = tmp_path / "a.ckpt"
    with zipfile.ZipFile(model_file) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.infolist():
            new.writestr(part.filename, old.read(part))
    with pytest.raises(CheckpointError, match="its zip entries are compressed"):
        latentstem.load(path)


def test_a_file_that_is_still_written_to(tmp_path):
    """Its chunks are not in the file yet, which is no damage."""
    data = np.random.default_rng(0).integers(0, 99, SHAPE)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("scan", data=data, chunks=(2, 2, 32, 24), compression="gzip")
        scan = latentstem.as_scan(dataset)
        np.testing.assert_array_equal(scan.read(np.arange(35)).reshape(SHAPE), data)
