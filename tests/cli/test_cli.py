"""The command line: the commands of the training guide, what is written, what is said when things go wrong."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import latentstem
from latentstem import TrainingConfig, simulate
from latentstem.cli import app
from latentstem.inference.embedding import Embedding

RESULTS = {
    "ae.ckpt",
    "checkpoints",
    "latent_maps.png",
    "latents.npz",
    "reconstructions.png",
    "summary.json",
    "tb_logs",
}
LATENTSTEM = [
    sys.executable,
    "-c",
    "import sys; sys.argv[0] = 'latentstem'; from latentstem.cli import app; app()",
]

#: the guide's commands, with `python scripts/train.py` replaced by `latentstem train`
_TRAIN = "latentstem train --data data/train_tensor.pt --output_dir outputs"
_FINE_TUNE = "latentstem train --data data/new_dataset.pt --output_dir outputs/finetune"
_WEIGHTS = "--lambda_act 1e-4 --lambda_sim 5e-5 --lambda_div 2e-4"
GUIDE = {
    "quick start": f"{_TRAIN} --epochs 50 --device cpu",
    "recommended": f"{_TRAIN} --epochs 100 --batch 1024 --latent 32 --lr 1e-3 {_WEIGHTS} --realtime_metrics",
    "phase 1": f"{_TRAIN}/phase1 --epochs 30 --batch 2048 --no_realtime_metrics",
    "phase 2": f"{_TRAIN}/phase2 --epochs 50 --batch 1024 --lr 5e-4 --realtime_metrics",
    **{f"latent {k}": f"{_TRAIN}/latent_{k} --latent {k} --epochs 50" for k in (16, 32, 64)},
    **{f"weight {w}": f"{_TRAIN}/reg_{w} --lambda_act {w} --epochs 50" for w in ("1e-5", "1e-4", "1e-3")},
    "fine-tuning": f"{_FINE_TUNE} --epochs 20 --lr 1e-4 --checkpoint outputs/pretrained/ae.ckpt",
    "memory": f"{_TRAIN} --batch 256 --device cpu --no_realtime_metrics",
    "quality": f"{_TRAIN} --epochs 200 --batch 512 --latent 64 --lr 5e-4 --lambda_act 2e-4 --realtime_metrics",
}
SPEED = f"{_TRAIN} --batch 4096 --device gpu --no_realtime_metrics --workers 8"
FIELDS = {
    "--epochs": "epochs",
    "--latent": "latent_dim",
    "--lr": "learning_rate",
    "--lambda_act": "lambda_act",
    "--lambda_sim": "lambda_sim",
    "--lambda_div": "lambda_div",
}


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ok(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    return result


def refused(*arguments):
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.stderr


def tensor(seed):
    """A stack (25, 1, 16, 16) of patterns from 0 to 1, as the guide has them."""
    counts = simulate((5, 5), (16, 16), dose=400, n_grains=2, seed=seed).counts.astype(np.float32)
    return torch.from_numpy(counts / counts.max()).reshape(25, 1, 16, 16)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The fastest for patterns this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder as the guide supposes it: two tensors, and a model from before."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "data").mkdir()
    torch.save(tensor(0), folder / "data" / "train_tensor.pt")
    torch.save(tensor(1), folder / "data" / "new_dataset.pt")
    pretrained = latentstem.train_autoencoder(
        folder / "data" / "train_tensor.pt", scan_shape=(5, 5), epochs=1, progress=False
    )
    (folder / "outputs" / "pretrained").mkdir(parents=True)
    pretrained.save(folder / "outputs" / "pretrained" / "ae.ckpt")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A calibrated scan of four different dimensions as files, and a model of it from the command line."""
    folder = tmp_path_factory.mktemp("trained")
    simulated = simulate((7, 5), (20, 16), dose=300, n_grains=2, seed=3)
    np.save(folder / "scan.npy", simulated.counts)
    np.save(folder / "stack.npy", simulated.counts.reshape(35, 20, 16))
    mask = np.zeros((7, 5), bool)
    mask[6, 1] = True
    np.save(folder / "scan_mask.npy", mask)
    pixels = np.zeros((20, 16), bool)
    pixels[3, 4] = True
    np.save(folder / "pattern_mask.npy", pixels)
    masks = "--scan_mask", folder / "scan_mask.npy", "--pattern_mask", folder / "pattern_mask.npy"
    train = "train", "--data", folder / "scan.npy", "--output_dir", folder / "out", "--latent_dim", 3
    ok(*train, "--epochs", 2, "--lambda_sim", 0, *masks)
    return folder


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


