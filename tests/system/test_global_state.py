"""What is the user's and not ours is the same before and after every call, also after errors and after Ctrl-C."""

from __future__ import annotations

import os
import signal
import tempfile
from copy import deepcopy

import hyperspy.api as hs
import numpy as np
import py4DSTEM
import pytest
import torch
from typer.testing import CliRunner

import latentstem
from helpers import train
from hostile.process_snapshot import snapshot
from latentstem.cli import app
from latentstem.report.report import write_report


class Given:
    """What the calls are made on."""

    def __init__(self, scan, folder):
        self.scan, self.folder = scan, folder
        self.model = train(scan, epochs=1)
        self.path = self.model.save(folder / "ae.ckpt")
        np.save(folder / "scan.npy", scan)
        self.signal = hs.signals.Signal2D(scan.copy())
        self.datacube = py4DSTEM.DataCube(scan.copy())


@pytest.fixture(scope="module")
def given(scan, tmp_path_factory):
    return Given(scan, tmp_path_factory.mktemp("given"))


def command_line(given):
    arguments = ["embed", "--data", given.folder / "scan.npy", "--model", given.path, "--overwrite"]
    done = CliRunner().invoke(app, [*map(str, arguments), "--output", str(given.folder / "cli.npz")])
    if isinstance(done.exception, Exception):
        raise done.exception
    if done.exit_code == 130:
        raise KeyboardInterrupt


#: what is called, and the function in which it is stopped
VERBS = {
    "train": (lambda g: train(g.scan), "training.training_module.TrainingModule.training_step"),
    "train, at the start": (lambda g: train(g.scan), "training.run.measure_quality"),
    "train, asking for patterns": (
        lambda g: train(g.scan),
        "training.data_module.ScanDataModule.train_dataloader",
    ),
    "train, at a validation": (
        lambda g: train(g.scan),
        "training.training_module.TrainingModule.validation_step",
    ),
    "train, writing": (
        lambda g: train(g.scan, output_dir=tempfile.mkdtemp(dir=g.folder)),
        "training.checkpoint_callback.write_checkpoint",
    ),
    "train with a loader process": (
        lambda g: train(g.scan, epochs=1, workers=1),
        "training.training_module.TrainingModule.training_step",
    ),
    "embed": (
        lambda g: g.model.embed(g.scan, progress=True),
        "nn.principal_components.PrincipalComponents.forward",
    ),
    "reconstruct": (lambda g: g.model.reconstruct(g.scan), "nn.autoencoder.Autoencoder.decode_patterns"),
    "save": (lambda g: g.model.save(g.folder / "again.ckpt"), "io.checkpoint.atomic_write"),
    "load": (lambda g: latentstem.load(g.path), "nn.autoencoder.build_network"),
    "report": (
        lambda g: write_report(g.model, g.scan, g.folder / "report.html"),
        "report.report.compare_with_baselines",
    ),
    "simulate": (lambda g: latentstem.simulate((3, 4), (16, 18)), "simulation.diffraction._draw_disks"),
    "as_scan": (lambda g: latentstem.as_scan(g.folder / "scan.npy"), None),
    "HyperSpy": (lambda g: g.signal.embed(g.model), "nn.principal_components.PrincipalComponents.forward"),
    "py4DSTEM": (lambda g: g.datacube.reconstruct(g.model), "nn.autoencoder.Autoencoder.decode_patterns"),
    "command line": (command_line, "nn.principal_components.PrincipalComponents.forward"),
}


class Broken(Exception):
    """Nobody expects it."""


def fail(*arguments, **keywords):
    raise Broken("out of order")


def press_ctrl_c(*arguments, **keywords):
    os.kill(os.getpid(), signal.SIGINT)
    raise AssertionError("Ctrl-C did nothing")


@pytest.fixture(autouse=True, scope="module")
def imported(given):
    """Imports may change what they like; loggers are there from then on."""
    for call, _ in VERBS.values():
        call(given)


@pytest.fixture
def particular(monkeypatch):
    """Settings that nobody else has."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_default_dtype(torch.float64)
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - threads if threads < 3 else 2)
    with np.errstate(divide="ignore"):
        yield
    torch.use_deterministic_algorithms(False)
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(threads)


def left_in(folder):
    return sorted(path.name for path in folder.rglob("*") if ".part" in path.name)


@pytest.mark.parametrize("stop", [None, fail, press_ctrl_c])
@pytest.mark.parametrize("verb", VERBS)
def test_surroundings_stay(given, monkeypatch, tmp_path, verb, stop):
    call, where = VERBS[verb]
    if stop is not None:
        if where is None:
            pytest.skip("over at once")
        monkeypatch.setattr(f"latentstem.{where}", stop)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = deepcopy_of(snapshot())
    if stop is None:
        call(given)
    else:
        with pytest.raises((Broken, KeyboardInterrupt), match=r"^(|out of order)$"):
            call(given)
    after = snapshot()
    for name, value in before.items():
        assert after[name] == value, name
    assert not list(tmp_path.iterdir()), "temporary files"
    assert not left_in(given.folder)
    np.testing.assert_array_equal(given.signal.data, given.scan)


def deepcopy_of(state):
    """What may be changed in place is copied."""
    return {**state, **{name: deepcopy(state[name]) for name in ("HyperSpy", "dask", "matplotlib", "numpy")}}


def test_particular_settings_stay(given, particular):
    before = deepcopy_of(snapshot())
    train(given.scan)
    after = snapshot()
    for name, value in before.items():
        assert after[name] == value, name
