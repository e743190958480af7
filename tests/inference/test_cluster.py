"""Embedding and reconstruction on the workers of a cluster: two processes of one thread each."""

from __future__ import annotations

import os
import re
import signal
import sys
import time

import dask
import dask.array as da
import h5py
import hyperspy.api as hs
import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

import latentstem
from helpers import train
from latentstem.cli import app
from latentstem.errors import ArgumentError, ClusterError, FileError
from latentstem.inference import blockwise, cluster

distributed = pytest.importorskip("distributed")

# its nannies close what they started when they like, and pickled processes leave sockets to the collector
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def client():
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    options["scheduler_kwargs"] = {"dashboard_address": ":0"}  # any port: other tests may have a cluster, too
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(**options) as local,
        distributed.Client(local, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def model(scan):
    return train(scan, context=2)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of four patterns: 30 tasks or more."""
    monkeypatch.setattr(blockwise, "_MAX_BLOCK_BYTES", 4 * 16 * 20 * 4)


def doors(scan, folder):
    """The scan in memory, in files, and lazy."""
    np.save(folder / "scan.npy", scan)
    with h5py.File(folder / "scan.h5", "w") as file:
        file.create_dataset("data", data=scan, chunks=(5, 3, 16, 20))
    stored = zarr.open(
        str(folder / "scan.zarr"), mode="w", shape=scan.shape, chunks=(4, 7, 16, 20), dtype=scan.dtype
    )
    stored[:] = scan
    yield from (scan, np.asfortranarray(scan), folder / "scan.npy", folder / "scan.h5", folder / "scan.zarr")
    yield np.load(folder / "scan.npy", mmap_mode="r")[:, :]
    yield da.from_array(scan, chunks=(4, 7, 16, 20))


@pytest.mark.usefixtures("small_blocks")
def test_the_numbers_are_the_same(client, model, scan, tmp_path):
    mask = np.zeros((12, 10), bool)
    mask[3:7, 2] = mask[0] = True
    want = model.embed(scan, scan_mask=mask).maps, model.reconstruct(scan, scan_mask=mask)
    for data in doors(scan, tmp_path):
        found = model.embed(data, scan_mask=mask, client=client).maps
        np.testing.assert_allclose(found, want[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        model.reconstruct(data, scan_mask=mask, client=client), want[1], rtol=1e-5, atol=1e-5
    )
    for suffix in (".npz", ".zspy"):
        path = tmp_path / f"clean{suffix}"
        found = model.reconstruct(tmp_path / "scan.h5", scan_mask=mask, client=client, out=path)
        np.testing.assert_allclose(found[...], want[1], rtol=1e-5, atol=1e-5)


def test_hosts(client, model, scan, tmp_path):
    want, rebuilt = model.embed(scan).maps, model.reconstruct(scan)
    lazy = hs.signals.Signal2D(da.from_array(scan, chunks=(4, 7, 16, 20))).as_lazy()
    np.testing.assert_allclose(
        lazy.embed(model, client=client).data, want.transpose(2, 0, 1), rtol=1e-5, atol=1e-5
    )
    clean = lazy.reconstruct(model, client=client, out=tmp_path / "clean.hspy")
    np.testing.assert_allclose(clean.data.compute(), rebuilt, rtol=1e-5, atol=1e-5)


def watch_models():
    """On a worker: count from now on how often it receives a model."""
    from latentstem.nn.autoencoder import Autoencoder

    Autoencoder.received = 0
    build = Autoencoder.__dict__["from_checkpoint_dict"].__func__
    build = getattr(build, "unwatched", build)

    def counting(cls, *arguments):
        cls.received += 1
        return build(cls, *arguments)

    counting.unwatched = build
    Autoencoder.from_checkpoint_dict = classmethod(counting)


def count_models():
    from latentstem.nn.autoencoder import Autoencoder

    return Autoencoder.received


@pytest.mark.usefixtures("small_blocks")
def test_the_model_travels_once_to_each_worker(client, model, scan):
    client.run(watch_models)
    model.embed(scan, client=client)
    assert sorted(client.run(count_models).values()) == [1, 1]
    client.run(watch_models)
    lazy = hs.signals.Signal2D(da.from_array(scan, chunks=(2, 2, 16, 20))).as_lazy().reconstruct(model)
    found = client.compute(lazy.data).result()
    np.testing.assert_allclose(found, model.reconstruct(scan), rtol=1e-5, atol=1e-4)
    assert (
        max(client.run(count_models).values()) <= 2
    )  # its task makes one, and a copy may come with the graph


def carriers(dask_scheduler):
    return [name for name in dask_scheduler.worker_plugins if name.startswith("latentstem")]


@pytest.mark.usefixtures("small_blocks")
def test_few_tasks_are_under_way(client, model, scan):
    opened, most = latentstem.as_scan(scan), 0
    for _ in blockwise.predict_blocks(
        blockwise.BlockPredictor(model.autoencoder, True, opened.source), opened, client=client
    ):
        most = max(most, len(client.futures))
    assert 2 <= most <= cluster._TASKS_PER_THREAD * 2
    deadline = time.monotonic() + 5
    while client.futures and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not client.futures  # nothing stays on the cluster
    assert not client.run_on_scheduler(carriers)


def test_in_memory_only_blocks_are_sent(scan):
    for data in (scan, da.from_array(scan)):
        assert not latentstem.as_scan(data).source.is_read_by_path


# ---- without a client


def where_it_runs(block):
    return np.full(block.shape, os.getpid() % 60000 + 1, np.uint16)


def test_a_default_client_is_not_used(client, model):
    lazy = da.map_blocks(where_it_runs, da.zeros((12, 10, 16, 20), chunks=(6, 5, 16, 20), dtype=np.uint16))
    total = f"mean total intensity of {320 * (os.getpid() % 60000 + 1):.3g}, "
    with client.as_current(), pytest.warns(UserWarning, match=re.escape(total)):
        model.embed(lazy)


def test_data_that_a_cluster_holds(client, model, scan):
    lazy = client.persist(da.from_array(scan, chunks=(4, 7, 16, 20)))
    with client.as_current():
        np.testing.assert_allclose(model.embed(lazy).maps, model.embed(scan).maps, rtol=1e-5, atol=1e-5)


# ---- what goes wrong


@pytest.mark.parametrize("wrong", ["tcp://127.0.0.1:8786", 3, True, np.ones(3)])
def test_not_a_client(model, scan, wrong):
    with pytest.raises(ArgumentError, match=r"expected a dask\.distributed\.Client.*Client\(cluster\)"):
        model.embed(scan, client=wrong)


def test_a_closed_client(client, model, scan):
    other = distributed.Client(client.scheduler.address, set_as_default=False)
    other.close()
    with pytest.raises(ArgumentError, match="whose status is 'closed'"):
        model.embed(scan, client=other)


def test_distributed_is_not_installed(model, scan, monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(ArgumentError, match=r"pip install latentstem\[distributed\]"):
        model.embed(scan, client=object())
    assert "distributed" in sys.modules


def test_workers_that_do_not_see_the_file(client, model, scan, tmp_path):
    np.save(tmp_path / "scan.npy", scan)
    opened = latentstem.as_scan(tmp_path / "scan.npy")
    (tmp_path / "scan.npy").rename(tmp_path / "elsewhere")
    with pytest.raises(FileError, match=r"scan\.npy.*a file system that they share"):
        model.reconstruct(opened, client=client, out=tmp_path / "clean.npy")
    assert [file.name for file in tmp_path.iterdir()] == ["elsewhere"]


# ---- the command line


def test_the_command_line(client, model, scan, tmp_path):
    np.save(tmp_path / "scan.npy", scan)
    model.save(tmp_path / "ae.ckpt")
    common = ["--data", tmp_path / "scan.npy", "--model", tmp_path / "ae.ckpt"]
    address = ["--scheduler", client.scheduler.address]
    for command, name in (("embed", "latents.npz"), ("reconstruct", "clean.npy")):
        arguments = [command, *common, *address, "--output", tmp_path / name]
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        assert result.exit_code == 0, result.output
    found = latentstem.Embedding.load(tmp_path / "latents.npz").maps
    np.testing.assert_allclose(found, model.embed(scan).maps, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.load(tmp_path / "clean.npy"), model.reconstruct(scan), rtol=1e-5, atol=1e-5)


def test_no_scheduler_at_the_address(model, scan, tmp_path, monkeypatch):
    np.save(tmp_path / "scan.npy", scan)
    model.save(tmp_path / "ae.ckpt")
    monkeypatch.setattr(cluster, "_CONNECT_TIMEOUT", 0.5)
    arguments = ["embed", "--data", tmp_path / "scan.npy", "--model", tmp_path / "ae.ckpt", "--output",
                 tmp_path / "latents.npz", "--scheduler", "tcp://127.0.0.1:9"]  # fmt: skip
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 2
    assert re.search(r"error: no scheduler at this address\n  expected: .*tcp://node17:8786", result.output)


# ---- workers that die


@pytest.mark.usefixtures("small_blocks")
def test_a_killed_worker_loses_nothing(client, model, scan, tmp_path):
    np.save(tmp_path / "scan.npy", scan)
    opened = latentstem.as_scan(tmp_path / "scan.npy")
    want, found = model.embed(scan, smooth=0).maps, np.full((12, 10, 4), np.nan, np.float32)
    before = set(client.run(os.getpid).values())
    predictor = blockwise.BlockPredictor(model.autoencoder, False, opened.source)
    for number, (block, latents) in enumerate(blockwise.predict_blocks(predictor, opened, client=client)):
        found[block] = latents
        if number == 3:
            os.kill(min(before), signal.SIGKILL)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)
    client.wait_for_workers(2, timeout=60)
    assert len(before & set(client.run(os.getpid).values())) == 1


def test_workers_that_die_again_and_again(client, model, scan, monkeypatch, tmp_path):
    monkeypatch.setattr(blockwise.BlockPredictor, "__reduce__", lambda self: (os._exit, (1,)))
    with pytest.raises(ClusterError, match="They may be out of memory"):
        model.reconstruct(scan, client=client, out=tmp_path / "clean.zspy")
    assert list(tmp_path.iterdir()) == []
