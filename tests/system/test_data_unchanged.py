"""What the user has is as it was: after every verb, after errors, and after Ctrl-C at any reading of it."""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import dask.array as da
import h5py
import hyperspy.api as hs
import numpy as np
import py4DSTEM
import pytest
import pytorch_lightning as L
import torch
import zarr
from typer.testing import CliRunner

import latentstem
from helpers import train
from latentstem import TrainingConfig
from latentstem.cli import app
from latentstem.errors import FileError, LatentSTEMError
from latentstem.report.report import write_report
from latentstem.scan.scan import Scan


class Held(NamedTuple):
    """Something of the user's, and what tells whether it is as it was."""

    data: Any
    state: Callable[[], Any]


def digest(array: Any) -> tuple[Any, ...]:
    """Bytes, type, layout and flags of an array, and of what it is a view of."""
    array = np.asarray(array)
    base = array.base if isinstance(array.base, np.ndarray) else array
    flags = array.flags.writeable, array.flags.c_contiguous, array.flags.f_contiguous
    place = array.__array_interface__["data"]
    return (
        hashlib.sha256(array.tobytes()).hexdigest(), hashlib.sha256(base.tobytes()).hexdigest(),
        str(array.dtype), array.shape, array.strides, flags, place,
    )  # fmt: skip


