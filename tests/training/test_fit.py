"""Training as a user meets it: what it gives, what it leaves alone, how it stops and goes on."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import threading
import warnings

import dask.array as da
import numpy as np
import pytest
import torch
from pytorch_lightning import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm import tqdm

import latentstem
from helpers import maps, same_up_to_axes, train
from hostile.process_snapshot import snapshot
from latentstem.errors import ArgumentError, CheckpointError, MaskError, ModelMismatchError, TrainingError
from latentstem.nn.autoencoder import Autoencoder
from latentstem.training import data_module
from latentstem.training.training_module import TrainingModule

TERMS = ("loss", "poisson", "l1", "similarity", "divergence")
PENALTIES = {"lambda_act": 1e-4, "lambda_sim": 5e-5, "lambda_div": 2e-4}
# in which the loss falls to the end, so that the last epoch is the best
SIX_EPOCHS = {"epochs": 6, "realtime_metrics": True, "learning_rate": 3e-4, **PENALTIES}


@pytest.fixture(scope="module")
def finished(scan, tmp_path_factory):
    """A run of six epochs, with its output."""
    folder = tmp_path_factory.mktemp("finished")
    return train(scan, output_dir=folder, **SIX_EPOCHS), folder


# ---- the same again ----


def test_same_seed_same_latents(scan):
    one, again, other = (maps(train(scan, seed=seed), scan) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)
    assert np.isfinite(one).all()
    assert one.shape == (12, 10, 4)
    assert one.dtype == np.float32


def test_each_step_splits_the_counts_afresh(scan, monkeypatch):
    numbers = []
    original = TrainingModule._generator
    monkeypatch.setattr(
        TrainingModule,
        "_generator",
        lambda self, number, rank=0: numbers.append(number) or original(self, number),
    )
    train(scan, epochs=2)
    assert [number for number in numbers if number >= 0] == list(range(12))
    assert {number for number in numbers if number < 0} == {-1}  # validation always the same


def test_the_random_numbers_drawn_before_do_not_matter(scan):
    one = maps(train(scan), scan)
    torch.rand(3), random.random()
    np.testing.assert_array_equal(maps(train(scan), scan), one)


def test_loader_processes_make_no_difference(scan):
    np.testing.assert_array_equal(maps(train(scan, workers=2), scan), maps(train(scan), scan))


def test_storage_makes_no_difference(scan):
    want = maps(train(scan), scan)
    for stored in (
        da.from_array(scan, chunks=(5, 4, 16, 20)),
        scan.astype(">u2"),
        torch.from_numpy(scan.copy()),
    ):
        np.testing.assert_allclose(maps(train(stored), stored), want, atol=1e-5)


def test_a_scan_larger_than_memory_is_streamed(scan, monkeypatch):
    streamed = []
    stream = data_module.ScanDataModule._shuffled_batches
    monkeypatch.setattr(
        data_module.ScanDataModule, "_shuffled_batches", lambda *given: streamed.append(1) or stream(*given)
    )
    monkeypatch.setattr(data_module, "in_memory", lambda scan: scan)
    monkeypatch.setattr("latentstem.training.run.in_memory", lambda scan: scan)
    stored = da.from_array(scan, chunks=(5, 4, 16, 20))
    model, again = train(stored, epochs=8), train(stored, epochs=8)
    assert len(streamed) == 2  # the reading runs on from epoch to epoch
    np.testing.assert_array_equal(maps(model, stored), maps(again, stored))
    assert model.history["train/loss"][-1] < model.history["train/loss"][0]


# ---- what is left alone ----


def test_the_users_array_is_left_alone(scan):
    own = scan.copy()
    train(own, pattern_mask=np.eye(16, 20, dtype=bool), bin=1)
    np.testing.assert_array_equal(own, scan)
    assert own.flags.writeable
    assert not scan.flags.writeable  # and this one has been trained on all along


def test_nothing_is_written_without_an_output_folder(scan, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    train(scan, realtime_metrics=True)
    assert not list((tmp_path / "here").iterdir())
    assert not list((tmp_path / "tmp").iterdir())


def test_training_in_a_thread(scan):
    found = []
    thread = threading.Thread(target=lambda: found.append(maps(train(scan), scan)))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(found[0], maps(train(scan), scan))


# ---- what is recorded ----


def test_history_holds_every_term_with_equal_lengths(finished):
    history = finished[0].history
    series = {name: values for name, values in history.items() if not name.startswith("final/")}
    assert {f"{part}/{term}" for part in ("train", "val") for term in TERMS} <= series.keys()
    assert {
        "val/psnr_preprocessed",
        "val/ssim_preprocessed",
        "learning_rate",
        "patterns_seen",
    } <= series.keys()
    assert {len(values) for values in series.values()} == {6}
    assert history["epoch"] == [0, 1, 2, 3, 4, 5]
    assert all(type(value) in (int, float) for values in history.values() for value in values)
    assert np.isfinite(np.concatenate(list(history.values()))).all()
    assert history["train/loss"][-1] < history["train/loss"][0]


def test_metrics_are_measured_at_the_end_unless_asked_for(scan):
    history = train(scan).history
    assert not {"val/psnr_preprocessed", "val/ssim_preprocessed"} & history.keys()
    assert len(history["final/psnr_preprocessed"]) == len(history["final/ssim_preprocessed"]) == 1


def test_the_folder_holds_logs_and_checkpoints(finished):
    _, folder = finished
    assert {path.name for path in folder.iterdir()} == {"tb_logs", "checkpoints"}
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_tensorboard_shows_every_term_the_rate_and_the_weights(finished):
    model, folder = finished
    (events,) = (folder / "tb_logs").glob("*/events*")
    board = EventAccumulator(str(events)).Reload()
    shown = set(board.Tags()["scalars"])
    assert {f"{part}/{term}" for part in ("train", "val") for term in TERMS} <= shown
    assert {"learning_rate", "val/psnr_preprocessed", "val/ssim_preprocessed"} <= shown
    for name in ("lambda_act", "lambda_sim", "lambda_div"):
        assert board.Scalars(f"weights/{name}")[0].value == pytest.approx(getattr(model.config, name))
    assert [s.value for s in board.Scalars("val/loss")] == pytest.approx(model.history["val/loss"])


def test_the_best_checkpoint_is_the_model(finished, scan):
    model, folder = finished
    best = latentstem.load(folder / "checkpoints" / "best.ckpt")
    np.testing.assert_array_equal(maps(best, scan), maps(model, scan))


def test_progress_states_quality_choices_and_summary(scan, capsys):
    train(scan, progress=True, batch_size=2000)
    shown = capsys.readouterr().out
    for line in ("12 x 10 scan of 16 x 20 patterns", "reconstruction='poisson': the data are counts",
                 "preprocessing='", "batch_size=16 instead of 2000", "Training summary", "PSNR > 20 dB"):  # fmt: skip
        assert line in shown
    train(scan)
    assert not capsys.readouterr().out


# ---- masks, bins and crops ----


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_what_is_under_the_masks_changes_nothing(scan, dtype):
    pattern_mask, scan_mask = np.zeros((16, 20), bool), np.zeros((12, 10), bool)
    pattern_mask[:9, 9:11] = True
    scan_mask[3:5, 2:5] = scan_mask[11, 9] = True
    clean, spoilt = scan.astype(dtype), scan.astype(dtype)
    rng = np.random.default_rng(0)
    spoilt[:, :, pattern_mask] = rng.integers(0, 60000, (12, 10, 18))
    spoilt[scan_mask] = rng.integers(0, 60000, (7, 16, 20))
    if dtype == "float32":
        spoilt[:, :, 4, 9] = np.nan
        spoilt[3, 2] = np.nan
    masks = {"pattern_mask": pattern_mask, "scan_mask": scan_mask}
    models = [train(values, **masks, realtime_metrics=True, context=1) for values in (clean, spoilt)]
    assert models[0].history == models[1].history
    one, other = (
        maps(model, values, scan_mask=scan_mask)
        for model, values in zip(models, (clean, spoilt), strict=True)
    )
    np.testing.assert_array_equal(one, other)
    assert np.isnan(one[scan_mask]).all()
    assert np.isfinite(one[~scan_mask]).all()
    rebuilt = models[0].reconstruct(spoilt, scan_mask=scan_mask)
    np.testing.assert_array_equal(rebuilt, models[0].reconstruct(clean, scan_mask=scan_mask))
    assert not rebuilt[~scan_mask][:, pattern_mask].any()
    assert np.isnan(rebuilt[scan_mask]).all()


def test_bins_and_crops_come_back_on_the_detector(scan):
    large = np.pad(scan, ((0, 0), (0, 0), (3, 5), (2, 2)))
    model = train(np.repeat(np.repeat(large, 3, 2), 3, 3), bin=3, crop=(9, 57, 6, 66), epochs=25)
    rebuilt = model.reconstruct(np.repeat(np.repeat(large, 3, 2), 3, 3))
    assert rebuilt.shape == (12, 10, 72, 72)
    assert not rebuilt[:, :, :9].any()
    assert not rebuilt[:, :, :, 66:].any()
    assert rebuilt[:, :, 9:57, 6:66].mean() == pytest.approx(
        scan.mean(), rel=0.1
    )  # in counts per detector pixel
    assert model.pattern_shape == (72, 72)
    assert model.describe()["preprocessing"]["region"] == [9, 57, 6, 66]


# ---- other data ----


@pytest.mark.parametrize("dtype", ["float64", "float16", "int16", "uint8", "uint32", "int64", ">i4"])
def test_every_dtype_trains(scan, dtype):
    data = scan.clip(0, 100).astype(dtype)
    assert np.isfinite(maps(train(data, epochs=1), data)).all()


@pytest.mark.parametrize("scale", [1e-6, 1e9])
def test_intensities_of_any_scale_train(scan, scale):
    data = (scan + 0.25) * scale * np.pi
    model = train(data, epochs=10)
    assert (model.config.reconstruction, model.config.split_counts) == ("mse", False)
    rebuilt = model.reconstruct(data)
    assert np.sqrt(np.mean((rebuilt - data) ** 2)) < 0.9 * data.std()


def test_negative_values_train(scan):
    data = scan.astype("float32") - 3
    model = train(data)
    assert model.config.preprocessing == "zscore"
    assert np.isfinite(maps(model, data)).all()


@pytest.mark.parametrize("reconstruction", ["mse", "mae", "huber", "poisson"])
@pytest.mark.parametrize("preprocessing", ["minmax", "log", "none", "zscore"])
def test_every_objective_learns_in_every_space(scan, reconstruction, preprocessing):
    model = train(scan, epochs=8, reconstruction=reconstruction, preprocessing=preprocessing)
    mean = model.reconstruct(scan).mean((0, 1))
    want = scan.mean((0, 1))
    tolerance = 0.6 if reconstruction == "mae" else 0.35  # medians of few counts are low
    assert np.abs(mean - want).sum() < tolerance * want.sum()


def test_smallest_scan():
    data = latentstem.simulate((1, 2), (8, 9), dose=500, n_grains=1).counts
    model = train(data, epochs=2)
    assert maps(model, data).shape == (1, 2, 4)
    assert not any("collapse" in sentence for sentence in model.summary.advice)


def test_resnet_trains(scan, narrow):
    model = train(scan, network="resnet", epochs=2)
    assert maps(model, scan).min() >= 0


@pytest.mark.parametrize("precision", ["bf16-mixed"])
def test_mixed_precision_trains(scan, precision):
    model = train(scan, precision=precision, epochs=2)
    assert maps(model, scan).dtype == np.float32
    assert np.isfinite(model.history["train/loss"]).all()


# ---- choices and refusals ----


def test_resnet_sees_single_patterns_and_says_so(scan, narrow):
    model = train(scan, network="resnet", context=2, epochs=1)
    assert model.context == 0
    assert "context=0: network='resnet' takes single patterns as input" in model.summary.choices
    np.testing.assert_allclose(maps(model, scan)[3:5, 2:4], maps(model, scan[3:5, 2:4]), atol=1e-4)
    asked = train(scan, network="resnet", context=0, epochs=1)
    assert not any("context" in choice for choice in asked.summary.choices)


def test_compact_keeps_the_context_that_is_asked_for(scan):
    model = train(scan, context=2, epochs=1)
    assert model.context == 2
    assert not any("context" in choice for choice in model.summary.choices)


@pytest.mark.parametrize("context", [0, 3])
def test_a_single_position_wide_scan_trains(scan, context):
    model = train(scan[:1], context=context, epochs=2)
    assert np.isfinite(maps(model, scan[:1])).all()


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_a_specimen_that_does_not_vary_trains(dtype):
    data = np.broadcast_to(
        latentstem.simulate((2, 2), (16, 20), n_grains=1).expectation[0, 0], (8, 9, 16, 20)
    )
    data = (20 * data).astype(dtype)
    model = train(data, epochs=2)
    assert np.isfinite(maps(model, data)).all()
    assert np.isfinite(model.reconstruct(data)).all()


def test_auto_is_resolved_and_stated(scan):
    model = train(scan, batch_size=2000)
    config = model.config
    assert (config.reconstruction, config.split_counts, config.batch_size) == ("poisson", True, 16)
    assert config.preprocessing != "auto"
    stated = " ".join(model.summary.choices)
    for choice in (
        "reconstruction='poisson'",
        f"preprocessing='{config.preprocessing}'",
        "split_counts=True",
        "batch_size=16 instead",
    ):
        assert choice in stated


REFUSED = [
    ({"latnt_dim": 3}, "Did you mean 'latent_dim'"),
    ({"latent_dim": 0}, "a whole number from 1 to 1024, or 'auto'; received 0"),
    ({"crop": (0, 99, 0, 20)}, "inside 16 x 20 pixels"),
    ({"bin": 3}, "divisor of 16 and 20"),
    ({"split_counts": True, "reconstruction": "mse"}, "contradict"),
    (
        {"config": latentstem.TrainingConfig(), "latent_dim": 3},
        "either config, or preset and training arguments",
    ),
    ({"config": latentstem.TrainingConfig(), "preset": "fast"}, "received config and preset='fast'"),
    ({"init_from": "a.ckpt", "resume_from": "b.ckpt"}, "one of them; received both"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_bad_arguments_are_refused(scan, arguments, message):
    with pytest.raises(ArgumentError, match=message):
        latentstem.train_autoencoder(scan, progress=False, **arguments)


def test_poisson_needs_non_negative_values(scan):
    with pytest.raises(ArgumentError, match=r"non-negative intensities.*minimum of -3.*'mse' or 'auto'"):
        train(scan.astype("f4") - 3, reconstruction="poisson")


def test_split_counts_needs_counts(scan):
    with pytest.raises(
        ArgumentError, match=r"non-negative integers for split_counts=True.*0\.5.*split_counts='auto'"
    ):
        train(scan + 0.5, split_counts=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "gpu"])
def test_a_missing_device_is_named(scan, device):
    with pytest.raises(
        ArgumentError, match=rf"there is no {device} device.*auto, cpu.*device='cpu' or 'auto'"
    ):
        train(scan, device=device)


def test_masks_of_the_wrong_shape_are_refused(scan):
    with pytest.raises(MaskError, match=r"shape \(12, 10\).*received bool \(10, 12\)"):
        train(scan, scan_mask=np.zeros((10, 12), bool))


def test_a_config_is_the_same_as_its_arguments(scan):
    arguments = {"latent_dim": 3, "epochs": 2}
    one = latentstem.train_autoencoder(scan, config=latentstem.TrainingConfig(**arguments), progress=False)
    other = latentstem.train_autoencoder(scan, **arguments, progress=False)
    np.testing.assert_array_equal(maps(one, scan), maps(other, scan))


def test_the_budget_in_patterns_is_kept(scan):
    model = train(scan, epochs=None, max_patterns=1000)
    assert 1000 <= model.history["patterns_seen"][-1] < 1400
    assert len(model.history["epoch"]) > 5


# ---- stopping ----


class Stop(Exception):
    pass


def stop_at(monkeypatch, step, act):
    """Do something in the midst of training."""
    original = TrainingModule.training_step

    def training_step(self, batch, index):
        if self.global_step == step:
            act(self)
        return original(self, batch, index)

    monkeypatch.setattr(TrainingModule, "training_step", training_step)
    return lambda: monkeypatch.setattr(TrainingModule, "training_step", original)


def fail(module):
    raise Stop


def test_an_interrupt_leaves_a_usable_session(scan, tmp_path, monkeypatch):
    before = snapshot()
    repair = stop_at(monkeypatch, 14, lambda module: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(scan, output_dir=tmp_path, progress=True)
    after = snapshot()
    for name in ("random numbers of torch", "warnings", "signals", "threads"):
        assert after[name] == before[name]
    assert not tqdm._instances  # a bar that is left open would push later ones down
    repair()
    assert np.isfinite(maps(latentstem.load(tmp_path / "checkpoints" / "best.ckpt"), scan)).all()
    assert train(scan, resume_from=tmp_path / "checkpoints" / "last.ckpt").history["epoch"] == [0, 1, 2]


def test_gradients_are_clipped(scan):
    """So hard, that no weight moves."""
    still = [maps(train(scan, epochs=n, gradient_clip=1e-14, weight_decay=0), scan) for n in (1, 2)]
    np.testing.assert_allclose(*still, atol=1e-3)
    assert not np.allclose(*(maps(train(scan, epochs=n, weight_decay=0), scan) for n in (1, 2)), atol=0.1)


def test_the_time_limit_of_a_resumed_run_starts_anew():
    from latentstem.training.trainer import TimeLimit

    limit = TimeLimit("00:00:01:00")
    limit.load_state_dict({"time_elapsed": {"train": 3600.0}})
    assert limit.time_remaining() == 60


def test_max_time_stops(scan, monkeypatch):
    from latentstem.training.trainer import TimeLimit

    elapsed = {"time": 0.0}
    monkeypatch.setattr(TimeLimit, "time_elapsed", lambda self, stage=None: elapsed["time"])
    stop_at(monkeypatch, 8, lambda module: elapsed.update(time=3600.0))
    history = train(scan, epochs=100, max_time={"minutes": 59}).history
    assert history["patterns_seen"] == [96, 144]
    assert len(history["val/loss"]) == 2


class Stopper(Callback):
    """Stops after some steps, and keeps the latents of the weights that are validated."""

    def __init__(self, step):
        self.step, self.latents = step, []

    def on_train_batch_end(self, trainer, module, *arguments):
        trainer.should_stop = trainer.should_stop or trainer.global_step >= self.step

    def on_validation_epoch_end(self, trainer, module):
        batch = trainer.datamodule.validation[0]
        self.latents.append(module.autoencoder.encode_batch(batch).numpy())


def test_a_callback_stops_and_the_best_model_comes_back(scan):
    stopper = Stopper(9)
    model = train(scan, epochs=100, callbacks=[stopper])
    assert model.history["patterns_seen"] == [96, 144]
    best = int(np.argmin(model.history["val/loss"]))
    assert len(stopper.latents) == len(model.history["val/loss"]) == 2
    _, held_out = data_module.split_positions(latentstem.as_scan(scan), 0.1, 0)
    found = maps(model, scan, smooth=0).reshape(-1, 4)[held_out]
    assert same_up_to_axes(found, stopper.latents[best])
    assert not same_up_to_axes(found, stopper.latents[1 - best])


def test_a_callback_that_stops_at_once_leaves_the_start(scan):
    class AtOnce(Callback):
        def on_fit_start(self, trainer, module):
            trainer.should_stop = True

    model = train(scan, callbacks=[AtOnce()])
    assert "val/loss" not in model.history
    assert np.isfinite(maps(model, scan)).all()


def test_patience_stops(scan, monkeypatch):
    original = Autoencoder.objective

    def worse(self, *arguments):
        terms = original(self, *arguments)
        if not torch.is_grad_enabled():
            worse.loss += 1
            terms["loss"] = terms["loss"] * 0 + worse.loss
        return terms

    worse.loss = 0.0
    monkeypatch.setattr(Autoencoder, "objective", worse)
    model = train(scan, epochs=50, patience=3)
    assert model.history["epoch"] == [0, 1, 2, 3]


def blow_up(module):
    with torch.no_grad():
        for weight in module.parameters():
            weight.fill_(float("nan"))


def test_a_loss_that_is_not_finite_stops_with_advice(scan, monkeypatch):
    stop_at(monkeypatch, 3, blow_up)
    with pytest.raises(
        TrainingError, match=r"finite loss; received nan at step 3.*learning_rate \(it is 0\.02.*batch"
    ):
        train(scan, learning_rate=0.02)


@pytest.mark.parametrize("step", [13, 17])  # 17 is the last of its epoch: validation meets it first
def test_the_last_good_checkpoint_is_kept(scan, tmp_path, monkeypatch, step):
    original = TrainingModule.optimizer_step

    def optimizer_step(self, *arguments, **named):
        original(self, *arguments, **named)
        if self.global_step == step:
            blow_up(self)

    monkeypatch.setattr(TrainingModule, "optimizer_step", optimizer_step)
    with pytest.warns(UserWarning, match=r"not finite|finite loss; received nan.*best model before"):
        model = train(scan, epochs=5, output_dir=tmp_path)
    assert np.isfinite(maps(model, scan)).all()
    assert len(model.history["val/loss"]) == 2
    assert any("learning_rate" in sentence and "Unstable" in sentence for sentence in model.summary.advice)
    for name in ("best", "last"):
        state = torch.load(tmp_path / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
        assert all(torch.isfinite(value).all() for value in state.values())


def test_a_learning_rate_that_is_far_too_large_is_recognised(scan):
    with warnings.catch_warnings(record=True) as told:
        try:
            advice = train(scan, learning_rate=10, gradient_clip=0, epochs=6).summary.advice
        except TrainingError as error:
            advice = [error.advice]
    assert any("learning_rate" in sentence for sentence in advice), told


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        MemoryError(),
    ],
)
def test_out_of_memory_is_advised_on(scan, monkeypatch, error):
    def raise_it(module):
        raise error

    stop_at(monkeypatch, 2, raise_it)
    with pytest.raises(
        TrainingError, match=r"out of memory.*Reduce batch_size \(it is 16\), set bin=2.*low-memory"
    ):
        train(scan)


def test_other_errors_come_through(scan, monkeypatch):
    def raise_it(module):
        raise RuntimeError("mat1 and mat2 shapes")

    stop_at(monkeypatch, 2, raise_it)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train(scan)


# ---- resuming ----


@pytest.fixture
def interrupted(scan, tmp_path, monkeypatch):
    """The checkpoint of a run like `finished` that was killed in its fourth epoch."""
    repair = stop_at(monkeypatch, 20, fail)
    with pytest.raises(Stop):
        train(scan, output_dir=tmp_path / "run", **SIX_EPOCHS)
    repair()
    return tmp_path / "run" / "checkpoints" / "last.ckpt"


def test_a_resumed_run_ends_like_one_in_one_go(scan, finished, interrupted):
    model = latentstem.train_autoencoder(
        scan, resume_from=interrupted, output_dir=interrupted.parents[1], progress=False
    )
    np.testing.assert_array_equal(maps(model, scan), maps(finished[0], scan))
    assert model.history == finished[0].history
    assert model.config == finished[0].config


@pytest.mark.parametrize("moved", [False, True])
def test_a_run_resumes_in_another_folder(scan, finished, interrupted, tmp_path, moved, monkeypatch):
    if moved:
        interrupted = shutil.move(interrupted.parent, tmp_path / "moved") / "last.ckpt"
    # Nothing after the interruption is better than what was before.
    original = TrainingModule.validation_step
    monkeypatch.setattr(
        TrainingModule, "validation_step", lambda self, *a: original(self, *a) or self.log("val/loss", 1e9)
    )
    before = latentstem.load(interrupted.with_name("best.ckpt"))
    for output in (None, tmp_path / "other"):
        model = latentstem.train_autoencoder(scan, resume_from=interrupted, output_dir=output, progress=False)
        assert len(model.history["epoch"]) == 6
        np.testing.assert_array_equal(maps(model, scan), maps(before, scan))
    assert (tmp_path / "other" / "checkpoints" / "best.ckpt").is_file()


def test_a_run_resumes_from_its_last_checkpoint_alone(scan, finished, interrupted, tmp_path):
    alone = shutil.copy(interrupted, tmp_path / "alone.ckpt")
    shutil.rmtree(interrupted.parent)
    model = latentstem.train_autoencoder(scan, resume_from=alone, progress=False)
    np.testing.assert_array_equal(maps(model, scan), maps(finished[0], scan))


@pytest.mark.parametrize("step", [3, 13, 17, 18])
def test_a_run_that_ran_out_of_time_goes_on_with_the_next_step(scan, tmp_path, monkeypatch, step):
    from latentstem.training.trainer import TimeLimit

    elapsed = {"time": 0.0}
    monkeypatch.setattr(TimeLimit, "time_elapsed", lambda self, stage=None: elapsed["time"])
    repair = stop_at(monkeypatch, step, lambda module: elapsed.update(time=3600.0))
    seen = record(monkeypatch)
    train(scan, epochs=4, max_time="00:00:00:02", output_dir=tmp_path)
    repair_record, first = seen
    assert [number for number, _ in first][-1] == step
    repair_record()
    repair()
    elapsed["time"] = 0.0
    repair_record, second = record(monkeypatch)
    model = latentstem.train_autoencoder(
        scan, resume_from=tmp_path / "checkpoints" / "last.ckpt", output_dir=tmp_path, progress=False
    )
    repair_record()
    repair_record, whole = record(monkeypatch)
    train(scan, epochs=4)
    assert first + second == whole
    assert model.history["patterns_seen"][-1] == 4 * 96
    assert len(model.history["val/loss"]) == 4 + (step % 6 != 5)


def record(monkeypatch):
    """Every step's number and what it saw."""
    seen = []
    original = TrainingModule.training_step

    def training_step(self, batch, index):
        loss = original(self, batch, index)
        seen.append((self.global_step, (float(batch.patterns.sum()), loss.item())))
        return loss

    monkeypatch.setattr(TrainingModule, "training_step", training_step)
    return lambda: monkeypatch.setattr(TrainingModule, "training_step", original), seen


