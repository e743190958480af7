"""Evidence on a scan: the comparison with PCA and NMF, what happens to virtual images, and the page."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import latentstem
from latentstem.cli import app
from latentstem.io.open import as_scan
from latentstem.nn.preprocessing import Detector, patterns_to_tensor
from latentstem.report import evidence, write_report
from latentstem.report.baseline_comparison import compare_with_baselines
from latentstem.report.baselines import svd
from latentstem.report.examples import example_positions
from latentstem.report.statistics import block_numbers, latent_agreement, mean_and_error, ratio_and_error
from latentstem.report.virtual_image_comparison import compare_virtual_images
from latentstem.scan.virtual_images import direct_beam
from latentstem.training.data_module import split_positions


class Stub:
    """A model with a function in place of the network; its latents are the detector values themselves."""

    def __init__(self, scan, restore, size, *, detector=None, another=False):
        self.config = SimpleNamespace(seed=0, latent_dim=size, validation_fraction=0.2)
        self.scan_signature = scan.signature() | ({"dtype": "other"} if another else {})
        self.detector = detector or Detector(scan.pattern_shape)
        self.restore = restore
        self.autoencoder = self
        self.principal_components = SimpleNamespace(count=0, radius=0)
        self.preprocessing = SimpleNamespace(detector=self.detector, shape=self.detector.shape)

    def values(self, patterns):
        return self.detector(patterns)

    def encode(self, values, scores):
        return values

    def decode(self, latents):
        values = latents.numpy().reshape(-1, *self.detector.shape)
        return torch.from_numpy(self.restore(values).astype(np.float32))

    def virtual_images(self, scan, counts):
        values = self.detector(patterns_to_tensor(scan.read(np.arange(scan.n_positions))))
        return compare_virtual_images(self, scan, values.numpy(), counts)


@pytest.fixture(scope="module")
def linear():
    """A scan for which no method can be better than one of three components."""
    return latentstem.simulate((21, 18), (12, 16), dose=2000, structure="linear", seed=1)


def linear_model(scan, components, patterns=None):
    """The best of what a linear autoencoder can be: PCA itself."""
    training, _ = split_positions(scan, 0.2, 0)
    patterns = scan.read(training) if patterns is None else patterns[training]
    fitted = svd(patterns.reshape(len(patterns), -1).astype(np.float32), components, poisson=True)

    def restore(values):
        return np.maximum(fitted.reconstruct(values.reshape(len(values), -1)), 0).reshape(values.shape)

    return restore


def test_pca_as_an_autoencoder_is_as_good_as_pca(linear):
    scan = as_scan(linear)
    found = compare_with_baselines(Stub(scan, linear_model(scan, 3), 3), scan, True)
    assert not found["better"]
    assert found["verdict"].startswith(
        ("PCA is equally good here: use it", "NMF is equally good here: use it")
    )
    assert found["same_scan"]
    assert found["error_ratio"]["mean"] == pytest.approx(1, abs=0.25)
    assert found["methods"]["PCA (SVD), Poisson-weighted"]["best"]["components"] in (3, 4)
    assert found["methods"]["autoencoder"]["best"] == found["methods"]["autoencoder"]["same_size"]


def test_what_knows_nothing_is_worse_than_pca(linear):
    scan = as_scan(linear)
    found = compare_with_baselines(Stub(scan, lambda values: 0 * values + values.mean(), 1), scan, True)
    assert found["verdict"].startswith(("PCA is better here", "NMF is better here"))
    assert found["difference"]["mean"] > 5 * found["difference"]["standard_error"]
    assert found["methods"]["PCA (SVD)"]["same_size"]["components"] == 1


def test_repeating_the_noise_is_not_rewarded(linear):
    scan = as_scan(linear)
    found = compare_with_baselines(Stub(scan, lambda values: values, 8), scan, True)
    assert found["verdict"].startswith(("PCA is better here", "NMF is better here"))
    errors = {name: of["best"]["error"] for name, of in found["methods"].items()}
    assert errors["autoencoder"] > 10 * errors[found["baseline"]]


def test_what_knows_the_specimen_is_better():
    sim = latentstem.simulate((24, 20), (16, 12), dose=300, n_grains=6, seed=2)
    clean = torch.from_numpy(sim.expectation.reshape(-1, 16, 12))

    def nearest(values):
        """The clean pattern that is likeliest: what a perfect nonlinear model of the grains would give."""
        log = np.log(clean.numpy().reshape(len(clean), -1) + 1e-3)
        score = values.reshape(len(values), -1) @ log.T
        return clean.numpy()[score.argmax(1)]

    scan = as_scan(sim)
    found = compare_with_baselines(Stub(scan, nearest, 4), scan, True)
    assert found["better"]
    assert found["verdict"].startswith("Better than PCA and NMF: its error is 0.")
    assert found["trained_on"]["mean"] < 0
    truth = found["methods"]["autoencoder"]["best"]["error"]
    assert 0 < truth < found["methods"][found["baseline"]]["best"]["error"]


def test_values_that_are_not_counts(linear):
    noisy = linear.expectation + np.random.default_rng(0).normal(0, 0.7, linear.expectation.shape)
    scan = as_scan(noisy.astype(np.float32))
    right = compare_with_baselines(Stub(scan, linear_model(scan, 3), 3), scan, False)
    assert right["kind"] == "values"
    assert not right["better"]
    assert "PCA (SVD), Poisson-weighted" not in right["methods"]
    assert right["methods"]["PCA (SVD)"]["best"]["components"] in (3, 4)
    # three shares of 192 pixels carry noise: error as a share of the noise, of halves with twice the variance
    assert right["methods"]["PCA (SVD)"]["best"]["error"] == pytest.approx(2 * 3 / 192, rel=0.5)


def test_an_offset_changes_nothing(linear):
    noisy = linear.expectation + np.random.default_rng(0).normal(0, 0.7, linear.expectation.shape)
    off = 30.0
    scan, lower = (as_scan((noisy - shift).astype(np.float32)) for shift in (0, off))
    restore = linear_model(scan, 3)
    first = compare_with_baselines(Stub(scan, restore, 3), scan, False)
    second = compare_with_baselines(Stub(lower, lambda values: restore(values + off) - off, 3), lower, False)
    for name in first["methods"]:
        assert first["methods"][name]["best"]["loss"] == pytest.approx(
            second["methods"][name]["best"]["loss"], rel=0.02
        )
    assert first["methods"]["NMF"]["best"]["loss"] < 1.1 * first["methods"]["PCA (SVD)"]["best"]["loss"]
    found = Stub(lower, lambda values: values, 3).virtual_images(lower, False)
    centre = found.recorded["centre of mass, row"]
    assert np.isfinite(centre).all()
    assert (np.abs(centre - 5.5) < 3).all()


def test_another_scan_than_the_one_of_training(linear):
    scan = as_scan(linear)
    found = compare_with_baselines(Stub(scan, linear_model(scan, 3), 3, another=True), scan, True)
    assert not found["same_scan"]
    assert found["positions"] == 21 * 18


def test_masks_crop_and_bin_are_honoured(linear):
    mask = np.zeros((12, 16), bool)
    mask[:, 3] = True
    excluded = np.zeros((21, 18), bool)
    excluded[:5] = True
    counts = linear.counts.copy()
    counts[..., 3] = 60_000
    counts[:5] = 40_000
    scan = as_scan(counts, scan_mask=excluded, pattern_mask=mask)
    detector = Detector((12, 16), bin=1, crop=(2, 12, 1, 15))
    detector.set_mask(mask)
    images = Stub(scan, lambda values: values, 3, detector=detector).virtual_images(scan, True)
    assert np.isnan(images.chi_squared[:5]).all()
    assert np.isfinite(images.chi_squared[5:]).all()
    kept = np.delete(linear.counts[5:, :, 2:, 1:15], 2, axis=3)
    np.testing.assert_allclose(images.recorded["total intensity"][5:], kept.sum((2, 3)))
    columns = np.delete(np.arange(1, 15), 2)
    expected = (kept.sum(2) * columns).sum(2) / kept.sum((2, 3))
    np.testing.assert_allclose(images.recorded["centre of mass, column"][5:], expected, rtol=1e-4)
    for name, of in images.bias().items():
        assert of["mean"] == 0, name


def test_a_bias_is_found(linear):
    scan = as_scan(linear)
    clean = linear.expectation.reshape(-1, 12, 16)
    in_order = iter([clean[block] for block in scan.blocks_of(np.arange(len(clean)), 256)])
    images = Stub(scan, lambda values: 0.98 * next(in_order), 3).virtual_images(scan, True)
    bias = images.bias()
    total = bias["total intensity"]
    assert total["mean"] == pytest.approx(-0.02 * total["mean_before"], rel=0.2)
    assert total["in_standard_errors"] < -5
    assert abs(bias["centre of mass, row"]["in_standard_errors"]) < 4
    assert np.mean(images.chi_squared) == pytest.approx(1, abs=0.1)
    dark, bright = images.recorded["dark field"], images.recorded["bright field"]
    np.testing.assert_allclose(dark + bright, images.recorded["total intensity"], rtol=1e-5)


def test_examples_are_ranked_by_their_residual(linear):
    scan = as_scan(linear)
    images = Stub(scan, lambda values: values.mean(0, keepdims=True) + 0 * values, 3).virtual_images(
        scan, True
    )
    values = {name: images.chi_squared[at] for name, at in example_positions(images.chi_squared).items()}
    assert values["best"] == images.chi_squared.min()
    assert values["best"] < values["typical"] < values["worst"]
    assert values["worst"] == images.chi_squared.max()


def test_the_direct_beam_is_found_beside_a_beam_stop():
    y, x = np.mgrid[:24, :32]
    pattern = 100.0 * (np.hypot(y - 10, x - 18) <= 3) + 5.0 * (np.hypot(y - 18, x - 8) <= 2)
    row, column, radius = direct_beam(pattern, np.ones((24, 32), bool))
    assert (row, column) == (10, 18)
    assert radius == pytest.approx(3, abs=0.3)
    used = np.hypot(y - 10, x - 18) > 3
    assert direct_beam(pattern, used)[0] == pytest.approx(18)


def test_errors_of_a_mean_come_from_blocks():
    rng = np.random.default_rng(0)
    blocks = np.repeat(np.arange(50), 20)
    shared = np.repeat(rng.normal(size=50), 20)  # the positions of a block are alike
    found = mean_and_error(shared, blocks)
    assert found["standard_error"] == pytest.approx(shared.std() / 50**0.5, rel=0.05)
    independent = mean_and_error(rng.normal(size=1000), blocks)
    assert independent["standard_error"] == pytest.approx(1 / 1000**0.5, rel=0.4)
    two = mean_and_error(np.array([0.0, 0, 1, 1]), np.array([3, 3, 8, 8]))
    assert two == {"mean": 0.5, "standard_error": pytest.approx(0.5)}
    assert mean_and_error(np.array([1.0, np.nan]), np.array([0, 1]))["mean"] == 1
    assert np.isinf(mean_and_error(np.ones(3), np.zeros(3, int))["standard_error"])
    ratio = ratio_and_error(2 * shared + 8, shared + 4, blocks)
    assert ratio["mean"] == pytest.approx(2)
    assert ratio["standard_error"] == pytest.approx(0, abs=1e-9)
    assert np.isnan(ratio_and_error(shared, -abs(shared), blocks)["mean"])


def test_blocks_cover_a_scan():
    assert len(np.unique(block_numbers((21, 18)))) == 64
    assert len(np.unique(block_numbers((1, 3)))) == 3


def test_agreement_of_latents():
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(500, 4)) * [4, 3, 2, 1]
    same = latents[:, [2, 0, 3, 1]] * [-1, 2, 1, -3] + 7
    found = latent_agreement(latents, same)
    assert found["matched"] == pytest.approx(1)
    assert found["linear"] == pytest.approx(1)
    turned = latents @ np.linalg.qr(rng.normal(size=(4, 4)))[0]
    found = latent_agreement(latents, turned)
    assert found["linear"] == pytest.approx(1)
    assert found["matched"] < 0.95
    assert latent_agreement(latents, rng.normal(size=(500, 4)))["linear"] < 0.1


class Elements(HTMLParser):
    """What a page is made of."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def trained():
    sim = latentstem.simulate((14, 11), (16, 12), dose=300, n_grains=3, seed=2)
    scan = replace(as_scan(sim), name="<script>alert('scan')</script>")
    return latentstem.train_autoencoder(
        scan, latent_dim=3, max_patterns=1500, baselines=True, progress=False, context=0
    ), scan


