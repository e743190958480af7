"""A run that was cut off anywhere goes on to the result that it would have had in one go."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

import latentstem
from helpers import maps, train
from latentstem.training import checkpoint_callback
from latentstem.training.checkpoint_callback import BestAndLastCheckpoint
from latentstem.training.training_module import TrainingModule


@pytest.fixture(scope="module")
def whole(scan):
    """The run in one go."""
    return train(scan)


class Cut(BaseException):
    """In place of the kill: nothing is written after it either."""


@pytest.fixture
def cut(monkeypatch):
    """A function that trains until a step, or until a file of an epoch has been or would be written."""

    def run(data, *, step=None, before=None, epoch=0, **arguments):
        training_step, write = TrainingModule.training_step, BestAndLastCheckpoint._write

        def stopping_step(self, batch, index):
            if self.global_step == step:
                raise Cut
            return training_step(self, batch, index)

        def stopping_write(self, trainer, path):
            if path.name == before and trainer.current_epoch == epoch and not self._in_epoch:
                raise Cut
            write(self, trainer, path)

        with monkeypatch.context() as patch:
            patch.setattr(checkpoint_callback, "_CHECKPOINT_INTERVAL", 0.0)
            patch.setattr(TrainingModule, "training_step", stopping_step)
            patch.setattr(BestAndLastCheckpoint, "_write", stopping_write)
            with pytest.raises(Cut):
                train(data, **arguments)

    return run


def goes_on_as_if_nothing_had_been(scan, folder, whole, **arguments):
    path = folder / "checkpoints" / "last.ckpt"
    if not path.exists():
        path = path.with_name("best.ckpt")
    model = latentstem.train_autoencoder(
        scan, resume_from=path, output_dir=folder, progress=False, **arguments
    )
    np.testing.assert_array_equal(maps(model, scan), maps(whole, scan))
    assert model.history == whole.history
    best = latentstem.load(folder / "checkpoints" / "best.ckpt")
    np.testing.assert_array_equal(maps(best, scan), maps(whole, scan))


@pytest.mark.parametrize("step", [1, 9, 11, 12])  # of six in an epoch; last.ckpt is one step behind
def test_a_run_goes_on_in_the_midst_of_an_epoch(scan, tmp_path, cut, whole, step):
    cut(scan, step=step, output_dir=tmp_path)
    goes_on_as_if_nothing_had_been(scan, tmp_path, whole)


@pytest.mark.parametrize(("before", "epoch"), [("best.ckpt", 1), ("last.ckpt", 0), ("last.ckpt", 2)])
def test_a_run_goes_on_after_any_of_the_two_files(scan, tmp_path, cut, whole, before, epoch):
    """Also if the best is of a later epoch than the last."""
    cut(scan, before=before, epoch=epoch, output_dir=tmp_path)
    goes_on_as_if_nothing_had_been(scan, tmp_path, whole)


def test_a_run_that_is_cut_off_again_and_again(scan, tmp_path, cut, whole):
    cut(scan, step=3, output_dir=tmp_path)
    for step in (5, 7, 8, 16):
        cut(scan, step=step, output_dir=tmp_path, resume_from=tmp_path / "checkpoints" / "last.ckpt")
    goes_on_as_if_nothing_had_been(scan, tmp_path, whole)


@pytest.mark.usefixtures("narrow")
def test_the_reference_network_goes_on(scan, tmp_path, cut):
    cut(scan, step=8, output_dir=tmp_path, network="resnet")
    goes_on_as_if_nothing_had_been(scan, tmp_path, train(scan, network="resnet"))


def test_a_run_of_so_many_patterns_goes_on(scan, tmp_path, cut):
    budget = {"epochs": None, "max_patterns": 800}  # 50 steps, 20 epochs of 3 steps
    cut(scan, step=31, output_dir=tmp_path, **budget)
    goes_on_as_if_nothing_had_been(scan, tmp_path, train(scan, **budget))


def test_a_streamed_run_goes_on(scan, tmp_path, cut, monkeypatch):
    monkeypatch.setattr("latentstem.training.run.in_memory", lambda scan: scan)
    stored = da.from_array(scan, chunks=(5, 4, 16, 20))
    cut(stored, step=9, output_dir=tmp_path)
    goes_on_as_if_nothing_had_been(stored, tmp_path, train(stored))


@pytest.mark.parametrize("step", [15, None])
def test_patience_is_not_renewed(scan, tmp_path, cut, monkeypatch, step):
    """Nothing is better than the first epoch: the run stops after the third, also when it is resumed there."""
    validation_step = TrainingModule.validation_step

    def rising(self, batch, index):
        validation_step(self, batch, index)
        self.log("val/loss", 10.0 + self.global_step, batch_size=1)

    monkeypatch.setattr(TrainingModule, "validation_step", rising)
    whole = train(scan, epochs=9, patience=2)
    assert whole.history["epoch"] == [0, 1, 2]
    if step is None:
        train(scan, epochs=9, patience=2, output_dir=tmp_path)
    else:
        cut(scan, step=step, epochs=9, patience=2, output_dir=tmp_path)
    goes_on_as_if_nothing_had_been(scan, tmp_path, whole)


def test_last_is_written_where_nothing_got_better(scan, tmp_path, monkeypatch):
    validation_step = TrainingModule.validation_step
    monkeypatch.setattr(
        TrainingModule,
        "validation_step",
        lambda self, *a: validation_step(self, *a) or self.log("val/loss", 10.0 + self.global_step),
    )
    train(scan, output_dir=tmp_path)
    folder = tmp_path / "checkpoints"
    assert latentstem.load(folder / "best.ckpt").history["epoch"] == [0]
    assert latentstem.load(folder / "last.ckpt").history["epoch"] == [0, 1, 2]


def test_a_finished_run_alone_gives_the_averaged_weights(scan, tmp_path, whole):
    train(scan, output_dir=tmp_path)
    (tmp_path / "checkpoints" / "best.ckpt").unlink()
    last = tmp_path / "checkpoints" / "last.ckpt"
    model = latentstem.train_autoencoder(scan, resume_from=last, progress=False)
    assert whole.history["val/loss"][-1] == min(whole.history["val/loss"])
    np.testing.assert_array_equal(maps(model, scan), maps(whole, scan))
