"""What a run will take, and the refusal of what cannot fit."""

from __future__ import annotations

import gc

import numpy as np
import psutil
import pytest
import torch

from helpers import train
from latentstem import as_scan
from latentstem.errors import TrainingError
from latentstem.nn.autoencoder import Autoencoder
from latentstem.training import estimate as module
from latentstem.training.estimate import _activation_bytes_per_pattern, estimate


def autoencoder(shape=(32, 24), **arguments):
    config = {"reconstruction": "poisson", "preprocessing": "minmax", "split_counts": True, "latent_dim": 4}
    return Autoencoder({**config, **arguments}, shape)


@pytest.mark.parametrize("arguments", [{}, {"context": 0}, {"network": "resnet", "context": 0}])
def test_memory_of_a_step_is_what_is_kept_for_the_gradient(arguments):
    made = autoencoder(**arguments)
    kept = {}
    own = {
        weight.untyped_storage()._cdata for weight in [*made.network.parameters(), *made.network.buffers()]
    }

    def note(tensor):
        if tensor.untyped_storage()._cdata not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = module._forward(made, made.network, 6, "cpu")
    assert output.shape == (6, 32, 24)
    assert _activation_bytes_per_pattern(made) == pytest.approx(sum(kept.values()) / 6, rel=0.05)


def test_nothing_stays_of_the_network_that_was_measured():
    def on_meta():
        weights = (held for held in gc.get_objects() if type(held) is torch.nn.Parameter)
        return sum(weight.device.type == "meta" for weight in weights)

    made = autoencoder()
    gc.collect()
    before = on_meta()
    _activation_bytes_per_pattern(made)
    gc.collect()
    assert on_meta() == before


def test_the_estimate_grows_with_what_it_is_of(monkeypatch):
    assert 0 < module._seconds_per_pattern(autoencoder()) < 10
    monkeypatch.setattr(
        module, "_seconds_per_pattern", lambda module: 0.001
    )  # another program may take its time
    scan = as_scan(np.zeros((70, 50, 32, 24), np.uint16))
    small = estimate(autoencoder(batch_size=16), scan, 1000, 0.1)
    large = estimate(autoencoder(batch_size=4096), scan, 1000, 0.1)
    assert large.step_bytes > 40 * small.step_bytes
    assert large.memory > small.memory
    longer = estimate(autoencoder(batch_size=16), scan, 1_000_000, 0.1)
    assert longer.seconds == 1000 * small.seconds == 1000


def test_a_short_small_run_says_nothing_and_others_a_line(scan, capsys, monkeypatch):
    monkeypatch.setattr(
        module, "_seconds_per_pattern", lambda module: 0.001
    )  # another program may take its time
    train(scan, progress=True)
    assert "Estimate" not in capsys.readouterr().out
    monkeypatch.setattr(module, "_MIN_BYTES_SHOWN", 0)
    train(scan, progress=True)
    assert "Estimate: about " in capsys.readouterr().out


def test_a_run_that_cannot_fit_is_refused_before_it_begins(scan, monkeypatch, tmp_path):
    memory = psutil.virtual_memory()._replace(available=10**6)
    swap = psutil.swap_memory()._replace(free=0)
    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(module.psutil, "swap_memory", lambda: swap)
    with pytest.raises(
        TrainingError, match=r"does not fit into memory.*batch_size \(it is 16\).*bin=2.*low-memory"
    ):
        train(scan, output_dir=tmp_path)
    assert not list(tmp_path.rglob("*.ckpt"))
