"""Results written to files: the same numbers as in memory, nothing lost, nothing half-written."""

from __future__ import annotations

import os
import shutil
import signal as signals
import subprocess
import sys
import tracemalloc
import warnings
from functools import partial
from types import SimpleNamespace

import dask.array as da
import h5py
import hyperspy.api as hs
import numpy as np
import py4DSTEM
import pytest
import zarr
from hyperspy.signals import LazySignal2D
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import latentstem
from helpers import train
from latentstem.cli import app
from latentstem.errors import ArgumentError, FileError
from latentstem.inference import blockwise, reconstruction
from latentstem.io import pattern_files
from latentstem.io.output_files import pattern_suffixes

SUFFIXES = list(pattern_suffixes())


@pytest.fixture(scope="module")
def model(scan):
    return train(scan, context=2)


@pytest.fixture(scope="module")
def models(scan):
    return {context: train(scan, epochs=1, context=context) for context in (0, 1, 3)}


@pytest.fixture(scope="module")
def want(model, scan):
    return model.reconstruct(scan)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_in_the_file_is_what_is_in_memory(model, scan, want, suffix, tmp_path):
    path = tmp_path / f"clean{suffix}"
    held = model.reconstruct(scan, out=path)
    kind = {".hspy": h5py.Dataset, ".zspy": zarr.Array}.get(suffix, np.memmap)
    assert isinstance(held, kind)
    assert held.shape == scan.shape
    assert held.dtype == np.float32
    np.testing.assert_allclose(held[...], want, rtol=1e-5, atol=1e-5)
    with pytest.raises((ValueError, OSError, PermissionError), match=r"read-only|write|permission"):
        held[0, 0] = 0
    again = latentstem.as_scan(path)
    np.testing.assert_array_equal(again.read(np.arange(120)).reshape(scan.shape), held[...])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".h5", ".hspy", ".zspy"])
