"""A network, a likelihood and a penalty are each added with one file and one name in the configuration."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import latentstem

NETWORK = """
from torch import nn

from .base import Network


class LinearAutoencoder(Network):
    name = "linear"

    def __init__(self, shape, latent_dim, **options):
        super().__init__(shape, latent_dim, **options)
        self.encoder = nn.Linear(shape[0] * shape[1], latent_dim)
        self.decoder = nn.Linear(latent_dim, shape[0] * shape[1])

    def encode(self, x):
        return self.encoder(x.flatten(1))

    def decode(self, z):
        return self.decoder(z).unflatten(1, self.shape)
"""
LIKELIHOOD = """
from .base import Likelihood


class LogCosh(Likelihood):
    name = "logcosh"

    def error(self, output, values, fraction):
        return (output - self.preprocessing(values)).cosh().log()
"""
PENALTY = """
from .base import Penalty


class MeanPenalty(Penalty):
    name = "mean"
    weight = "lambda_mean"

    def forward(self, latents):
        return latents.mean(0).square().sum()
"""
SCRIPT = """
import latentstem
from latentstem.cli import app
from typer.testing import CliRunner

scan = latentstem.simulate((8, 7), (16, 20), dose=300, n_grains=3).counts
model = latentstem.train_autoencoder(
    scan, network="linear", reconstruction="logcosh", lambda_mean=0.1, latent_dim=3, epochs=2, progress=False
)
model.save("ae.ckpt")
again = latentstem.load("ae.ckpt")
assert again.embed(scan).maps.shape == (8, 7, 3)
assert type(again.autoencoder.network).__name__ == "LinearAutoencoder"
assert {"train/loss", "train/logcosh", "train/mean"} <= set(again.history)
text = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "200"}).output
assert "linear" in text and "logcosh" in text and "--lambda_mean" in text, text
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the package with a file for each, and their names in the configuration."""
    package = tmp_path / "src" / "latentstem"
    shutil.copytree(Path(latentstem.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder, text in (("networks", NETWORK), ("likelihoods", LIKELIHOOD), ("penalties", PENALTY)):
        (package / "nn" / folder / "added.py").write_text(text)
    config = (package / "config.py").read_text()
    for old, new in (
        ('Literal["compact", "resnet"', 'Literal["compact", "resnet", "linear"'),
        ('"huber", "poisson"]', '"huber", "poisson", "logcosh"]'),
        ("    learning_rate: float", '    lambda_mean: float = Field(0.0, ge=0, description="Mean.")\n    learning_rate: float'),
    ):  # fmt: skip
        assert config.count(old) == 1, old
        config = config.replace(old, new)
    (package / "config.py").write_text(config)
    return package.parent


def test_a_model_is_trained_with_what_was_added(source, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
