"""The run in the background: what it tells, in which order, and how it ends."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import latentstem
from helpers import same_up_to_axes
from latentstem.errors import ModelMismatchError, TrainingError
from latentstem.nn.autoencoder import Autoencoder
from napari_latentstem.model import training_callback, training_run
from napari_latentstem.model.events import Comparing, Failed, Finished, Progress, Stopped, Validated
from napari_latentstem.model.interrupt import run_until_stopped

QUICK = {"latent_dim": 3, "epochs": 2, "batch_size": 16, "validation_fraction": 0.1}
TERMINAL = (Finished, Stopped, Failed)


@pytest.fixture
def scan(counts):
    return latentstem.as_scan(counts)


def config(**arguments):
    return latentstem.TrainingConfig(**{**QUICK, **arguments})


def run(scan, until=lambda event: False, stop=None, **arguments):
    """All events; `stop` is set after the first one of which `until` is true."""
    stop = stop or threading.Event()
    kept = {
        name: arguments.pop(name) for name in ("start_from", "output_dir", "baselines") if name in arguments
    }
    events = []
    for event in training_run.train_events(scan, config(**arguments), stop=stop, **kept):
        events.append(event)
        if until(event):
            stop.set()
    assert sum(isinstance(event, TERMINAL) for event in events) == 1
    assert isinstance(events[-1], TERMINAL)
    assert not training_threads()
    return events


def training_threads():
    return [thread for thread in threading.enumerate() if thread.name == "latentstem-training"]


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def test_a_run_tells_how_it_goes_on_and_finishes(scan):
    events = run(scan)
    model = events[-1].model
    progress, validated = of(Progress, events), of(Validated, events)
    assert isinstance(events[-1], Finished)
    assert (progress[-1].step, progress[-1].steps, progress[-1].seconds_left) == (2, 2, 0)
    assert all(np.isfinite(event.train_loss) and event.seconds_left >= 0 for event in progress)
    assert [event.epoch for event in validated] == [0, 1]
    assert [len(event.history["val/loss"]) for event in validated] == [1, 2]
    assert validated[1].history["val/loss"] == model.history["val/loss"]
    assert model.history["patterns_seen"] == [16, 32]


def test_the_forming_maps_are_those_of_the_validated_weights(scan):
    events = run(scan)
    validated, model = of(Validated, events), events[-1].model
    best = int(np.argmin(model.history["val/loss"]))
    assert same_up_to_axes(validated[best].latent_maps, model.embed(scan).maps)
    assert not same_up_to_axes(validated[0].latent_maps, validated[1].latent_maps)


def test_forming_maps_of_a_large_scan_are_coarse(monkeypatch):
    monkeypatch.setattr(training_callback, "_MAX_EMBEDDED", 64)
    data = latentstem.simulate((21, 18), (16, 12), dose=300, n_grains=2).counts
    mask = np.zeros((21, 18), bool)
    mask[:, :4] = True
    scan = latentstem.as_scan(data, scan_mask=mask)
    events = run(scan, epochs=1)
    maps, full = of(Validated, events)[0].latent_maps, events[-1].model.embed(scan).maps
    assert maps.shape == full.shape == (21, 18, 3)
    np.testing.assert_array_equal(np.isnan(maps[..., 0]), mask)
    assert (maps[0, 4:6] == maps[1, 4:6]).all()
    step = 3  # 64 positions of 378
    assert same_up_to_axes(maps[1::step, 4::step], full[1::step, 4::step])
    np.testing.assert_array_equal(maps[3:6, 6:9], np.broadcast_to(maps[4, 7], (3, 3, 3)))


def test_forming_maps_of_a_streamed_scan_are_parts_of_it(scan, monkeypatch, tmp_path):
    import h5py

    with h5py.File(tmp_path / "scan.h5", "w") as file:
        stored = file.create_dataset("data", data=scan.source.array, chunks=(2, 5, 32, 24))
        monkeypatch.setattr("latentstem.training.run.in_memory", lambda scan: scan)
        events = run(latentstem.as_scan(stored), epochs=1)
        full = events[-1].model.embed(stored).maps
    maps = of(Validated, events)[0].latent_maps
    known = np.isfinite(maps[..., 0])
    assert known.any()
    assert same_up_to_axes(maps[known], full[known])


def test_stopped_in_mid_run_it_keeps_the_model_so_far(scan):
    began = time.monotonic()
    events = run(scan, lambda event: isinstance(event, Validated), epochs=100_000)
    assert isinstance(events[-1], Stopped)
    assert np.isfinite(events[-1].model.embed(scan).maps).all()
    assert time.monotonic() - began < 60


def test_stopped_before_the_first_step_there_is_no_model(scan):
    stop = threading.Event()
    stop.set()
    events = run(scan, stop=stop)
    assert [type(event) for event in events] == [Stopped]
    assert events[0].model is None


def test_stopped_while_the_scan_is_read_it_gives_up_at_once(scan, monkeypatch):
    stop, read = threading.Event(), []

    def inspect(scan):
        for block in scan.blocks(5):
            scan.read(block)
            read.append(block)
            stop.set()

    monkeypatch.setattr("latentstem.training.run.measure_quality", inspect)
    events = run(scan, stop=stop)
    assert events[-1].model is None
    assert len(read) == 1


def test_a_failure_says_what_the_library_says(scan, monkeypatch):
    def training_step(self, batch, index):
        raise TrainingError("no luck", expected="luck", received="none", advice="Try again.")

    monkeypatch.setattr(Autoencoder, "training_step", training_step)
    events = run(scan)
    assert str(events[-1].error) == "no luck: expected luck; received none. Try again."


def test_any_exception_is_a_failure_and_the_next_run_is_clean(scan, monkeypatch):
    original = Autoencoder.training_step
    monkeypatch.setattr(Autoencoder, "training_step", lambda *arguments: 1 / 0)
    first = run(scan)
    assert isinstance(first[-1].error, ZeroDivisionError)
    monkeypatch.setattr(Autoencoder, "training_step", original)
    second = run(scan)
    assert isinstance(second[-1], Finished)
    assert not of(Failed, second)


def test_two_runs_in_succession_are_alike(scan):
    first, second = run(scan), run(scan)
    assert of(Progress, second)[-1].train_loss == of(Progress, first)[-1].train_loss
    assert [event.epoch for event in of(Validated, second)] == [0, 1]
    np.testing.assert_array_equal(second[-1].model.embed(scan).maps, first[-1].model.embed(scan).maps)


def test_closing_the_generator_ends_the_run(scan):
    stop = threading.Event()
    events = training_run.train_events(scan, config(epochs=100_000), stop=stop)
    assert isinstance(next(events), Progress)
    assert training_threads()
    events.close()
    assert not training_threads()
    assert stop.is_set()


def test_a_fresh_run_starts_from_the_weights_of_a_model(scan):
    model = run(scan)[-1].model
    again = run(scan, start_from=model, epochs=1, learning_rate=1e-9, weight_decay=0.0)[-1].model
    np.testing.assert_allclose(again.embed(scan).maps, model.embed(scan).maps, atol=1e-4)
    assert again.history["patterns_seen"] == [16]
    events = run(scan, start_from=model, latent_dim=5)
    with pytest.raises(ModelMismatchError, match=r"latent_dim=3.*received latent_dim=5"):
        raise events[-1].error


def test_a_stopped_run_goes_on_from_its_folder(scan, tmp_path):
    stopped = run(scan, lambda event: isinstance(event, Validated), epochs=50, output_dir=tmp_path)[-1]
    done = len(stopped.model.history["epoch"])
    assert 0 < done < 50
    last = tmp_path / "checkpoints" / "last.ckpt"
    resumed = [
        event
        for event in training_run.train_events(
            scan,
            latentstem.TrainingConfig(epochs=done + 1),
            stop=threading.Event(),
            start_from=last,
            output_dir=tmp_path,
        )
    ]
    assert len(resumed[-1].model.history["epoch"]) > done


def test_the_comparison_with_pca_is_told_of_and_kept(scan):
    events = run(scan, baselines=True)
    assert isinstance(events[-2], Comparing)
    assert "PCA" in events[-1].model.evidence["verdict"]


def test_stopped_in_the_comparison_the_model_is_kept(scan, monkeypatch):
    def evidence(model, scan):
        for _ in range(3000):
            time.sleep(0.01)
        raise RuntimeError

    monkeypatch.setattr("latentstem.report.evidence", evidence)
    began = time.monotonic()
    events = run(scan, lambda event: isinstance(event, Comparing), baselines=True)
    assert time.monotonic() - began < 20
    assert isinstance(events[-1], Stopped)
    assert events[-1].model.evidence is None
    assert np.isfinite(events[-1].model.embed(scan).maps).all()


def test_what_is_not_stopped_comes_back():
    stop = threading.Event()
    assert run_until_stopped(lambda: 7, stop) == 7
    with pytest.raises(ZeroDivisionError):
        run_until_stopped(lambda: 1 / 0, stop)
    assert run_until_stopped(lambda: stop.set() or time.sleep(0.3), stop) is None
    time.sleep(0.2)  # nothing arrives late


def test_embedding_ends_with_latents_or_the_error_or_nothing(scan):
    model, stop = run(scan)[-1].model, threading.Event()
    (embedded,) = training_run.embed_events(scan, model, stop)
    assert embedded.model is model
    np.testing.assert_array_equal(embedded.embedding.maps, model.embed(scan).maps)
    (failed,) = training_run.embed_events(latentstem.as_scan(scan.source.array[:, :, :20]), model, stop)
    with pytest.raises(ModelMismatchError, match=r"expected 32 x 24 pixels.*received 20 x 24 pixels"):
        raise failed.error
    stop.set()
    (stopped,) = training_run.embed_events(scan, model, stop)
    assert isinstance(stopped, Stopped)


def test_stop_ends_the_search_for_a_number_of_latents(scan, monkeypatch, tmp_path):
    import h5py

    monkeypatch.setattr("latentstem.training.run._TRIAL_STEPS", 1000)  # steps for each number
    stop, steps = threading.Event(), []
    original = Autoencoder.training_step

    def training_step(self, batch, index):
        steps.append(index)
        if len(steps) == 3:
            stop.set()
        return original(self, batch, index)

    monkeypatch.setattr(Autoencoder, "training_step", training_step)
    with h5py.File(tmp_path / "scan.h5", "w") as file:  # which is read into memory first
        stored = file.create_dataset("data", data=scan.source.array, chunks=(2, 5, 32, 24))
        events = run(latentstem.as_scan(stored), stop=stop, latent_dim="auto")
    assert [type(event) for event in events] == [Stopped]
    assert events[0].model is None
    assert len(steps) < 500