def files(folder: Path) -> dict[str, tuple[str, int]]:
    """Bytes and time of change of every file."""
    return {
        str(p.relative_to(folder)): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


# ---- what users have ----


def c_order(counts, folder):
    return holding(counts.copy())


def fortran_order(counts, folder):
    return holding(np.asfortranarray(counts))


def every_second(counts, folder):
    padded = np.full((counts.shape[0], 2 * counts.shape[1], *counts.shape[2:]), 9, counts.dtype)
    padded[:, ::2] = counts
    return holding(padded[:, ::2])


def big_endian_floats(counts, folder):
    return holding(counts.astype(">f4"))


def holding(array):
    return Held(array, lambda: digest(array))


def writable_memmap(counts, folder):
    np.save(folder / "scan.npy", counts)
    mapped = np.load(folder / "scan.npy", mmap_mode="r+")
    return Held(mapped, lambda: (digest(mapped), files(folder), mapped.mode))


def tensor(counts, folder):
    made = torch.from_numpy(counts.astype(np.float32)).requires_grad_()

    def state():
        return digest(made.detach().numpy()), made.requires_grad, made._version, made.grad, made.is_leaf

    return Held(made, state)


def hdf5_dataset(counts, folder):
    file = h5py.File(folder / "scan.h5", "a")
    made = file.create_dataset("counts", data=counts, chunks=(3, 2, *counts.shape[2:]))
    made.attrs["dose"] = 300.0
    file.flush()
    return Held(made, lambda: (digest(made[()])[0], dict(made.attrs), file.mode, bool(file), files(folder)))


def zarr_array(counts, folder):
    made = zarr.open(
        str(folder / "scan.zarr"), "w", shape=counts.shape, dtype=counts.dtype, chunks=(3, 2, 16, 20)
    )
    made[:] = counts
    made.attrs["dose"] = 300.0
    return Held(made, lambda: (digest(made[:])[0], dict(made.attrs), files(folder)))


def dask_array(counts, folder):
    stored = counts.copy()
    made = da.from_array(stored, chunks=(3, 4, 16, 20))
    return Held(made, lambda: (digest(stored), made.name, made.chunks, len(made.dask)))


def hyperspy_signal(counts, folder):
    return held_signal(hs.signals.Signal2D(counts.copy()))


def lazy_signal(counts, folder):
    return held_signal(hs.signals.Signal2D(counts.copy()).as_lazy())


def held_signal(signal):
    for axis, unit in zip(signal.axes_manager._axes, ("nm", "nm", "1/nm", "1/nm"), strict=True):
        axis.scale, axis.offset, axis.units = 0.5, 3.0, unit
    signal.metadata.General.title = "mine"
    signal.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    signal.original_metadata.set_item("camera.gain", 1.5)
    signal.learning_results.factors = np.ones((320, 2))
    signal.axes_manager.indices = (2, 1)
    if not signal._lazy:
        signal.data.flags.writeable = True
    called: list[Any] = []
    signal.events.data_changed.connect(lambda obj: called.append(obj))
    axes = [axis.events for axis in signal.axes_manager._axes] + [signal.axes_manager.events]

    def state():
        connected = [
            (name, len(event.connected))
            for e in axes
            for name, event in sorted(vars(e).items())
            if hasattr(event, "connected")
        ]
        lazy = (signal.data.name, len(signal.data.dask)) if signal._lazy else digest(signal.data)
        return (
            type(signal), lazy, signal.axes_manager.as_dictionary(), signal.axes_manager.indices,
            signal.metadata.as_dictionary(), signal.original_metadata.as_dictionary(),
            signal.tmp_parameters.as_dictionary(), set(vars(signal)), connected, list(called),
            {k: digest(v) if isinstance(v, np.ndarray) else v for k, v in vars(signal.learning_results).items()},
        )  # fmt: skip

    return Held(signal, state)


def datacube(counts, folder):
    cube = py4DSTEM.DataCube(counts.copy(), name="mine")
    cube.calibration.set_R_pixel_size(0.7)
    cube.calibration.set_R_pixel_units("nm")
    cube.calibration.set_Q_pixel_size(0.02)
    cube.calibration["probe_semiangle"] = np.arange(3.0)
    cube.attach(py4DSTEM.RealSlice(np.ones(counts.shape[:2]), name="slice"))
    from emdfile import Metadata

    cube.metadata = Metadata("session", {"operator": "me"})

    def state():
        parameters = {
            k: digest(v) if isinstance(v, np.ndarray) else v for k, v in cube.calibration._params.items()
        }
        nodes = {name: digest(cube.tree(name).data) for name in cube.treekeys if name != "latents"}
        metadata = {
            name: copy.deepcopy(m._params) for name, m in cube.metadata.items() if name != "calibration"
        }
        return digest(cube.data), parameters, nodes, metadata, cube.name, set(vars(cube)), id(cube.root)

    return Held(cube, state)


def npy_file(counts, folder):
    np.save(folder / "scan.npy", counts)
    return Held(folder / "scan.npy", lambda: files(folder))


def hspy_file(counts, folder):
    hs.signals.Signal2D(counts).save(folder / "scan.hspy")
    return Held(folder / "scan.hspy", lambda: files(folder))


def emd_file(counts, folder):
    cube = py4DSTEM.DataCube(counts)
    py4DSTEM.save(str(folder / "scan.h5"), cube, mode="o")
    return Held(folder / "scan.h5", lambda: files(folder))


KINDS = (
    c_order, fortran_order, every_second, big_endian_floats, writable_memmap, tensor, hdf5_dataset, zarr_array,
    dask_array, hyperspy_signal, lazy_signal, datacube, npy_file, hspy_file, emd_file,
)  # fmt: skip


# ---- what is done with it ----


def trained(data, model, results):
    train(data, epochs=1, max_patterns=None, output_dir=results / "run")


def trained_with_everything(data, model, results):
    scan_mask, pattern_mask = np.zeros((12, 10), bool), np.zeros((16, 20), bool)
    scan_mask[3, 4], pattern_mask[2, 2] = True, True
    limit = {"minutes": 1}
    given = [scan_mask, pattern_mask]
    before = [digest(mask) for mask in given]
    names = (
        ("navigation_mask", "signal_mask")
        if isinstance(data, hs.signals.BaseSignal)
        else ("scan_mask", "pattern_mask")
    )
    arguments = dict(zip(names, given, strict=True))
    if hasattr(data, "train_autoencoder"):
        made = data.train_autoencoder(epochs=1, latent_dim=4, max_time=limit, progress=False, **arguments)
    else:
        made = train(data, epochs=1, max_time=limit, **arguments)
    made.embed(data, scan_mask=scan_mask)
    assert [digest(mask) for mask in given] == before
    assert limit == {"minutes": 1}


def embedded(data, model, results):
    latentstem.embed(data, model).save(results / "latents.npz")


def reconstructed(data, model, results):
    latentstem.reconstruct(data, model)


def reconstructed_to_file(data, model, results):
    model.reconstruct(data, out=results / "reconstructed.npy")


def by_methods(data, model, results):
    """Of hosts, which give back hosts' objects: changing those must not reach what they were made of."""
    if not hasattr(data, "embed"):
        return
    maps, clean = data.embed(model), data.reconstruct(model)
    if isinstance(clean, py4DSTEM.DataCube):
        clean.calibration.set_R_pixel_size(99.0)
        clean.calibration["probe_semiangle"][:] = -1
        clean.data[:] = -1
        return
    for made in (maps, clean):
        made.metadata.General.title = "another"
        made.original_metadata.set_item("camera.gain", -1)
        made.axes_manager[0].scale = 99.0
        made.axes_manager[0].units = "furlong"
        if not made._lazy:
            made.data[:] = -1


def looked_at(data, model, results):
    scan = latentstem.as_scan(data)
    scan.read(np.arange(5))[:] = 0  # a copy
    scan.with_masks(np.zeros((12, 10), bool)).signature()


def opened_in_the_panel(data, model, results):
    """Its session, and what its widgets ask of a scan, without a window."""
    from latentstem.scan.virtual_images import virtual_images
    from napari_latentstem.layers.reader import open_session

    session = open_session(lambda: latentstem.as_scan(data), "scan")
    session.model, session.embedding = model, model.embed(session.scan)
    for _ in virtual_images(session.scan):
        pass


VERBS = (
    trained, trained_with_everything, embedded, reconstructed, reconstructed_to_file, by_methods, looked_at,
    opened_in_the_panel,
)  # fmt: skip


@pytest.fixture(scope="module")
def model(scan):
    return train(scan, epochs=1)


@pytest.fixture
def held(request, scan, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the hosts, on writing
        yield request.param(scan, folder)


kinds = pytest.mark.parametrize("held", KINDS, indirect=True, ids=lambda kind: kind.__name__)
some_kinds = pytest.mark.parametrize(
    "held",
    [every_second, writable_memmap, tensor, hdf5_dataset, hyperspy_signal, lazy_signal, datacube, hspy_file],
    indirect=True,
    ids=lambda kind: kind.__name__,
)


@kinds
@pytest.mark.filterwarnings("ignore:The patterns of")
def test_every_verb(held, model, tmp_path):
    before = held.state()
    for verb in VERBS:
        results = tmp_path / verb.__name__
        results.mkdir()
        verb(held.data, model, results)
        assert held.state() == before, verb.__name__


@pytest.mark.parametrize("held", [hyperspy_signal, hspy_file], indirect=True)
def test_the_report(held, model, tmp_path):
    before = held.state()
    write_report(model, held.data, tmp_path / "report.html")
    assert held.state() == before


@pytest.mark.parametrize("held", [npy_file, hspy_file, emd_file], indirect=True)
def test_the_command_line(held, model, tmp_path):
    before, runner = held.state(), CliRunner()
    model.save(tmp_path / "ae.ckpt")
    stored = (tmp_path / "ae.ckpt").read_bytes()
    data, there = str(held.data), ["--data", str(held.data), "--model", str(tmp_path / "ae.ckpt")]
    for command in (
        ["info", data],
        ["info", str(tmp_path / "ae.ckpt")],
        [
            "train",
            "--data",
            data,
            "--epochs",
            "1",
            "--output_dir",
            str(tmp_path / "out"),
            "--latent_dim",
            "3",
        ],
        ["embed", *there, "--output", str(tmp_path / "latents.hspy")],
        ["reconstruct", *there, "--output", str(tmp_path / "clean.h5")],
    ):
        result = runner.invoke(app, command)
        assert result.exit_code == 0, result.output
        assert held.state() == before, command
    for command in (["embed", *there], ["reconstruct", *there]):  # onto the data themselves
        result = runner.invoke(app, [*command, "--output", data, "--overwrite"])
        assert result.exit_code != 0
        assert held.state() == before, command
    assert (tmp_path / "ae.ckpt").read_bytes() == stored


def npz_file(counts, folder):
    np.savez(folder / "scan.npz", counts)
    return Held(folder / "scan.npz", lambda: files(folder))


def loaded_signal(counts, folder):
    hs.signals.Signal2D(counts).save(folder / "scan.hspy")
    return Held(hs.load(folder / "scan.hspy"), lambda: files(folder))


@pytest.mark.parametrize("held", [npz_file, hspy_file, loaded_signal, npy_file], indirect=True)
def test_a_file_that_was_read_is_not_replaced(held, model, tmp_path):
    """Not even where its patterns are in memory by now, nor by another name of it, nor with leave to overwrite."""
    before = held.state()
    (original,) = (tmp_path / "mine").iterdir()
    other = tmp_path / f"other{original.suffix}"
    other.hardlink_to(original)

    def write(out):
        if isinstance(held.data, Path):
            return model.reconstruct(held.data, out=out, overwrite=True)
        return held.data.reconstruct(model, out=out, overwrite=True)

    for out in (original, other):
        with pytest.raises(FileError, match=r"the output is the input.*Choose another name"):
            write(out)
        assert held.state() == before


def test_a_mask_is_not_replaced(scan, model, tmp_path):
    np.save(tmp_path / "scan.npy", scan)
    np.save(tmp_path / "mask.npy", np.eye(12, 10, dtype=bool))
    stored, runner = files(tmp_path), CliRunner()
    path = model.save(tmp_path / "models" / "ae.ckpt")
    given = [
        "--data",
        str(tmp_path / "scan.npy"),
        "--model",
        str(path),
        "--scan_mask",
        str(tmp_path / "mask.npy"),
    ]
    result = runner.invoke(
        app, ["reconstruct", *given, "--output", str(tmp_path / "mask.npy"), "--overwrite"]
    )
    assert result.exit_code != 0
    assert "the output is the input" in result.output
    assert {name: stored[name] for name in ("scan.npy", "mask.npy")} == {
        name: value for name, value in files(tmp_path).items() if not name.startswith("models")
    }


@some_kinds
def test_errors(held, model, tmp_path, monkeypatch):
    before = held.state()
    wrong = [
        lambda: latentstem.embed(held.data, model, scan_mask=np.zeros((3, 3), bool)),
        lambda: train(held.data, pattern_mask=np.ones((16, 20), bool)),
        lambda: train(held.data, epochs=0),
        lambda: train(held.data, crop=(0, 40, 0, 40)),
        lambda: latentstem.reconstruct(held.data, tmp_path / "missing.ckpt"),
        lambda: model.reconstruct(held.data, out=tmp_path / "clean.unknown"),
        lambda: model.embed(latentstem.as_scan(held.data).read(np.arange(4))[:, :8].reshape(2, 2, 8, 20)),
    ]
    for call in wrong:
        with pytest.raises((LatentSTEMError, ValueError)):
            call()
        assert held.state() == before
    with monkeypatch.context() as patch:  # in the midst of it
        patch.setattr(type(model.autoencoder.network), "encode_scores", _failing)
        for verb in (embedded, reconstructed, reconstructed_to_file):
            with pytest.raises(RuntimeError, match="broken"):
                verb(held.data, model, tmp_path)
            assert held.state() == before


def _failing(*arguments):
    raise RuntimeError("broken")


@some_kinds
@pytest.mark.parametrize("reading", [0, 1, 2, 3])
def test_ctrl_c_at_a_reading(held, model, tmp_path, monkeypatch, reading):
    before, read, left = held.state(), Scan.read, [0]

    def interrupted(scan, indices):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return read(scan, indices)

    for verb in (trained, embedded, reconstructed_to_file):
        left[0] = reading
        with monkeypatch.context() as patch:
            patch.setattr(Scan, "read", interrupted)
            try:
                verb(held.data, model, tmp_path)
            except KeyboardInterrupt:
                pass
            else:
                assert left[0] >= 0, f"{verb.__name__} swallowed it"
        assert held.state() == before, verb.__name__
    assert model.embed(held.data).maps.shape == (12, 10, 4)  # it can all be done again


class _Interrupting(L.Callback):
    def __init__(self, moment):
        setattr(self, moment, self._interrupt)

    def _interrupt(self, *arguments, **more):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "moment", ["on_fit_start", "on_train_batch_start", "on_train_batch_end", "on_validation_start", "on_train_end"]
)  # fmt: skip
@pytest.mark.parametrize("held", [writable_memmap, hyperspy_signal, datacube], indirect=True)
def test_ctrl_c_in_training(held, tmp_path, moment):
    before = held.state()
    with pytest.raises(KeyboardInterrupt):
        train(held.data, epochs=1, output_dir=tmp_path / "run", callbacks=[_Interrupting(moment)])
    assert held.state() == before


def test_models_and_configurations_are_not_changed(scan, model, tmp_path):
    """By what is done with them: weights and statistics, a configuration, a dict of arguments, an embedding."""
    config = TrainingConfig(latent_dim=4, epochs=1, batch_size=16)
    described = config.model_dump()
    weights = {name: value.clone() for name, value in model.autoencoder.state_dict().items()}
    hyperparameters = copy.deepcopy(dict(model.autoencoder.hyper_parameters))
    history = copy.deepcopy(model.history)
    latentstem.train_autoencoder(scan, config=config, progress=False)
    path = model.save(tmp_path / "ae.ckpt")
    stored = files(tmp_path)
    latentstem.train_autoencoder(scan, init_from=path, epochs=1, progress=False)
    model.decode(model.embed(scan).maps)
    model.reconstruct(scan)
    repr(model), model.describe()["config"].clear(), model.scan_signature.clear()
    assert config.model_dump() == described
    assert files(tmp_path) == stored
    for name, value in model.autoencoder.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert dict(model.autoencoder.hyper_parameters) == hyperparameters
    assert model.history == history
    latents = model.embed(scan)
    before = digest(latents.maps)
    latents.save(tmp_path / "latents")
    assert digest(latents.maps) == before
