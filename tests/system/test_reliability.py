"""Kills, Ctrl-C and many trainings, in short: ``python -m benchmarks.reliability`` does more of each."""

from __future__ import annotations

import gc
import signal
import weakref

import dask.array as da
import numpy as np
import pytest

import latentstem
from helpers import maps, train
from hostile import ctrl_c
from hostile.killed_process import start
from hostile.process_levels import levels
from latentstem.training import run


def test_a_killed_command_leaves_checkpoints_that_load(scan, tmp_path):
    np.save(tmp_path / "scan.npy", scan)
    output = tmp_path / "run"
    arguments = ["train", "--data", tmp_path / "scan.npy", "--output_dir", output, "--latent_dim", 4]
    arguments += ["--epochs", 4, "--batch_size", 16]
    process = start(arguments, tmp_path / "log.txt", ("half written", 4))
    process.join(120)
    assert process.exitcode == -signal.SIGKILL, (tmp_path / "log.txt").read_text()
    left = list((output / "checkpoints").iterdir())
    assert sum(".part" in path.name for path in left) == 1
    whole = [path for path in left if ".part" not in path.name]
    assert output / "checkpoints" / "last.ckpt" in whole
    for path in whole:
        assert np.isfinite(maps(latentstem.load(path), scan)).all()
    latentstem.train_autoencoder(
        scan, resume_from=output / "checkpoints" / "last.ckpt", output_dir=output, progress=False
    )
    assert sorted(path.name for path in (output / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


@pytest.mark.parametrize("moment", ctrl_c.MOMENTS)
def test_moments_of_ctrl_c_are_in_functions_that_exist(moment):
    holder, name = ctrl_c.find_function(ctrl_c.MOMENTS[moment].where)
    assert callable(getattr(holder, name))


def test_ctrl_c_is_pressed_where_it_is_asked_for():
    shell = ctrl_c.Interpreter({"simulate": latentstem.simulate})
    with ctrl_c.ctrl_c_in_call("simulation.simulate._record_counts", 2) as when:
        assert shell.cell("simulate((3, 4), (16, 18))") is None
        assert isinstance(shell.cell("simulate((3, 4), (16, 18))"), KeyboardInterrupt)
    assert len(when) == 1
    assert shell.cell("simulate((3, 4), (16, 18))") is None


def test_trainings_leave_no_files_open_and_no_threads():
    found = levels(8)
    assert found["left"] == 0
    for name in ("files", "threads", "shared"):
        assert found["last"][name] <= found["first"][name], name


@pytest.mark.parametrize("arguments", [{}, {"max_time": "00:01:00:00"}, {"workers": 1}])
def test_the_patterns_in_memory_are_let_go_with_the_training(scan, monkeypatch, arguments):
    """At once, not when Python happens to look for what refers to itself in circles: they may be gigabytes."""
    copies = []
    in_memory = run.in_memory

    def noted(scan):
        found = in_memory(scan)
        copies.append(weakref.ref(found.source))
        return found

    monkeypatch.setattr(run, "in_memory", noted)
    stored = da.from_array(scan, chunks=(5, 4, 16, 20))
    gc.disable()
    try:
        model = train(stored, epochs=1, **arguments)
        assert [copy() for copy in copies] == [None]
    finally:
        gc.enable()
    assert model.config.epochs == 1
