"""The commands that try to break it, in short."""

from __future__ import annotations

import gc
import signal
import weakref

import dask.array as da
import numpy as np
import pytest
from benchmarks.reliability import interrupts, kills, soak
from benchmarks.reliability.processes import start

import latentstem
from helpers import maps, train
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


@pytest.mark.parametrize("moment", interrupts.MOMENTS)
def test_moments_of_ctrl_c_are_in_functions_that_exist(moment):
    holder, name = interrupts.target(interrupts.MOMENTS[moment].where)
    assert callable(getattr(holder, name))


def test_ctrl_c_is_pressed_where_it_is_asked_for():
    shell = interrupts._Interpreter({"simulate": latentstem.simulate})
    with interrupts._pressed("simulation._detect", 2) as when:
        assert shell.cell("simulate((3, 4), (16, 18))") is None
        assert isinstance(shell.cell("simulate((3, 4), (16, 18))"), KeyboardInterrupt)
    assert len(when) == 1
    assert shell.cell("simulate((3, 4), (16, 18))") is None


def test_trainings_leave_no_files_open_and_no_threads():
    found = soak.levels(8)
    assert found["left"] == 0
    for name in ("files", "threads", "shared"):
        assert found["last"][name] <= found["first"][name], name


def test_sections_count_what_was_found():
    kill = {
        "moment": "written",
        "number": 3,
        "killed": True,
        "checkpoints": 2,
        "loaded": 2,
        "difference": 0.0,
    }
    disk = {"room": 0.5, "status": 2, "traceback": False, "checkpoints": 1, "loaded": 1, "half_files": 0}
    values = {"seed": 6, "seconds": 2.0, "disks": [{**disk, "difference": 0.0}]}
    values["cost"] = {"megabytes": 2.0, "seconds": 0.012, "every": 120.0}
    values["kills"] = [kill, {**kill, "difference": 0.5}, {**kill, "killed": False}]
    text = kills.section(values)
    assert "SIGKILL 2 times" in text
    assert "| **in all** | 2 | 4 of 4 | 0 | 1 of 2 | 0.5 |" in text
    assert "took 12 ms, every 120 s and at each validation: 0.01% of the time" in text
    assert "ended 1 times of 1 with exit status 2" in text
    good = {
        "moment": "first step",
        "ended with": "KeyboardInterrupt",
        "seconds": 0.1,
        "pressed": True,
        "wrong": [],
    }
    text = interrupts.section({"moments": [good, {**good, "wrong": ["loggers"]}], "status": 0})
    assert "at 2 moments" in text
    assert "After 1 of them" in text
    assert "['loggers']" in text


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