def test_a_finished_run_has_nothing_to_resume_but_can_be_prolonged(scan, finished):
    last = finished[1] / "checkpoints" / "last.ckpt"
    same = latentstem.train_autoencoder(scan, resume_from=last, progress=False)
    np.testing.assert_array_equal(maps(same, scan), maps(finished[0], scan))
    assert (
        len(latentstem.train_autoencoder(scan, resume_from=last, epochs=8, progress=False).history["epoch"])
        == 8
    )


def test_a_saved_model_cannot_be_resumed(scan, finished, tmp_path):
    path = finished[0].save(tmp_path / "ae.ckpt")
    with pytest.raises(CheckpointError, match=r"cannot be resumed.*last\.ckpt.*a saved model.*init_from"):
        latentstem.train_autoencoder(scan, resume_from=path, progress=False)


def test_resuming_with_other_arguments_is_refused(scan, finished):
    last = finished[1] / "checkpoints" / "last.ckpt"
    with pytest.raises(
        ModelMismatchError, match=r"learning_rate=0\.0003.*received learning_rate=0\.01.*init_from"
    ):
        latentstem.train_autoencoder(scan, resume_from=last, learning_rate=0.01, progress=False)


def test_resuming_on_another_scan_is_refused(scan, finished):
    last = finished[1] / "checkpoints" / "last.ckpt"
    with pytest.raises(ModelMismatchError, match=r"a 12 x 10 scan of 16 x 20 pixels; received a 6 x 10 scan"):
        latentstem.train_autoencoder(scan[:6], resume_from=last, progress=False)