def test_hosts_open_the_file(model, scan, want, suffix, tmp_path):
    path = str(tmp_path / f"clean{suffix}")
    model.reconstruct(scan, out=path)
    data = py4DSTEM.read(path).data if suffix == ".h5" else hs.load(path).data
    np.testing.assert_allclose(data, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_there(model, scan, suffix, tmp_path):
    path = tmp_path / f"clean{suffix}"
    path.mkdir() if suffix == ".zspy" else path.write_bytes(b"precious")
    with pytest.raises(FileError, match=r"clean\.\w+, which exists already.*overwrite=True"):
        model.reconstruct(scan, out=path)
    assert path.is_dir() or path.read_bytes() == b"precious"
    assert model.reconstruct(scan, out=path, overwrite=True).shape == scan.shape


# ---- hosts


@pytest.fixture(scope="module")
def signal(scan):
    signal = hs.signals.Signal2D(scan.copy())
    signal.metadata.General.title = "grains / 1"
    signal.metadata.set_item("Sample.thickness", 42)
    for axis, name, scale, units in zip(
        signal.axes_manager._axes, "yxvu", (2.0, 3.0, 0.5, 0.25), ("nm", "nm", "1/nm", "1/nm"), strict=True
    ):
        axis.name, axis.scale, axis.offset, axis.units = name, scale, 10 * scale, units
    return signal


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_signals(model, signal, want, suffix, lazy, tmp_path):
    path = tmp_path / f"clean{suffix}"
    given = signal.as_lazy() if lazy else signal
    clean = given.reconstruct(model, out=path)
    assert type(clean) is LazySignal2D
    np.testing.assert_allclose(clean.data.compute(), want, rtol=1e-5, atol=1e-5)
    assert clean.metadata.Sample.thickness == 42
    assert clean.metadata.General.title == "grains / 1"
    for axis, other in zip(clean.axes_manager._axes, signal.axes_manager._axes, strict=True):
        found, expected = (a.get_axis_dictionary() for a in (axis, other))
        assert all(
            found[key] == expected[key] for key in ("name", "scale", "offset", "units", "size", "navigate")
        )


def test_the_signal_of_another_class(model, scan, tmp_path):
    signals = pytest.importorskip("pyxem.signals")
    clean = signals.ElectronDiffraction2D(scan).reconstruct(model, out=tmp_path / "clean.zspy")
    assert type(clean) is signals.LazyElectronDiffraction2D


@pytest.mark.parametrize("suffix", [".zspy", ".hspy", ".npy"])
def test_a_signal_with_the_scan_in_one_row(model, scan, want, suffix, tmp_path):
    stack = hs.signals.Signal2D(scan.reshape(120, 16, 20))
    clean = stack.reconstruct(model, scan_shape=(12, 10), out=tmp_path / f"clean{suffix}")
    assert clean.axes_manager.navigation_shape == (120,)
    np.testing.assert_allclose(clean.data.compute(), want.reshape(120, 16, 20), rtol=1e-5, atol=1e-5)


def test_a_series_is_not_one_file(model, scan, tmp_path):
    series = hs.signals.Signal2D(np.stack([scan, scan]))
    with pytest.raises(ArgumentError, match=r"inav\[:, :, i\]\.reconstruct"):
        series.reconstruct(model, out=tmp_path / "clean.zspy")
    for number, clean in enumerate(
        model.reconstruct([scan, scan], out=[tmp_path / "a.npy", tmp_path / "b.npy"])
    ):
        assert clean.filename == tmp_path / f"{'ab'[number]}.npy"


@pytest.fixture(scope="module")
def cube(scan):
    cube = py4DSTEM.DataCube(scan.copy(), name="grains")
    cube.calibration.set_R_pixel_size(2.5)
    cube.calibration.set_R_pixel_units("nm")
    cube.calibration.set_Q_pixel_size(0.02)
    cube.calibration.set_Q_pixel_units("A^-1")
    cube.calibration["extra"] = np.arange(3)
    return cube


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_datacubes(model, cube, want, suffix, tmp_path):
    clean = cube.reconstruct(model, out=tmp_path / f"clean{suffix}")
    assert type(clean) is py4DSTEM.DataCube
    kind = {".hspy": h5py.Dataset, ".zspy": da.Array}.get(suffix, np.memmap)
    assert isinstance(clean.data, kind)
    np.testing.assert_allclose(np.asarray(clean.data), want, rtol=1e-5, atol=1e-5)
    assert clean.calibration.get_R_pixel_size() == 2.5
    again = clean.reconstruct(model)  # it is a datacube like any other
    assert again.data.shape == want.shape


def test_py4dstem_reads_what_was_written(model, cube, want, tmp_path):
    cube.reconstruct(model, out=tmp_path / "clean.h5")
    read = py4DSTEM.read(str(tmp_path / "clean.h5"))
    assert (type(read), read.name) == (py4DSTEM.DataCube, "grains")
    np.testing.assert_allclose(read.data, want, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(read.calibration["extra"], np.arange(3))
    py4DSTEM.save(str(tmp_path / "whole.h5"), cube.reconstruct(model), mode="o")
    whole = py4DSTEM.read(str(tmp_path / "whole.h5"))
    for one, other in zip(read.dims, whole.dims, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (read.dim_units, read.dim_names) == (whole.dim_units, whole.dim_names)


def test_a_datacube_of_one_row(model, scan, want, tmp_path):
    cube = py4DSTEM.DataCube(scan.reshape(120, 1, 16, 20))
    clean = cube.reconstruct(model, scan_shape=(12, 10), out=tmp_path / "clean.h5")
    assert clean.data.shape == py4DSTEM.read(str(tmp_path / "clean.h5")).data.shape == (120, 1, 16, 20)
    np.testing.assert_allclose(clean.data.reshape(want.shape), want, rtol=1e-5, atol=1e-5)


# ---- blocks


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(1, 40)] * 2), st.tuples(*[st.integers(1, 45)] * 2), st.integers(1, 300))
def test_blocks_fill_the_scan_once(shape, chunk, max_patterns):
    filled = np.zeros(shape, int)
    for block in blockwise.split_into_blocks(shape, chunk, max_patterns):
        assert 0 < block.size <= max_patterns
        filled[block] += 1
    assert (filled == 1).all()


@pytest.mark.parametrize("context", [0, 1, 3])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_blocks_do_not_show(models, scan, context, data):
    """Any block size, any chunks of the source, any chunks of the file, any mask: the same numbers."""
    model = models[context]
    chunks = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 10)))
    chunk = data.draw(st.none() | st.tuples(st.integers(1, 12), st.integers(1, 10)))
    mask = data.draw(st.sampled_from([None, np.random.default_rng(0).random((12, 10)) < 0.3]))
    lazy = da.from_array(scan, chunks=(*chunks, 16, 20))
    opened = latentstem.as_scan(lazy, scan_mask=mask)
    want = model.reconstruct(scan, scan_mask=mask)
    found = np.zeros_like(want)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blockwise, "_MAX_BLOCK_BYTES", data.draw(st.integers(1, 50)) * 16 * 20 * 4)
        for block, values in blockwise.predict_blocks(
            blockwise.BlockPredictor(model.autoencoder, True, opened.source), opened, chunk=chunk
        ):
            found[block] = values
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)
    excluded = np.zeros((12, 10), bool) if mask is None else mask
    np.testing.assert_allclose(
        blockwise.reconstruct_dask(model.autoencoder, lazy, excluded).compute(scheduler="sync"),
        want,
        rtol=1e-4,
        atol=1e-4,
    )


