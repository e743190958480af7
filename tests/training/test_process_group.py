"""Training on several processes: one model, the same for all of them, however it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback

import latentstem
from helpers import train
from latentstem.config import TrainingConfig
from latentstem.errors import ArgumentError, DataValueError, TrainingError
from latentstem.io.open import as_scan
from latentstem.nn.autoencoder import Autoencoder
from latentstem.nn.scan_scores import ScanScores
from latentstem.training import process_group
from latentstem.training.data_module import ScanDataModule, split_positions
from latentstem.training.process_group import ProcessGroup, choose_strategy, is_rank_zero
from latentstem.training.training_module import TrainingModule

SCRIPT = '''
import json, os, sys, time
from pathlib import Path
import h5py, numpy as np, torch
from pytorch_lightning import Callback
import latentstem
from latentstem.training import run

run._TRIAL_STEPS = 4  # steps of each short training that chooses the number of latents
scan = latentstem.simulate((12, 10), (16, 20), dose=300, n_grains=3).counts
rank = int(os.environ.get("LOCAL_RANK", 0))
told = {}

def train(data, name, **arguments):
    before = torch.get_num_threads()
    quick = {"latent_dim": 4, "epochs": 3, "batch_size": 16, "validation_fraction": 0.1, "devices": 2}
    quick["learning_rate"] = 1e-3
    model = latentstem.train_autoencoder(data, **{"progress": False, **quick, **arguments})
    told[name] = {"history": model.history, "latents": float(np.abs(model.embed(scan).maps).sum()),
                  "config": model.config.model_dump(), "choices": model.summary.choices,
                  "threads": [before, torch.get_num_threads()]}

class Tell(Callback):
    """Stops the run on the second process, after its fourth step."""
    def on_train_batch_end(self, trainer, *_):
        told.setdefault("stopped at", 0)
        told["stopped at"] += 1
        if trainer.global_rank == 1 and trainer.global_step == 4:
            trainer.should_stop = True

class Poison(Callback):
    """What the second process reads is of no use, from its second step on."""
    def on_train_batch_start(self, trainer, module, batch, *_):
        if trainer.global_rank == 1 and trainer.global_step == 2:
            module.autoencoder.network.decode = lambda latents: torch.full((len(latents), 16, 20), torch.nan, requires_grad=True)

train(scan, "plain", output_dir="out", realtime_metrics=True, progress=True)
train(scan, "resumed", epochs=4, output_dir="out", resume_from="out/checkpoints/last.ckpt")
train(scan, "tuned", epochs=1, init_from="out/checkpoints/best.ckpt")
train(scan, "stopped", callbacks=[Tell()])
train(scan, "limited", epochs=10000, max_time="00:00:00:01", patience=10000)
mask = np.zeros((12, 10), bool)
mask[:3] = True
with h5py.File(f"scan{rank}.h5", "w") as file:
    stored = file.create_dataset("data", data=scan, chunks=(5, 4, 16, 20))
run.fits_in_memory = lambda scan, copies: False
train(f"scan{rank}.h5", "streamed", epochs=1, scan_mask=mask, latent_dim="auto", patience=1, workers=1)
Path(f"told{rank}.json").write_text(json.dumps(told))
try:
    train(scan, "poisoned", callbacks=[Poison()], max_patterns=3000, epochs=None)
except latentstem.errors.TrainingError as error:
    print("rank", rank, "was told:", error)
'''


def python(script: Path, *, seconds: float = 290) -> subprocess.CompletedProcess[str]:
    """Run a script as a user does; it does not hang."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", script.name], cwd=script.parent, capture_output=True, text=True,
        timeout=seconds, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    script = tmp_path_factory.mktemp("ddp") / "script.py"
    script.write_text(SCRIPT)
    done = python(script)
    assert done.returncode == 0, done.stderr
    told = [json.loads((script.parent / f"told{rank}.json").read_text()) for rank in (0, 1)]
    return script.parent, done, told


def test_every_process_has_the_same_model(ran):
    _, _, (first, second) = ran
    assert {"plain", "resumed", "tuned", "stopped", "limited", "streamed"} <= set(first)
    for name, run in first.items():
        assert second[name] == run
    assert first["plain"]["config"]["devices"] == 2
    assert any("strategy='ddp': 2 processes" in choice for choice in first["plain"]["choices"])
    before, after = first["plain"]["threads"]
    assert after == before


def test_two_processes_do_what_one_does(ran, scan):
    _, _, (told, _) = ran
    alone = train(scan, realtime_metrics=True)
    history = told["plain"]["history"]
    assert history["patterns_seen"] == alone.history["patterns_seen"]
    np.testing.assert_allclose(history["val/loss"], alone.history["val/loss"], rtol=0.02)
    np.testing.assert_allclose(history["train/loss"], alone.history["train/loss"], rtol=0.05)


def test_validation_is_that_of_one_process(ran, scan):
    folder, _, (told, _) = ran
    best = Autoencoder.load_from_checkpoint(folder / "out" / "checkpoints" / "best.ckpt")
    view = as_scan(scan)
    scores = ScanScores.measure(view, best.principal_components, best.preprocessing.detector)
    parts = split_positions(view, 0.1, 0)
    held_out = ScanDataModule(
        view, scores, *parts, TrainingConfig(batch_size=16), ProcessGroup(), 1
    ).validation
    measured = told["plain"]["history"]["val/loss"] + told["resumed"]["history"]["val/loss"]
    assert TrainingModule(best).validation_loss(held_out) == pytest.approx(min(measured), rel=1e-5)