# ---- fine-tuning ----


@pytest.fixture(scope="module")
def saved(finished, tmp_path_factory):
    return finished[0].save(tmp_path_factory.mktemp("saved") / "ae.ckpt")


def test_fine_tuning_starts_from_the_weights_on_another_scan(scan, finished, saved):
    other = latentstem.simulate((7, 9), (16, 20), dose=300, n_grains=2, seed=5).counts
    other[4, 4, 5, 5] = 2000  # a maximum that says nothing of the other patterns
    tuned = train(other, init_from=saved, epochs=2, learning_rate=1e-4)
    before = latentstem.load(saved)
    assert maps(tuned, other).shape == (7, 9, 4)
    assert 0.95 < np.corrcoef(maps(tuned, other).ravel(), maps(before, other).ravel())[0, 1] < 0.99999
    errors = [np.abs(model.reconstruct(other) - other).mean() for model in (before, tuned)]
    assert errors[1] < 1.1 * errors[0]
    assert tuned.history["epoch"] == [0, 1]
    assert tuned.config.learning_rate == 1e-4
    assert tuned.scan_signature["scan_shape"] == [7, 9]


def test_fine_tuning_takes_over_the_components(scan, saved):
    """With the weights go what they weigh; only how noisy it is, is of the new scan."""
    before = latentstem.load(saved).autoencoder.principal_components
    after = train(3 * scan, init_from=saved, epochs=1).autoencoder.principal_components
    for name in ("directions", "centre", "gain"):
        assert torch.equal(getattr(after, name), getattr(before, name)), name
    torch.testing.assert_close(after.noise, 3**0.5 * before.noise, rtol=0.1, atol=0)