@pytest.mark.parametrize("command", GUIDE.values(), ids=GUIDE)
def test_commands_of_the_guide_run(workplace, monkeypatch, command):
    monkeypatch.chdir(workplace)
    _, *arguments = shlex.split(command)
    result = ok(*arguments, "--max_time", "00:00:00:01")
    options = dict(itertools.pairwise(arguments))
    folder = workplace / options["--output_dir"]
    assert RESULTS <= {path.name for path in folder.iterdir()}
    assert "is a stack of 25 patterns: taken as a square scan, --scan 5 5." in result.stderr
    config = summary(folder)["config"]
    for option, field in FIELDS.items():
        if option in options:
            assert config[field] == float(options[option])
    assert config["realtime_metrics"] == ("--realtime_metrics" in arguments)
    assert config["batch_size"] <= int(options.get("--batch", 2048))
    assert Embedding.load(folder / "latents.npz").maps.shape == (5, 5, config["latent_dim"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_guide_on_a_gpu_says_that_there_is_none(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    said = refused(*shlex.split(SPEED)[1:])
    assert "error: there is no gpu device" in said
    assert "Use device='cpu' or 'auto'." in said


def test_every_field_of_the_configuration_is_an_option_with_help():
    shown = " ".join(ok("train", "--help").output.split())
    for name in TrainingConfig.model_fields:
        assert re.search(rf"--{name}[ ,][^-]", shown) or f"--{name} /" in shown, name
    for short in (
        "--lr",
        "--batch",
        "--latent",
        "--no_realtime_metrics",
        "--checkpoint",
        "--resume",
        "--scan",
    ):
        assert short in shown
    assert f"Peak learning rate. Default: {TrainingConfig().learning_rate:g}." in shown
    assert "<auto|cpu|gpu|cuda|mps>" in shown
    assert "`" not in shown


def test_help_is_quick_and_imports_neither_torch_nor_hosts():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom latentstem.cli import app\n"
        "assert CliRunner().invoke(app, ['train', '--help']).exit_code == 0\n"
        "slow = {'torch', 'pytorch_lightning', 'matplotlib', 'hyperspy', 'py4DSTEM', 'sklearn', 'scipy'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_train_writes_what_it_lists(trained):
    out = trained / "out"
    assert {path.name for path in out.iterdir()} == RESULTS
    model = latentstem.load(out / "ae.ckpt")
    embedding = Embedding.load(out / "latents.npz")
    mask = np.load(trained / "scan_mask.npy")
    assert np.array_equal(np.isnan(embedding.maps).all(-1), mask)
    again = model.embed(trained / "scan.npy", scan_mask=mask)
    np.testing.assert_array_equal(embedding.maps, again.maps)
    about = summary(out)
    assert about["config"]["latent_dim"] == 3
    assert about["config"]["lambda_sim"] == 0
    assert about["scan"]["pattern_shape"] == [20, 16]
    assert any(choice.startswith("preprocessing=") for choice in about["choices"])
    assert set(about) >= {"figures", "verdicts", "advice", "versions"}
    assert about["preprocessing"]["excluded_pixels"] == 1
    assert list((out / "tb_logs").rglob("events*"))


def test_options_that_are_left_out_leave_presets_their_say(trained, tmp_path):
    arguments = "train", "--data", trained / "scan.npy", "--output_dir", tmp_path, "--max_patterns", 64
    ok(*arguments, "--preset", "quality", "--lr", "2e-3")
    config = summary(tmp_path)["config"]
    assert (config["latent_dim"], config["learning_rate"], config["max_patterns"]) == (64, 2e-3, 64)


def test_all_kinds_of_options_arrive(trained, tmp_path):
    arguments = "train", "--data", trained / "stack.npy", "--scan", 7, 5, "--output_dir", tmp_path
    arguments = (
        *arguments,
        "--epochs",
        1,
        "--crop",
        2,
        18,
        0,
        16,
        "--split_counts",
        "false",
        "--network",
        "compact",
    )
    arguments = *arguments, "--precision", "32-true", "--patience", 2, "--seed", 5, "--schedule", "constant"
    ok(*arguments, "--batch_size", 8, "--learning_rate", 0.01, "--gradient_clip", 0, "--context", 0)
    config = summary(tmp_path)["config"]
    expected = {
        "crop": [2, 18, 0, 16], "split_counts": False, "patience": 2, "seed": 5, "schedule": "constant",
        "batch_size": 8, "learning_rate": 0.01, "gradient_clip": 0.0, "context": 0,
    }  # fmt: skip
    assert {name: config[name] for name in expected} == expected
    assert summary(tmp_path)["scan"]["scan_shape"] == [7, 5]


def test_earlier_results_are_kept_and_a_checkpoint_among_them_is_found(trained, tmp_path):
    arguments = (
        "train",
        "--data",
        trained / "scan.npy",
        "--output_dir",
        tmp_path,
        "--latent",
        2,
        "--epochs",
        1,
    )
    ok(*arguments)
    first = (tmp_path / "ae.ckpt").read_bytes()
    result = ok(*arguments, "--checkpoint", tmp_path / "ae.ckpt")
    assert f"were moved from {tmp_path} to {tmp_path / 'earlier-1'}" in " ".join(result.stderr.split())
    assert (tmp_path / "earlier-1" / "ae.ckpt").read_bytes() == first
    assert {path.name for path in tmp_path.iterdir()} == RESULTS | {"earlier-1"}
    second = (tmp_path / "ae.ckpt").read_bytes()
    refused(*arguments[:-1], 0)
    assert (tmp_path / "ae.ckpt").read_bytes() == second, "a run that does not start moves nothing"


def test_resume_goes_on_in_the_same_folder(trained, tmp_path):
    arguments = "train", "--data", trained / "scan.npy", "--output_dir", tmp_path, "--latent", 2
    ok(*arguments, "--epochs", 2)
    ok(*arguments, "--epochs", 4, "--resume", tmp_path / "checkpoints" / "last.ckpt")
    assert not (tmp_path / "earlier-1").exists()
    assert latentstem.load(tmp_path / "ae.ckpt").history["epoch"] == [0, 1, 2, 3]


def embedded(folder, path, *more):
    model = folder / "out" / "ae.ckpt"
    return "embed", "--data", folder / "scan.npy", "--model", model, "--output", path, *more


def test_embed_writes_every_kind_of_file(trained, tmp_path):
    import py4DSTEM

    hs = pytest.importorskip("hyperspy.api")
    expected = latentstem.embed(trained / "scan.npy", trained / "out" / "ae.ckpt").maps
    for suffix in (".npz", ".hspy", ".h5"):
        path = tmp_path / f"latents{suffix}"
        result = ok(*embedded(trained, path))
        assert f"{path}: 3 latents at 7 x 5 scan positions" in result.stdout
    np.testing.assert_array_equal(Embedding.load(tmp_path / "latents.npz").maps, expected)
    signal = hs.load(tmp_path / "latents.hspy")
    np.testing.assert_array_equal(np.moveaxis(signal.data, 0, -1), expected)
    assert signal._signal_type == "latent_maps"
    array = py4DSTEM.read(str(tmp_path / "latents.h5"))
    np.testing.assert_array_equal(np.moveaxis(array.data, 0, -1), expected)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".hspy", ".h5"])
def test_reconstruct_writes_files_that_are_scans_again(trained, tmp_path, suffix):
    path, model = tmp_path / f"clean{suffix}", trained / "out" / "ae.ckpt"
    result = ok("reconstruct", "--data", trained / "scan.npy", "--model", model, "--output", path)
    assert "7 x 5 patterns of 20 x 16 pixels" in result.stdout
    scan = latentstem.as_scan(path)
    expected = latentstem.reconstruct(trained / "scan.npy", model)
    np.testing.assert_array_equal(scan.read(np.arange(35)), expected.reshape(35, 20, 16))


def test_zspy_is_a_folder_and_is_replaced_only_when_asked(trained, tmp_path):
    path = tmp_path / "latents.zspy"
    ok(*embedded(trained, path))
    assert path.is_dir()
    assert "which exists already" in refused(*embedded(trained, path))
    ok(*embedded(trained, path, "--overwrite"))


def test_calibration_is_kept(trained, tmp_path):
    import hyperspy.api as hs
    import py4DSTEM

    signal = hs.signals.Signal2D(np.load(trained / "scan.npy"))
    for axis, scale, units in zip(
        signal.axes_manager._axes, (0.4, 0.4, 0.2, 0.2), ("nm", "nm", "1/nm", "1/nm"), strict=True
    ):
        axis.scale, axis.units = scale, units
    signal.save(tmp_path / "scan.hspy")
    command = "reconstruct", "--data", tmp_path / "scan.hspy", "--model", trained / "out" / "ae.ckpt"
    ok(*command, "--output", tmp_path / "clean.hspy")
    ok(*command, "--output", tmp_path / "clean.h5")
    axes = latentstem.as_scan(tmp_path / "clean.hspy").axes
    assert [(axis.scale, axis.units) for axis in axes] == [(0.4, "nm")] * 2 + [(0.2, "1/nm")] * 2
    calibration = py4DSTEM.read(str(tmp_path / "clean.h5")).calibration
    assert (calibration.get_R_pixel_size(), calibration.get_R_pixel_units()) == (pytest.approx(0.4), "nm")
    assert (calibration.get_Q_pixel_size(), calibration.get_Q_pixel_units()) == (pytest.approx(0.02), "A^-1")
    ok("embed", *command[1:], "--output", tmp_path / "latents.npz")
    assert Embedding.load(tmp_path / "latents.npz").axes[0].units == "nm"


@pytest.mark.parametrize("command", ["embed", "reconstruct"])
def test_files_are_not_overwritten_unasked(trained, tmp_path, command):
    path, model = tmp_path / "r.npz", trained / "out" / "ae.ckpt"
    path.write_text("mine")
    arguments = command, "--data", trained / "scan.npy", "--model", model, "--output", path
    assert "give --overwrite" in refused(*arguments)
    assert path.read_text() == "mine"
    ok(*arguments, "--overwrite")
    assert path.read_bytes()[:2] == b"PK"


def test_outputs_that_cannot_be_written_are_refused_before_the_work(trained, tmp_path):
    assert "Choose one of .npz, .hspy, .zspy, .h5." in refused(*embedded(trained, tmp_path / "latents.tif"))
    assert "in a folder that does not exist" in refused(*embedded(trained, tmp_path / "no" / "latents.npz"))


def test_info_of_data(trained):
    shown = ok("info", trained / "scan.npy").stdout
    for text in (
        "7 x 5 positions",
        "20 x 16 pixels",
        "uint16",
        "uncalibrated",
        "values look like counts",
        "22 kB",
    ):
        assert text in shown
    maximum = np.load(trained / "scan.npy").max()
    assert f"0 to {maximum}" in shown


def test_info_of_a_checkpoint(trained):
    shown = re.sub(" +", " ", ok("info", trained / "out" / "ae.ckpt").stdout)
    model = latentstem.load(trained / "out" / "ae.ckpt")
    last, kind = model.history["val/loss"][-1], model.config.preprocessing
    for text in (
        "latent_dim 3",
        f"kind {kind}",
        "7 x 5 positions",
        f"val/loss {last:.5g}",
        torch.__version__,
    ):
        assert text in shown
    assert "lambda_sim 0.0" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--data", "missing.npy"], "missing.npy, which does not exist"),
        (["train", "--data", "stack.npy"], "no --scan, 3-D data"),
        (["train", "--data", "stack.npy"], "35 patterns fill --scan 5 7, 7 5, 1 35, 35 1."),
        (["train", "--data", "stack.npy", "--scan", "6", "6"], "That is one frame less than 6 x 6"),
        (["train", "--data", "scan.npy", "--lr", "-1"], "error: bad value for learning_rate"),
        (["train", "--data", "scan.npy", "--preset", "fats"], "Did you mean 'fast'?"),
        (
            ["train", "--data", "scan.npy", "--scan_mask", "pattern_mask.npy"],
            "a boolean array of shape (7, 5)",
        ),
        (["train", "--data", "scan.npy", "--scan_mask", "out/latents.npz"], "the mask cannot be read"),
        (["train", "--data", "scan.npy", "--scan_mask", "none.npy"], "none.npy"),
        (
            ["train", "--data", "scan.npy", "--resume", "a", "--checkpoint", "b"],
            "--checkpoint and --resume contra",
        ),
        (["train", "--data", "scan.npy", "--epoch", "3"], "No such option: --epoch"),
        (["train", "--data", "scan.npy", "--device", "tpu"], "Invalid value for '--device'"),
        (["train", "--data", "scan.npy", "--output_dir", "scan.npy"], "error: "),
        (
            ["embed", "--data", "scan.npy", "--model", "scan.npy", "--output", "a.npz"],
            "the checkpoint cannot be read",
        ),
        (["info", "out"], "a folder"),
    ],
)
def test_errors_are_one_message_with_exit_status_2(trained, monkeypatch, arguments, said):
    monkeypatch.chdir(trained)
    before = sorted(trained.rglob("*"))
    assert said in refused(*arguments)
    assert not [path for path in set(trained.rglob("*")) - set(before) if path.is_file()]