def test_evidence_is_kept_with_the_model(trained, tmp_path):
    model, scan = trained
    again = latentstem.load(model.save(tmp_path / "ae.ckpt"))
    assert again.evidence == model.evidence == evidence(again, scan)
    assert set(model.evidence) == {"verdict", "better", "comparison", "bias", "residual", "seed_agreement"}


def test_the_verdict_is_printed(capsys):
    sim = latentstem.simulate((9, 8), (16, 12), dose=300, n_grains=2, seed=2)
    model = latentstem.train_autoencoder(sim, latent_dim=2, max_patterns=300, baselines=True)
    assert model.evidence["verdict"] in capsys.readouterr().out


def test_report_is_one_page_that_needs_nothing_else(trained, tmp_path):
    model, scan = trained
    path = write_report(model, scan, tmp_path / "new" / "report.html", seed_agreement=True)
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    text = path.read_text(encoding="utf-8")
    elements = Elements(text)
    assert "script" not in elements.tags
    assert "<script>alert('scan')</script>" in elements.text
    assert elements.tags.count("img") == 5
    assert all(source.startswith("data:image/png;base64,") for source in elements.sources)
    assert not re.search(r"https?://", text)
    for expected in (
        model.evidence["verdict"], "Against PCA and NMF", "Agreement of two seeds", "dark field",
        "centre of mass, row", "Latent maps", "Configuration", "validation_fraction", "Choices of auto",
    ):  # fmt: skip
        assert expected in elements.text


