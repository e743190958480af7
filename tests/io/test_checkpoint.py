"""The one checkpoint format: whole, plain, safe to open, and told from everything else."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import pytorch_lightning as L
import torch

import latentstem
from helpers import maps, train
from latentstem.errors import CheckpointError
from latentstem.io.checkpoint import FORMAT_VERSION, read_checkpoint, write_checkpoint


@pytest.fixture(scope="module")
def run(scan, tmp_path_factory):
    """A model, and the folder with its checkpoints and its saved file ae.ckpt."""
    folder = tmp_path_factory.mktemp("run")
    model = train(scan, epochs=1, output_dir=folder)
    model.save(folder / "ae.ckpt")
    return model, folder


def files(folder):
    return [folder / "ae.ckpt", folder / "checkpoints" / "best.ckpt", folder / "checkpoints" / "last.ckpt"]


def plain(value):
    """Whether a value is made of tensors and plain Python values alone."""
    if isinstance(value, dict):
        return all(type(key) in (str, int) and plain(item) for key, item in value.items())
    if type(value) in (list, tuple):
        return all(map(plain, value))
    return value is None or type(value) in (bool, int, float, str, torch.Tensor)


def test_every_checkpoint_gives_the_same_latents_in_a_fresh_process(run, scan, tmp_path):
    model, folder = run
    np.save(tmp_path / "scan.npy", scan)
    code = (
        "import sys, numpy as np, latentstem, torch; torch.set_num_threads(int(sys.argv[3]))\n"
        "for i, path in enumerate(sys.argv[4:]):\n"
        "    emb = latentstem.embed(np.load(sys.argv[1]), path); np.save(f'{sys.argv[2]}/{i}.npy', emb.maps)\n"
        "assert latentstem.Autoencoder.load_from_checkpoint(sys.argv[4]).config.latent_dim == 4\n"
    )
    arguments = [
        str(tmp_path / "scan.npy"),
        str(tmp_path),
        str(torch.get_num_threads()),
        *map(str, files(folder)),
    ]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, timeout=120, cwd=tmp_path)
    for number in range(3):
        np.testing.assert_array_equal(np.load(tmp_path / f"{number}.npy"), maps(model, scan))


def test_it_holds_tensors_and_plain_values_alone(run):
    _, folder = run
    for path in files(folder):
        content = torch.load(path, weights_only=True)
        assert plain(content["hyper_parameters"])
        assert plain(content["latentstem"])
        json.dumps(content["hyper_parameters"])
        assert content["latentstem"]["format_version"] == FORMAT_VERSION
        assert content["hyper_parameters"]["scan"]["scan_shape"] == [12, 10]
        assert {"latentstem", "torch", "pytorch-lightning", "numpy"} == content["latentstem"][
            "versions"
        ].keys()
        assert any(name.startswith("preprocessing.") for name in content["state_dict"])


def test_lightning_opens_it_too(run):
    _, folder = run
    for path in files(folder):
        module = latentstem.Autoencoder.load_from_checkpoint(str(path))
        assert module.config.latent_dim == 4
        assert not module.training


def test_saving_again_changes_nothing(run, tmp_path):
    model, folder = run
    again = latentstem.load(latentstem.load(folder / "ae.ckpt").save(tmp_path / "sub" / "again.ckpt"))
    assert again.describe() == model.describe()
    assert again.history == model.history
    assert str(again.summary) == str(model.summary)
    for name, value in model.autoencoder.state_dict().items():
        assert torch.equal(again.autoencoder.state_dict()[name], value), name


def test_the_versions_are_those_that_trained_it(run, tmp_path):
    _, folder = run
    content = read_checkpoint(folder / "ae.ckpt")
    content["latentstem"]["versions"]["torch"] = "1.2.3"
    model = latentstem.load(write_checkpoint(content, tmp_path / "old.ckpt"))
    assert model.versions["torch"] == "1.2.3"
    assert latentstem.load(model.save(tmp_path / "new.ckpt")).versions["torch"] == "1.2.3"


def test_writing_is_all_or_nothing(run, tmp_path, monkeypatch):
    model, _ = run
    path = model.save(tmp_path / "ae.ckpt")
    before = path.read_bytes()

    def fail(content, file):
        file.write(b"half a file")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        model.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["ae.ckpt"]


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_others_may_read_it_as_any_new_file(run, tmp_path):
    (tmp_path / "usual").touch()
    path = run[0].save(tmp_path / "ae.ckpt")
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


# ---- what is refused ----


def refuse(path, match):
    for open_it in (latentstem.load, read_checkpoint, latentstem.Autoencoder.load_from_checkpoint):
        with pytest.raises(CheckpointError, match=match):
            open_it(path)


def test_missing_file(tmp_path):
    refuse(tmp_path / "nothing.ckpt", r"no such checkpoint.*nothing\.ckpt.*LatentModel\.save")
    refuse(tmp_path, "no such checkpoint")


@pytest.mark.parametrize("kept", [0, 10, 0.5, -1])
def test_truncated_file(run, tmp_path, kept):
    content = (run[1] / "ae.ckpt").read_bytes()
    path = tmp_path / "cut.ckpt"
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    refuse(path, r"cannot be read.*cut\.ckpt.*damaged")


def test_picture_with_the_wrong_name(tmp_path):
    import matplotlib.image

    path = tmp_path / "picture.ckpt"
    matplotlib.image.imsave(path, np.eye(20), format="png")
    refuse(path, r"cannot be read.*picture\.ckpt")


class Payload:
    """Runs code when it is unpickled."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