def test_runs_end_together(ran):
    _, done, (told, _) = ran
    assert told["stopped at"] == 4
    assert told["stopped"]["history"]["patterns_seen"] == [64]
    assert told["limited"]["history"]["epoch"][-1] < 9999
    assert len(told["resumed"]["history"]["val/loss"]) == 4
    assert told["streamed"]["config"]["latent_dim"] in (2, 4, 8, 16, 32, 64)
    assert "workers=0: each process prefetches in a thread" in told["streamed"]["choices"]
    assert done.stdout.count("rank 0 was told: training became unstable") == 1
    assert "rank 1" not in done.stdout
    assert "Traceback" not in done.stderr


def test_one_process_speaks_and_writes(ran):
    folder, done, _ = ran
    assert done.stdout.count("Training summary") == 1
    assert "Epoch 2: 100%" in done.stdout
    assert len(list((folder / "out" / "tb_logs").rglob("events*"))) <= 2  # of the run, and of the resumed one


# ---- forked, as in a notebook


def test_forked_processes(scan, same_threads):
    environment = dict(os.environ)
    model = train(scan, devices=2, strategy="ddp_notebook", max_patterns=200, epochs=None)
    assert len(model.history["val/loss"]) == model.history["epoch"][-1] + 1
    assert model.history["patterns_seen"][-1] >= 200
    assert np.isfinite(model.embed(scan).maps).all()
    assert model.summary.figures["patterns seen"] == model.history["patterns_seen"][-1]
    assert dict(os.environ) == environment
    assert not torch.distributed.is_initialized()


@pytest.fixture
def same_threads():
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before


class Fail(Callback):
    """An error of one process, of whichever kind."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_rank == 1:
            raise self.error


@pytest.mark.timeout(60)
def test_an_error_of_one_process_ends_all(scan):
    ours = DataValueError("what", expected="this", received="that", advice="Do so.")
    with pytest.raises(DataValueError, match=r"what: expected this; received that. Do so."):
        train(scan, devices=2, strategy="ddp_notebook", callbacks=[Fail(ours)])
    with pytest.raises(TrainingError, match=r"one of the processes failed.*received KeyError: 'lost'"):
        train(scan, devices=2, strategy="ddp_notebook", callbacks=[Fail(KeyError("lost"))])


# ---- what is asked for


def test_auto_takes_what_works_and_says_so(monkeypatch):
    config = TrainingConfig(devices=2)
    assert choose_strategy(TrainingConfig(), "cpu") == ("none", "")
    assert choose_strategy(TrainingConfig(strategy="ddp"), "cpu") == ("none", "")
    monkeypatch.setattr(process_group, "_is_script", lambda: True)
    assert choose_strategy(config, "cpu")[0] == "ddp"
    monkeypatch.setattr(process_group, "_is_script", lambda: False)
    for strategy in ("auto", "ddp"):
        chosen, why = choose_strategy(TrainingConfig(devices=2, strategy=strategy), "cpu")
        assert chosen == "ddp_notebook"
        assert "no script to rerun" in why
    with pytest.raises(ArgumentError, match=r"processes cannot be forked.*num_nodes=2"):
        choose_strategy(TrainingConfig(devices=2, num_nodes=2), "cpu")
    monkeypatch.setattr(process_group.multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(ArgumentError, match=r"expected a script, or one machine"):
        choose_strategy(config, "cpu")


def test_a_notebook_has_no_script(monkeypatch):
    monkeypatch.setattr(sys, "ps1", "In [1]: ", raising=False)
    assert not process_group._is_script()
    monkeypatch.delattr(sys, "ps1")
    monkeypatch.setattr(sys, "argv", ["-c"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    assert not process_group._is_script()
    monkeypatch.setattr(sys, "argv", [__file__])
    assert process_group._is_script()


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"SLURM_PROCID": "3", "LOCAL_RANK": "0"}, False),
        ({"SLURM_PROCID": "0"}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
    ],
)
def test_which_process_is_the_first(variables, first, monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_rank_zero(TrainingConfig(devices=2)) == first
    assert is_rank_zero(TrainingConfig())


def test_devices_are_asked_for_at_each_call(scan, tmp_path):
    """They are of a place, not of a model."""
    train(scan, epochs=2, output_dir=tmp_path)
    last = tmp_path / "checkpoints" / "last.ckpt"
    resumed = train(scan, epochs=3, resume_from=last, devices=2, strategy="ddp_notebook")
    assert resumed.config.devices == 2
    assert len(resumed.history["val/loss"]) == 3
    assert latentstem.train_autoencoder(scan, resume_from=last, progress=False).config.devices == 1


@pytest.mark.parametrize("arguments", [{"context": 0}, {"reconstruction": "mse"}, {"network": "resnet"}])
def test_networks_that_leave_weights_unused(scan, arguments, narrow):
    model = train(scan, devices=2, strategy="ddp_notebook", epochs=1, **arguments)
    assert np.isfinite(model.history["val/loss"]).all()


def test_batches_are_shared_evenly(scan):
    model = train(scan, devices=3, strategy="ddp_notebook", epochs=1)
    assert model.config.batch_size == 15
    assert any("batch_size=15 instead of 16, shared by 3 processes" in c for c in model.summary.choices)