def test_a_network_that_sees_patterns(scan, narrow, tmp_path):
    model = train(scan, preset="reference", epochs=1, batch_size=32, max_patterns=64)
    want = model.reconstruct(scan)
    lazy = da.from_array(scan, chunks=(5, 3, 16, 20))
    for suffix in (".npz", ".zspy"):
        found = model.reconstruct(lazy, out=tmp_path / f"clean{suffix}")
        np.testing.assert_allclose(found[...], want, rtol=1e-4, atol=1e-4)
    clean = hs.signals.Signal2D(lazy).as_lazy().reconstruct(model)
    np.testing.assert_allclose(clean.data.compute(), want, rtol=1e-4, atol=1e-4)


def test_each_chunk_is_read_once(model, scan):
    read = []

    class Counting(np.ndarray):
        def __getitem__(self, where):
            found = super().__getitem__(where)
            if found.ndim == 4 and found.size:
                read.append(where)
            return found.view(np.ndarray)

    lazy = da.from_array(scan.copy().view(Counting), chunks=(5, 3, 16, 20), asarray=False, inline_array=True)
    opened = latentstem.as_scan(lazy)
    list(
        blockwise.predict_blocks(
            blockwise.BlockPredictor(model.autoencoder, True, opened.source), opened, chunk=(2, 2)
        )
    )
    assert len(read) == lazy.numblocks[0] * lazy.numblocks[1]


# ---- memory and disk


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_memory_is_bounded(model, suffix, tmp_path):
    large = np.lib.format.open_memmap(tmp_path / "large.npy", "w+", np.uint16, (100, 90, 16, 20))
    large[:] = 1
    opened = latentstem.as_scan(tmp_path / "large.npy")
    tracemalloc.start()
    try:
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of another intensity than in training
            patch.setattr(blockwise, "_MAX_BLOCK_BYTES", 2**17)
            patch.setattr(pattern_files, "_CHUNK_BYTES", 2**17)
            model.reconstruct(opened, out=tmp_path / f"clean{suffix}")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    scores = 4 * 9000 * (128 + 16)
    assert peak - scores < 2e6  # of results of 11.5 MB


def test_what_does_not_fit_is_refused_before_the_work(model, scan, tmp_path, monkeypatch):
    monkeypatch.setattr(blockwise, "predict_blocks", None)
    monkeypatch.setattr(reconstruction, "predict_blocks", None)
    monkeypatch.setattr(reconstruction, "_MAX_MEMORY_FRACTION", 1e-12)
    with pytest.raises(ArgumentError, match=r"do not fit into memory.*153\.6 kB|154 kB.*out='clean\.zspy'"):
        model.reconstruct(scan)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=10**12, free=10**5))
    with pytest.raises(ArgumentError, match="not enough room on the disk"):
        model.reconstruct(scan, out=tmp_path / "clean.npy")
    assert list(tmp_path.iterdir()) == []


def test_the_size_is_said(model, scan, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reconstruction, "_MIN_BYTES_REPORTED", 1)
    model.reconstruct(scan, out=tmp_path / "clean.npy", progress=True)
    said = capsys.readouterr()
    assert "clean.npy will take 154 kB on the disk" in said.out
    assert "reading" in said.err
    assert "reconstructing" in said.err


# ---- the input


def inputs(path, scan):
    """Data that are read from a file, as they come."""
    signal = hs.signals.Signal2D(scan)
    if path.suffix in (".hspy", ".zspy"):
        signal.save(path)
        lazy = hs.load(path, lazy=True)
        yield from (path, lazy, lazy.inav[1:, 1:], lazy.data, latentstem.as_scan(path))
    elif path.suffix == ".npy":
        np.save(path, scan)
        mapped = np.load(path, mmap_mode="r")
        yield from (
            path,
            str(path),
            mapped,
            mapped[1:],
            py4DSTEM.DataCube(mapped),
            hs.signals.Signal2D(mapped),
        )
        lazy = da.map_blocks(
            np.memmap, str(path), np.uint16, "r", 128, (12, 10, 16, 20), chunks=scan.shape, meta=scan
        )
        yield from (lazy, hs.signals.Signal2D(lazy).as_lazy())
    else:
        py4DSTEM.save(str(path), py4DSTEM.DataCube(scan), mode="o")
        dataset = h5py.File(path)["datacube_root/datacube/data"]
        yield from (path, dataset, py4DSTEM.DataCube(dataset), da.from_array(dataset)[2:])