def test_no_traceback_in_a_real_terminal(trained):
    done = subprocess.run(
        [*LATENTSTEM, "train", "--data", "stack.npy"],
        cwd=trained,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: a stack of patterns needs --scan\n  expected: --scan Ny Nx")


def test_ctrl_c_keeps_the_last_epoch_and_says_so(trained, tmp_path):
    command = [
        *LATENTSTEM,
        "train",
        "--data",
        trained / "scan.npy",
        "--epochs",
        "100000",
        "--output_dir",
        tmp_path,
    ]
    last = tmp_path / "checkpoints" / "last.ckpt"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        waited = time.monotonic() + 120
        while not last.exists() and process.poll() is None and time.monotonic() < waited:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert (
        f"Stopped. Progress up to the last two minutes is saved. To continue, run the same command with --resume {last}"
        in said
    )
    # a bar of tqdm that was interrupted while it was made complains when it is collected
    assert "Traceback" not in said.split("Exception ignored in")[0]


def test_a_series_of_files(tmp_path):
    for name, rows, seed in (("a", 9, 0), ("b", 7, 1)):
        np.save(
            tmp_path / f"{name}.npy", simulate((rows, 8), (16, 20), dose=300, n_grains=2, seed=seed).counts
        )
    np.save(tmp_path / "movie.npy", np.stack([np.load(tmp_path / "a.npy")] * 2))
    data = [word for name in "ab" for word in ("--data", tmp_path / f"{name}.npy")]
    told = ok("train", *data, "--output_dir", tmp_path / "out", "--latent", 3, "--epochs", 1).output
    assert "Series of 2 scans (9 x 8, 7 x 8)" in told
    assert "scans                the same files for each scan of a series" in told
    names = {path.name for path in (tmp_path / "out" / "scans" / "a").iterdir()}
    assert names == {"latents.npz", "latent_maps.png", "reconstructions.png"}
    assert Embedding.load(tmp_path / "out" / "scans" / "b" / "latents.npz").maps.shape == (7, 8, 3)
    model = tmp_path / "out" / "ae.ckpt"
    ok("embed", *data, "--model", model, "--output", tmp_path / "z.npz")
    assert Embedding.load(tmp_path / "z_a.npz").maps.shape == (9, 8, 3)
    said = refused("embed", *data, "--model", model, "--output", tmp_path / "z.npz")
    assert "z_a.npz, which exists already" in said
    ok("reconstruct", "--data", tmp_path / "movie.npy", "--model", model, "--output", tmp_path / "clean.npy")
    assert np.load(tmp_path / "clean_movie_1.npy").shape == (9, 8, 16, 20)
    told = ok("info", tmp_path / "movie.npy").output + ok("info", model).output
    assert "9 x 8, 9 x 8 positions" in told
    assert "9 x 8, 7 x 8 positions" in told


def test_training_on_two_processes(tmp_path):
    scan = simulate((9, 8), (16, 20), dose=300, n_grains=2).counts
    np.save(tmp_path / "scan.npy", scan)
    (tmp_path / "out").mkdir()
    latentstem.train_autoencoder(scan, latent_dim=3, epochs=1, progress=False).save(
        tmp_path / "out" / "ae.ckpt"
    )
    (tmp_path / "main.py").write_text("from latentstem.cli import app\napp()\n")
    command = f"main.py train --data scan.npy --output_dir out --devices 2 --epochs 2 --checkpoint {tmp_path}/out/ae.ckpt"
    done = subprocess.run(
        [sys.executable, *shlex.split(command)], cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Results in out:") == done.stdout.count("Training summary") == 1
    assert done.stderr.count("were moved from") == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == RESULTS | {"earlier-1"}
    assert {path.name for path in (tmp_path / "out" / "earlier-1").iterdir()} == {"ae.ckpt"}
    assert latentstem.load(tmp_path / "out" / "ae.ckpt").config.devices == 2