def test_a_pattern_that_is_far_off_is_reconstructed_finitely(scan, finished):
    other = scan.copy()
    other[4, 4, 5, 5] = 60000
    assert np.isfinite(finished[0].reconstruct(other)).all()


def test_fine_tuning_takes_the_structure_of_the_checkpoint(scan, saved):
    tuned = latentstem.train_autoencoder(scan, init_from=saved, epochs=1, progress=False)
    assert tuned.config.latent_dim == 4


def test_fine_tuning_with_other_latents_is_refused(scan, saved):
    with pytest.raises(
        ModelMismatchError, match=r"latent_dim=4.*received latent_dim=8.*Leave latent_dim out"
    ):
        train(scan, init_from=saved, latent_dim=8)


def test_fine_tuning_compact_on_another_pattern_shape_is_refused(scan, saved):
    with pytest.raises(ModelMismatchError, match=r"16 x 20 pixels, .*received 18 x 20 pixels.*resnet"):
        train(np.pad(scan, ((0, 0), (0, 0), (1, 1), (0, 0))), init_from=saved)


def test_fine_tuning_resnet_takes_another_pattern_shape(scan, narrow, tmp_path):
    path = train(scan, network="resnet", epochs=1).save(tmp_path / "resnet.ckpt")
    other = scan[:, :, 1:12, :17]
    tuned = latentstem.train_autoencoder(other, init_from=path, epochs=1, progress=False)
    assert tuned.config.network == "resnet"
    assert tuned.reconstruct(other).shape == other.shape


def test_a_missing_checkpoint_is_named(scan, tmp_path):
    for argument in ("init_from", "resume_from"):
        with pytest.raises(CheckpointError, match=r"no such checkpoint.*nothing\.ckpt"):
            train(scan, **{argument: tmp_path / "nothing.ckpt"})