@pytest.mark.parametrize("suffix", [".npy", ".hspy", ".zspy", ".h5"])
def test_the_input_is_never_written_over(model, scan, suffix, tmp_path):
    path, link = tmp_path / f"scan{suffix}", tmp_path / f"link{suffix}"
    link.symlink_to(path)
    for data in inputs(path, scan):
        for out in (path, link):
            method = getattr(data, "reconstruct", partial(latentstem.reconstruct, data))
            with pytest.raises(FileError, match="the output is the input"):
                method(model, out=out, overwrite=True)
    assert latentstem.as_scan(path).n_positions == 120
    held = np.array(scan)  # what is in memory may go anywhere
    model.reconstruct(held, out=path, overwrite=True)


# ---- interruptions


INTERRUPTED = """
import os, random, signal, sys, threading, time
import numpy as np
import latentstem
from latentstem.inference import blockwise

folder, model, data = sys.argv[1], latentstem.load(sys.argv[2]), np.load(sys.argv[3])
blockwise._MAX_BLOCK_BYTES = 2**14
for suffix in sys.argv[4:]:
    path = os.path.join(folder, "clean" + suffix)
    for overwrite in (False, True):
        if overwrite:
            model.reconstruct(data, out=path)
        before = os.stat(path).st_mtime_ns if overwrite else None
        for block in (0, 1, 5):
            calls, results = [], blockwise.BlockPredictor.predict_from_scores

            def interrupting(self, *arguments):
                calls.append(1)
                if len(calls) == block + 1:
                    os.kill(os.getpid(), signal.SIGINT)
                return results(self, *arguments)

            blockwise.BlockPredictor.predict_from_scores = interrupting
            try:
                model.reconstruct(data, out=path, overwrite=True)
                print("not interrupted")
            except KeyboardInterrupt:
                after = os.stat(path).st_mtime_ns if os.path.exists(path) else None
                print(suffix, overwrite, block, after == before, len(os.listdir(folder)) == int(overwrite))
            blockwise.BlockPredictor.predict_from_scores = results
    held = np.array(model.reconstruct(data, out=path, overwrite=True)[...])
    for attempt in range(4):
        timer = threading.Timer(random.uniform(0, 0.15), os.kill, (os.getpid(), signal.SIGINT))
        try:
            try:
                timer.start()
                model.reconstruct(data, out=path, overwrite=True)
            finally:
                timer.cancel()
                timer.join()
        except KeyboardInterrupt:
            pass
        left = os.listdir(folder)
        again = latentstem.as_scan(path).read(np.arange(len(held.reshape(-1, *held.shape[2:]))))
        print(suffix, "any time", left == [os.path.basename(path)] or left, np.array_equal(again.reshape(held.shape), held))
    (os.remove if os.path.isfile(path) else __import__("shutil").rmtree)(path)
"""


def test_interrupted_at_any_time(model, scan, tmp_path):
    np.save(tmp_path / "scan.npy", scan)
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-c", INTERRUPTED, tmp_path / "out", model.save(tmp_path / "ae.ckpt"),
               tmp_path / "scan.npy", *SUFFIXES]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.endswith("True True")] == [], done.stderr[-2000:]
    assert len(lines) == len(SUFFIXES) * (6 + 4), done.stderr[-2000:]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_error_in_mid_writing(model, scan, suffix, tmp_path, monkeypatch):
    path = tmp_path / f"clean{suffix}"
    monkeypatch.setattr(blockwise, "_MAX_BLOCK_BYTES", 2**14)
    results, calls = blockwise.BlockPredictor.predict_from_scores, []

    def failing(self, *arguments):
        calls.append(1)
        if len(calls) > 3:
            raise OSError("the disk is gone")
        return results(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(blockwise.BlockPredictor, "predict_from_scores", failing)
        with pytest.raises(OSError, match="the disk is gone"):
            model.reconstruct(scan, out=path)
    assert len(calls) == 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["embed", "reconstruct"])
def test_the_command_line_says_that_nothing_was_written(model, scan, command, tmp_path, monkeypatch):
    np.save(tmp_path / "scan.npy", scan)
    model.save(tmp_path / "ae.ckpt")
    results, calls = blockwise.BlockPredictor.predict_from_scores, []

    def stopped(self, *arguments):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signals.SIGINT)
        return results(self, *arguments)

    monkeypatch.setattr(blockwise, "_MAX_BLOCK_BYTES", 2**14)
    monkeypatch.setattr(blockwise.BlockPredictor, "predict_from_scores", stopped)
    arguments = [command, "--data", "scan.npy", "--model", "ae.ckpt", "--output", "result.npz"]
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 130
    assert "Stopped. Nothing was written." in found.output
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ae.ckpt", "scan.npy"]