def test_a_scan_that_does_not_fit_is_refused(trained):
    model, _ = trained
    with pytest.raises(latentstem.errors.ModelMismatchError, match="16 x 12 pixels"):
        evidence(model, np.ones((7, 5, 32, 24), np.uint16))


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_report_from_the_command_line(trained, tmp_path):
    model, scan = trained
    np.save(tmp_path / "scan.npy", scan.read(np.arange(scan.n_positions)).reshape(scan.source.shape))
    model.save(tmp_path / "ae.ckpt")
    words = (
        "report",
        tmp_path / "ae.ckpt",
        "--data",
        tmp_path / "scan.npy",
        "--output",
        tmp_path / "page.html",
    )
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert model.evidence["verdict"] in result.output
    assert model.evidence["verdict"] in Elements((tmp_path / "page.html").read_text(encoding="utf-8")).text
    again = run(*words)
    assert again.exit_code == 2
    assert "exists already" in again.output


def test_training_from_the_command_line_with_baselines(trained, tmp_path):
    _, scan = trained
    np.save(tmp_path / "scan.npy", scan.read(np.arange(scan.n_positions)).reshape(scan.source.shape))
    words = ("--epochs", "1", "--latent", "2", "--baselines")
    result = run("train", "--data", tmp_path / "scan.npy", "--output_dir", tmp_path / "out", *words)
    assert result.exit_code == 0, result.output
    kept = latentstem.load(tmp_path / "out" / "ae.ckpt").evidence
    assert kept["verdict"] in result.output
    assert kept["verdict"] in Elements((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).text