@pytest.mark.parametrize("forced", ["", "1"])
@pytest.mark.parametrize("how", ["torch", "zip", "pickle"])
def test_nothing_in_a_file_is_executed(run, tmp_path, monkeypatch, how, forced):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", forced)
    trace, path = tmp_path / "executed", tmp_path / "evil.ckpt"
    content = {**read_checkpoint(run[1] / "ae.ckpt"), "extra": Payload(trace)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    refuse(path, r"tensors and plain values only.*evil\.ckpt.*would run code")
    with pytest.raises(CheckpointError, match="tensors and plain values only"):
        train(np.zeros((2, 2, 8, 8)), init_from=path)
    with pytest.raises(CheckpointError, match="tensors and plain values only"):
        train(np.zeros((2, 2, 8, 8)), resume_from=path)
    assert not trace.exists()
    with contextlib.suppress(RuntimeError):
        torch.load(path, weights_only=False)  # without care, it would have been
    assert trace.is_dir()


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, "2", None, 0])
def test_other_format_versions(run, tmp_path, version):
    content = read_checkpoint(run[1] / "ae.ckpt")
    content["latentstem"]["format_version"] = version
    refuse(
        write_checkpoint(content, tmp_path / "new.ckpt"),
        rf"version {FORMAT_VERSION} or older; received {version!r}.*Upgrade",
    )


def test_checkpoints_of_other_models(run, tmp_path):
    class Other(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 2)

    trainer = L.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(Other())
    trainer.save_checkpoint(tmp_path / "other.ckpt")
    refuse(tmp_path / "other.ckpt", r"not a latentstem checkpoint.*other\.ckpt', which has none")
    torch.save(torch.rand(4, 3, 8, 8), tmp_path / "tensor.pt")
    refuse(tmp_path / "tensor.pt", r"not a latentstem checkpoint.*tensor\.pt")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    refuse(tmp_path / "other.zip", "cannot be read")


def drop(*path):
    def change(content):
        for name in path[:-1]:
            content = content[name]
        del content[path[-1]]

    return change


def other_size(content):
    content["hyper_parameters"]["config"]["latent_dim"] = 9


def other_network(content):
    content["hyper_parameters"]["config"]["network"] = "transformer"


def no_shape(content):
    content["hyper_parameters"]["pattern_shape"] = []


@pytest.mark.parametrize(
    "change",
    [
        drop("hyper_parameters", "config"),
        drop("state_dict", "preprocessing.offset"),
        drop("latentstem", "history"),
        drop("latentstem", "versions"),
        other_size,
        other_network,
        no_shape,
    ],
)
def test_altered_content(run, tmp_path, change):
    content = read_checkpoint(run[1] / "ae.ckpt")
    change(content)
    path = write_checkpoint(content, tmp_path / "altered.ckpt")
    for open_it in (latentstem.load, latentstem.Autoencoder.load_from_checkpoint):
        with pytest.raises(CheckpointError, match=r"incomplete or altered.*altered\.ckpt.*another copy"):
            open_it(path)


@pytest.mark.parametrize("part", ["state_dict", "hyper_parameters", "latentstem"])
def test_missing_parts(run, tmp_path, part):
    content = read_checkpoint(run[1] / "ae.ckpt")
    del content[part]
    refuse(write_checkpoint(content, tmp_path / "parts.ckpt"), "not a latentstem checkpoint")
