"""Pictures are drawn without touching the user's matplotlib, and show what they say."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import PowerNorm

from latentstem.inference.embedding import Embedding
from latentstem.report import figures as figures_module
from latentstem.report.examples import residual
from latentstem.report.figures import draw_latent_maps, draw_reconstructions
from latentstem.scan.scan import Axis

NM = (Axis("y", 7, 2.0, 0.0, "nm"), Axis("x", 5, 2.0, 0.0, "nm"))
K = (Axis("ky", 32, 0.05, 0.0, "1/angstrom"), Axis("kx", 24, 0.05, 0.0, "1/angstrom"))
POSITIONS = {"typical": (3, 4), "best": (0, 1), "worst": (6, 2)}


@pytest.fixture
def drawn(monkeypatch):
    """The figure that was written last, so that a test can look at what is on it."""
    figures = []
    save = figures_module.save_figure

    def keep(figure, path):
        figures.append(figure)
        return save(figure, path)

    monkeypatch.setattr(figures_module, "save_figure", keep)
    return figures


@pytest.fixture
def stacks():
    rng = np.random.default_rng(0)
    clean = rng.gamma(0.5, 2.0, (3, 32, 24))
    return rng.poisson(clean).astype(np.uint16), clean.astype(np.float32)


def embedding(k=3, axes=NM, seed=0):
    shape = (*(axis.size for axis in axes), k)
    return Embedding(np.random.default_rng(seed).normal(size=shape).astype(np.float32), axes)


def maps_on(figure):
    return {ax.get_title(): ax.images[0] for ax in figure.axes if ax.get_title()}


def texts(figure):
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text)]


def size_of(path):
    from PIL import Image

    with Image.open(path) as image:
        return image.size


def test_maps_are_ordered_by_how_much_they_vary(tmp_path, drawn):
    maps = embedding(3).maps * np.array([1, 100, 10], np.float32)
    path = draw_latent_maps(Embedding(maps, NM), tmp_path / "maps.png")
    assert path == tmp_path / "maps.png"
    assert min(size_of(path)) > 300
    shown = maps_on(drawn[0])
    assert list(shown) == ["latent 1", "latent 2", "latent 0"]
    np.testing.assert_array_equal(shown["latent 2"].get_array(), maps[..., 2])


def test_at_most_sixteen_maps_and_the_picture_says_so(tmp_path, drawn):
    draw_latent_maps(embedding(20), tmp_path / "maps.png")
    assert len(maps_on(drawn[0])) == 16
    assert "the 16 of 20 latents that vary most" in texts(drawn[0])


def test_contrast_ignores_one_wild_position(tmp_path, drawn):
    axes = (replace(NM[0], size=40), replace(NM[1], size=30))
    maps = embedding(1, axes).maps.copy()
    maps[3, 4] = 1e6
    draw_latent_maps(Embedding(maps, axes), tmp_path / "maps.png")
    low, high = maps_on(drawn[0])["latent 0"].get_clim()
    assert -4 < low < high < 4


def test_excluded_positions_are_blank(tmp_path, drawn):
    maps = embedding(2).maps.copy()
    maps[2, 3] = np.nan
    draw_latent_maps(Embedding(maps, NM), tmp_path / "maps.png")
    image = maps_on(drawn[0])["latent 0"]
    assert np.argwhere(np.ma.getmaskarray(image.get_array())).tolist() == [[2, 3]]
    assert image.get_cmap().get_bad() == pytest.approx((0.6, 0.6, 0.6, 1))


@pytest.mark.parametrize("value", [np.nan, 3.0])
def test_maps_without_contrast_are_drawn(tmp_path, value):
    maps = np.full((7, 5, 2), value, np.float32)
    assert draw_latent_maps(Embedding(maps, NM), tmp_path / "maps.png").stat().st_size > 1000


def test_calibrated_maps_have_a_scale_bar_in_their_units(tmp_path, drawn):
    draw_latent_maps(embedding(), tmp_path / "maps.png")
    assert "2 nm" in texts(drawn[0])
    (bar,) = [a for ax in drawn[0].axes for a in ax.artists]
    assert bar.size_bar.get_children()[0].get_width() == pytest.approx(1.0)  # 2 nm are one scan position


def test_uncalibrated_maps_have_scan_positions_on_their_axes(tmp_path, drawn):
    draw_latent_maps(embedding(axes=(Axis("y", 7), Axis("x", 5))), tmp_path / "maps.png")
    first = drawn[0].axes[0]
    assert not first.artists
    assert {text.get_text() for text in first.get_yticklabels()} >= {"0", "2", "4", "6"}


@pytest.mark.parametrize(("units", "shown"), [("um", "µm"), ("angstrom", "Å"), ("1/angstrom", "Å⁻¹")])
def test_units_are_written_as_a_microscopist_does(tmp_path, drawn, units, shown):
    axes = (Axis("y", 7, 2.0, 0.0, units), Axis("x", 5, 2.0, 0.0, units))
    draw_latent_maps(embedding(axes=axes), tmp_path / "maps.png")
    assert f"2 {shown}" in texts(drawn[0])


def test_true_labels_come_first(tmp_path, drawn):
    grains = np.arange(35).reshape(7, 5) // 12
    grains[0, 0] = -1
    draw_latent_maps(embedding(), tmp_path / "maps.png", label_maps={"true grains": grains})
    titles = list(maps_on(drawn[0]))
    assert titles[0] == "true grains"
    assert len(titles) == 4
    shown = maps_on(drawn[0])["true grains"].get_array()
    assert np.argwhere(np.ma.getmaskarray(shown)).tolist() == [[0, 0]]


@pytest.mark.parametrize("axes", [NM, (Axis("y", 1, 1.0, 0.0, "nm"), Axis("x", 35, 1.0, 0.0, "nm"))])
def test_colour_bars_overlap_nothing(tmp_path, drawn, axes):
    draw_latent_maps(embedding(6, axes), tmp_path / "maps.png")
    figure = drawn[0]
    figure.draw_without_rendering()
    boxes = [ax.get_tightbbox() for ax in figure.axes if ax.axison]
    for n, box in enumerate(boxes):
        for other in boxes[:n]:
            width = min(box.x1, other.x1) - max(box.x0, other.x0)
            height = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert width < 1 or height < 1


def test_reconstructions_share_a_square_root_grey_scale(tmp_path, drawn, stacks):
    patterns, clean = stacks
    path = draw_reconstructions(patterns, clean, POSITIONS, tmp_path / "r.png", noise_free=clean, axes=K)
    assert min(size_of(path)) > 300
    panels = np.array([ax for ax in drawn[0].axes if ax.images and ax.get_label() != "<colorbar>"])
    panels = panels.reshape(3, 4)
    for row, (name, (y, x)) in zip(panels, POSITIONS.items(), strict=True):
        assert row[0].get_ylabel() == f"{name}, row {y}, column {x}"
        norms = [ax.images[0].norm for ax in row[:3]]
        assert all(isinstance(norm, PowerNorm) and norm.gamma == 0.5 for norm in norms)
        assert len({(norm.vmin, norm.vmax) for norm in norms}) == 1
        assert row[0].artists, "a reciprocal scale bar"
    assert [ax.get_title() for ax in panels[0]][:3] == ["recorded", "reconstruction", "noise-free"]
    limits = {ax.images[0].get_clim() for ax in panels[:, 3]}
    assert len(limits) == 1
    assert sum(next(iter(limits))) == 0
    assert "0.2 Å⁻¹" in texts(drawn[0])


def test_reconstructions_of_negative_constant_and_tiny_values_are_drawn(tmp_path):
    rng = np.random.default_rng(1)
    for n, values in enumerate((rng.normal(size=(1, 9, 8)), np.zeros((1, 9, 8)), 1e-30 * np.ones((1, 9, 8)))):
        values = values.astype(np.float32)
        path = draw_reconstructions(values, values, {"typical": (0, 0)}, tmp_path / f"{n}.png")
        assert path.stat().st_size > 1000


def test_residual_of_counts_is_in_standard_deviations():
    clean = np.full((20, 32, 24), 9.0, np.float32)
    counts = np.random.default_rng(0).poisson(clean)
    residuals = residual(counts, clean)
    assert residuals.std() == pytest.approx(1, abs=0.02)
    assert abs(residuals.mean()) < 0.03


def test_residual_leaves_out_excluded_pixels_and_bounds_lone_electrons():
    clean = np.full((1, 10, 10), 0.01, np.float32)
    clean[0, 0] = 1.0
    clean[0, 9, 9] = 0.0
    counts = np.zeros((1, 10, 10))
    counts[0, 5, 5] = 1
    residuals = residual(counts, clean)
    assert np.isnan(residuals[0, 9, 9])
    assert np.isfinite(residuals).sum() == 99
    assert residuals[0, 5, 5] < 10  # 1 / sqrt(0.01), without the floor


def test_matplotlib_is_left_as_the_user_has_it(tmp_path):
    code = f"""
import sys
import matplotlib
before = matplotlib.rcParams.copy()
import numpy as np
from latentstem.report.figures import draw_latent_maps
from latentstem.inference.embedding import Embedding
from latentstem.scan.scan import Axis
maps = np.random.default_rng(0).normal(size=(7, 5, 2)).astype(np.float32)
draw_latent_maps(Embedding(maps, (Axis("y", 7), Axis("x", 5))), {str(tmp_path / "m.png")!r})
assert "matplotlib.pyplot" not in sys.modules
assert matplotlib.rcParams.copy() == before
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
