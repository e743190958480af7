"""Disks that are full, folders that cannot be written to or vanish: what was good stays good, and is named."""

from __future__ import annotations

import logging
import shutil
import signal
import subprocess
import threading

import numpy as np
import pytest
from pytorch_lightning import Callback
from typer.testing import CliRunner

import latentstem
from helpers import maps, train
from latentstem.cli import app
from latentstem.errors import StorageError
from latentstem.training import checkpoint_callback
from latentstem.training.training_module import TrainingModule
from latentstem.util import disk


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A folder on a disk of 16 MB, which is not refused before the run: others will fill it later."""
    monkeypatch.setattr(disk, "_RESERVED_BYTES", -(2**40))
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder):
    """Leave no room on a disk."""
    with (folder / "filling").open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return


class At(Callback):
    """Do something after a step."""

    def __init__(self, step, act):
        self.step, self.act = step, act

    def on_train_batch_end(self, trainer, module, *arguments):
        if trainer.global_step == self.step:
            self.act()


def kept(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


@pytest.mark.parametrize("every", [0.0, 1e9])
def test_a_full_disk_ends_the_run_and_loses_nothing(scan, small_disk, monkeypatch, every):
    """In the midst of an epoch, and at a validation."""
    monkeypatch.setattr(checkpoint_callback, "_CHECKPOINT_INTERVAL", every)
    output = small_disk / "run"
    threads, handlers = {thread.name for thread in threading.enumerate()}, signal.getsignal(signal.SIGTERM)
    levels = [logging.getLogger(name).level for name in ("pytorch_lightning", "lightning.pytorch")]
    with pytest.raises(StorageError, match=r"training stopped.*No space left.*resume_from='.*last\.ckpt'"):
        train(scan, output_dir=output, callbacks=[At(8, lambda: fill(small_disk))])
    assert kept(output) == ["best.ckpt", "last.ckpt"]
    for name in kept(output):
        assert np.isfinite(maps(latentstem.load(output / "checkpoints" / name), scan)).all()
    assert signal.getsignal(signal.SIGTERM) == handlers
    assert {thread.name for thread in threading.enumerate()} - threads <= {"tqdm_monitor"}
    assert levels == [logging.getLogger(name).level for name in ("pytorch_lightning", "lightning.pytorch")]
    (small_disk / "filling").unlink()
    model = train(scan, output_dir=output, resume_from=output / "checkpoints" / "last.ckpt")
    np.testing.assert_array_equal(maps(model, scan), maps(train(scan), scan))


def test_a_disk_that_is_full_before_is_told_before_any_work(scan, small_disk, monkeypatch):
    fill(small_disk)
    monkeypatch.setattr(latentstem.training.run, "measure_quality", pytest.fail)
    with pytest.raises(
        StorageError, match=r"cannot be written.*small_disk|cannot be written.*disk.*No space"
    ):
        train(scan, output_dir=small_disk / "run")


def test_the_command_line_says_so_without_a_traceback(scan, small_disk, tmp_path, monkeypatch):
    np.save(tmp_path / "scan.npy", scan)
    step = TrainingModule.training_step
    monkeypatch.setattr(
        TrainingModule,
        "training_step",
        lambda self, *a: (fill(small_disk) if self.global_step == 8 else None) or step(self, *a),
    )
    arguments = ["train", "--data", tmp_path / "scan.npy", "--output_dir", small_disk / "run"]
    arguments += ["--epochs", 3, "--batch_size", 16, "--latent_dim", 4]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 2, done.output
    assert "error: training stopped" in done.output
    assert f"--resume {small_disk / 'run' / 'checkpoints' / 'last.ckpt'}" in done.output
    assert "Traceback" not in done.output
    assert kept(small_disk / "run") == ["best.ckpt", "last.ckpt"]


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_file_in_the_way_is_told_before_any_work(scan, tmp_path, monkeypatch, where):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(latentstem.training.run, "measure_quality", pytest.fail)
    with pytest.raises(StorageError, match=r"cannot be written.*(File exists|Not a directory)"):
        train(scan, output_dir=tmp_path / where)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_without_rights_is_told_before_any_work(scan, small_disk, monkeypatch):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    monkeypatch.setattr(latentstem.training.run, "measure_quality", pytest.fail)
    for output in (small_disk, small_disk / "run"):
        with pytest.raises(StorageError, match=r"cannot be written.*Read-only file system"):
            train(scan, output_dir=output)


def test_a_folder_that_is_deleted_in_mid_run_comes_back(scan, tmp_path):
    output = tmp_path / "run"
    with pytest.warns(UserWarning, match=r"logging to .* stopped.*No such file"):
        model = train(scan, output_dir=output, callbacks=[At(8, lambda: shutil.rmtree(output))])
    np.testing.assert_array_equal(maps(model, scan), maps(train(scan), scan))
    assert latentstem.load(output / "checkpoints" / "last.ckpt").history == {
        name: values for name, values in model.history.items() if not name.startswith("final")
    }


def test_a_best_checkpoint_that_is_gone_costs_no_training(scan, tmp_path):
    output = tmp_path / "run"
    last_step = At(18, lambda: shutil.rmtree(output / "checkpoints"))
    write = checkpoint_callback.BestAndLastCheckpoint.save_best

    def only_first(self, trainer, score):
        if self.best_score is None:
            write(self, trainer, score)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint_callback.BestAndLastCheckpoint, "save_best", only_first)
        with pytest.warns(UserWarning, match=r"no such checkpoint.*best\.ckpt.*last step instead"):
            model = train(scan, output_dir=output, callbacks=[last_step])
    np.testing.assert_array_equal(maps(model, scan), maps(train(scan), scan))


# ---- files of earlier runs ----


def test_a_run_moves_the_files_of_an_earlier_one(scan, tmp_path, caplog):
    first = train(scan, output_dir=tmp_path)
    best = tmp_path / "checkpoints" / "best.ckpt"
    (tmp_path / "ae.ckpt").write_text("mine")
    with caplog.at_level(logging.WARNING, "latentstem"):
        second = train(scan, output_dir=tmp_path, init_from=best, learning_rate=1e-4)
    assert "Results of an earlier run" in caplog.text
    earlier = tmp_path / "earlier-1"
    np.testing.assert_array_equal(
        maps(latentstem.load(earlier / "checkpoints" / "best.ckpt"), scan), maps(first, scan)
    )
    np.testing.assert_array_equal(maps(latentstem.load(best), scan), maps(second, scan))
    assert (earlier / "tb_logs").is_dir()
    assert (tmp_path / "ae.ckpt").read_text() == "mine"


def test_a_run_that_goes_on_moves_nothing(scan, tmp_path):
    train(scan, output_dir=tmp_path)
    train(scan, output_dir=tmp_path, resume_from=tmp_path / "checkpoints" / "last.ckpt", epochs=4)
    assert not (tmp_path / "earlier-1").exists()
    history = latentstem.load(tmp_path / "checkpoints" / "last.ckpt").history
    assert history["epoch"] == [0, 1, 2, 3]
