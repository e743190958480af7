"""The demonstration leaves everything it names, and its agreement of grains is what it says."""

from __future__ import annotations

import base64
import re

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score
from typer.testing import CliRunner

import latentstem
from latentstem.cli import app, demo
from latentstem.inference.embedding import Embedding
from latentstem.scan.scan import Axis


@pytest.fixture
def small(monkeypatch):
    """A smaller demonstration: seconds instead of a minute."""
    scan = {"scan_shape": (12, 10), "pattern_shape": (20, 16), "dose": 300.0, "n_grains": 3}
    monkeypatch.setattr(demo, "SCAN", scan)
    monkeypatch.setattr(demo, "TRAINING", {"latent_dim": 4, "max_patterns": 1000})


def test_demo_writes_all_of_it(small, tmp_path):
    def run(seed):
        result = CliRunner().invoke(app, ["demo", "--output_dir", str(tmp_path), "--seed", str(seed)])
        assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
        return result

    shown = run(1).stdout
    agreement = re.search(r"adjusted Rand index (-?\d\.\d{3})", shown)[1]
    assert (tmp_path / "report.html").resolve().as_uri() in shown

    simulated = latentstem.simulate(**demo.SCAN, seed=1)
    scan = latentstem.as_scan(tmp_path / "scan.npz")
    np.testing.assert_array_equal(scan.read(np.arange(120)), simulated.counts.reshape(120, 20, 16))
    embedding = Embedding.load(tmp_path / "latents.npz")
    assert embedding.maps.shape == (12, 10, 4)
    assert embedding.axes[0].units == "nm"
    labels, index = demo.find_grains(embedding, simulated.truth["grain"])
    assert f"{index:.3f}" == agreement
    assert adjusted_rand_score(simulated.truth["grain"].ravel(), labels.ravel()) == pytest.approx(index)

    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert agreement in html
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    files = [tmp_path / "latent_maps.png", tmp_path / "reconstructions.png"]
    assert [base64.b64decode(picture) for picture in pictures] == [file.read_bytes() for file in files]
    assert not re.search(r'(src|href)="(?!data:)', html), "one file that needs no other"
    assert "values look like counts" in html

    second = run(2)
    assert f"to {tmp_path / 'earlier-1'}" in second.stderr
    for name in ("scan.npz", "report.html", "ae.ckpt"):
        assert (tmp_path / "earlier-1" / name).exists()
        assert (tmp_path / name).exists()


def test_grains_are_found_and_named_like_the_true_ones():
    truth = np.array([0] * 30 + [4] * 25 + [7] * 45).reshape(10, 10)
    centres = {0: (0, 0), 4: (9, 0), 7: (0, 9)}
    maps = np.array([[centres[g] for g in row] for row in truth], float)
    maps += 0.3 * np.random.default_rng(0).normal(size=maps.shape)
    axes = (Axis("y", 10), Axis("x", 10))
    labels, agreement = demo.find_grains(Embedding(maps.astype(np.float32), axes), truth)
    assert agreement == 1
    np.testing.assert_array_equal(labels, truth)
    maps[0, 0] = 40
    labels, agreement = demo.find_grains(Embedding(maps.astype(np.float32), axes), truth)
    assert labels[0, 0] == -1
    assert agreement < 1
    np.testing.assert_array_equal(labels.ravel()[1:], truth.ravel()[1:])


def test_latents_that_know_nothing_do_not_agree():
    truth = np.arange(400).reshape(20, 20) // 100
    maps = np.random.default_rng(0).normal(size=(20, 20, 3)).astype(np.float32)
    axes = (Axis("y", 20), Axis("x", 20))
    assert abs(demo.find_grains(Embedding(maps, axes), truth)[1]) < 0.1
