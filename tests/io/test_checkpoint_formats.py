"""A checkpoint that an earlier version wrote is read by every later one, and gives the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import latentstem
from latentstem.cli import app

CHECKPOINTS = sorted((Path(__file__).parent / "checkpoints").glob("format-*.ckpt"))


def test_there_is_one_of_this_format():
    from latentstem.io.checkpoint import FORMAT_VERSION

    assert f"format-{FORMAT_VERSION}" in [path.stem for path in CHECKPOINTS]


@pytest.fixture(params=CHECKPOINTS, ids=lambda path: path.stem)
def kept(request):
    """The path of a checkpoint, and what was written beside it."""
    with np.load(request.param.with_suffix(".npz")) as file:
        return request.param, dict(file)


def test_it_gives_the_same_latents_and_reconstructions(kept):
    path, known = kept
    model = latentstem.load(path)
    latents, rebuilt = model.embed(known["scan"]).maps, model.reconstruct(known["scan"])[2, 3]
    np.testing.assert_allclose(latents, known["latents"], rtol=0, atol=1e-5 * np.abs(known["latents"]).max())
    np.testing.assert_allclose(
        rebuilt, known["reconstructed"], rtol=0, atol=1e-5 * known["reconstructed"].max()
    )
    assert model.config.context == 1
    assert model.summary.figures
    assert not rebuilt[2:4, 4:6].any()  # the detector pixels that were masked, in their bins
    module = latentstem.Autoencoder.load_from_checkpoint(path)
    assert all(
        torch.equal(value, model.autoencoder.state_dict()[name])
        for name, value in module.state_dict().items()
    )


def test_it_can_be_trained_on(kept, tmp_path):
    path, known = kept
    tuned = latentstem.train_autoencoder(known["scan"], init_from=path, epochs=1, progress=False)
    again = latentstem.load(tuned.save(tmp_path / "tuned.ckpt"))
    assert again.config.latent_dim == known["latents"].shape[2]
    assert f"format-{again.autoencoder.format_version}" == path.stem  # its network goes on as it began
    assert np.abs(again.embed(known["scan"]).maps - known["latents"]).max() < np.ptp(known["latents"])


def test_it_is_described(kept):
    path, _ = kept
    result = CliRunner().invoke(app, ["info", str(path)])
    assert result.exit_code == 0
    assert "format version" in result.output
    assert "16 x 20" in result.output
