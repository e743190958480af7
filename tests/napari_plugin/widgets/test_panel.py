"""The panel as a whole, from a sample to files and back, and what of it is there before it is opened."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys
import threading
import weakref
from contextlib import suppress

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt

import latentstem
from helpers import train
from latentstem.errors import ModelMismatchError
from latentstem.io.output_files import latent_suffixes
from napari_latentstem.layers import writer
from napari_latentstem.layers.scan_layers import layer_of
from napari_latentstem.layers.sessions import sessions_of
from napari_latentstem.widgets.panel import _TABS, Panel

WAIT = 60_000  # ms


@pytest.fixture
def small_sample(monkeypatch):
    """File > Open Sample gives a scan of 16 x 16 patterns of 32 x 32 pixels."""
    monkeypatch.setattr(
        "napari_latentstem.layers.sample.simulate",
        lambda: latentstem.simulate((16, 16), (32, 32), dose=400, n_grains=3),
    )


@pytest.fixture
def panel_of(make_napari_viewer):
    """Opens the panel as the Plugins menu does: ``viewer, panel = panel_of()``."""
    panels = []

    def opened(**arguments):
        viewer = make_napari_viewer(**arguments)
        _, panel = viewer.window.add_plugin_dock_widget("latentstem", "LatentSTEM")
        panels.append(panel)
        return viewer, panel

    yield opened
    for panel in panels:
        with suppress(RuntimeError):  # it is gone with its window
            panel.close()


def fill_in(panel, **values):
    """Two epochs of small steps, unless told otherwise, and no comparison."""
    widget = panel.widgets["Train"]
    widget.baselines.setChecked(False)
    widget.form.set_length("epochs", values.pop("epochs", 2))
    for name, value in {"latent_dim": 3, "batch_size": 32, "context": 1, **values}.items():
        widget.form.set_value(name, value)
    return widget


def trained(panel, qtbot, **values):
    """Train in the panel, to the end."""
    widget = fill_in(panel, **values)
    widget.train.click()
    qtbot.waitUntil(lambda: widget.job.session is None, timeout=WAIT)
    assert widget.message.text() == ""


def training_threads():
    return [thread for thread in threading.enumerate() if thread.name == "latentstem-training"]


def on_canvas(viewer, layer, position):
    """Where a scan position is on the canvas."""
    canvas = viewer.window._qt_viewer.canvas
    y, x = layer.data_to_world(position)
    mapped = (canvas.view.transform * canvas.view.scene.transform).map([x, y])[:2]
    return canvas.native, QPoint(round(mapped[0]), round(mapped[1]))


def test_from_a_sample_to_files_and_back(panel_of, small_sample, qtbot, tmp_path):
    viewer, panel = panel_of(show=True)
    viewer.open_sample("latentstem", "polycrystal")
    (session,) = sessions_of(viewer)
    assert "16 × 16 positions of 32 × 32 pixels, uint16" in panel.about.text().replace("\u202f", " ")

    trained(panel, qtbot)
    latents = viewer.layers["simulated scan latents"]
    assert latents.data.shape == (3, 16, 16)
    assert latents.axis_labels == ("latent", "y", "x")
    assert tuple(latents.scale) == (1, 2, 2)
    assert [str(unit) for unit in latents.units[1:]] == ["nanometer", "nanometer"]
    np.testing.assert_array_equal(latents.data, np.moveaxis(session.model.embed(session.scan).maps, -1, 0))

    patterns = panel.widgets["Patterns"]
    panel.tabs.setCurrentIndex(2)
    qtbot.wait(100)
    native, point = on_canvas(viewer, viewer.layers["simulated scan"], (4, 11))
    qtbot.mouseClick(native, Qt.MouseButton.LeftButton, pos=point)
    assert session.position == (4, 11)
    at = 4 * 16 + 11
    reconstructed = session.model.reconstruct(session.scan)[4, 11]

    def pictures():
        shown = patterns.images()
        np.testing.assert_array_equal(shown[0], session.scan.read(np.array([at]))[0])
        np.testing.assert_allclose(shown[1], reconstructed, rtol=1e-4, atol=1e-5)

    qtbot.waitUntil(pictures)

    space = panel.widgets["Latent space"]
    panel.tabs.setCurrentIndex(3)
    qtbot.waitUntil(lambda: space.scatter.latents is not None and not space.working)
    xy, view = space.scatter.latents.projection.xy, space.scatter.view
    half = np.median(xy[:, 0])
    _, x1, y0, y1 = view.view
    corners = [(half, y0), (half, y1), (x1, y1), (x1, y0)]
    lasso = [view.to_widget(*corner).toPoint() for corner in corners]
    qtbot.mousePress(view, Qt.MouseButton.LeftButton, pos=lasso[0])
    for corner in lasso[1:]:
        qtbot.mouseMove(view, corner)
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=lasso[-1])
    qtbot.waitUntil(lambda: session.selection is not None)
    chosen = viewer.layers["simulated scan selection"]
    np.testing.assert_array_equal(np.asarray(chosen.data) > 0, session.selection)
    right = (xy[:, 0] > half).reshape(16, 16)
    assert (session.selection == right).mean() > 0.97  # an outline in whole pixels of the screen

    space.method.setCurrentText("k-means")
    space.number.setValue(3)
    space.find_clusters.click()
    qtbot.waitUntil(lambda: layer_of(viewer, session, "clusters") is not None, timeout=WAIT)
    clusters = layer_of(viewer, session, "clusters")
    assert set(np.unique(clusters.data)) == {1, 2, 3}
    assert tuple(clusters.scale) == (2, 2)

    maps = panel.widgets["Latent maps"]
    maps._save("latents", writer.export_latents, latent_suffixes(), str(tmp_path / "latents.npz"))
    qtbot.waitUntil(lambda: "Written" in maps.message.text())
    saved = latentstem.Embedding.load(tmp_path / "latents.npz")
    np.testing.assert_array_equal(saved.maps, session.embedding.maps)
    assert saved.axes == session.embedding.axes

    model = panel.widgets["Model"]
    model.save_model(str(tmp_path / "ae.ckpt"))
    qtbot.waitUntil(lambda: (tmp_path / "ae.ckpt").is_file() and not model._save_worker.working)
    before, trained_model = session.embedding, session.model
    model.load_model(str(tmp_path / "ae.ckpt"))
    qtbot.waitUntil(lambda: session.model is not trained_model and not session.busy, timeout=WAIT)
    np.testing.assert_array_equal(session.embedding.maps, before.maps)
    np.testing.assert_array_equal(latents.data, np.moveaxis(before.maps, -1, 0))


def test_a_closed_panel_trains_no_longer_and_lets_go(panel_of, small_sample, qtbot):
    viewer, panel = panel_of()
    viewer.open_sample("latentstem", "polycrystal")
    widget = fill_in(panel, epochs=100_000)
    widget.train.click()
    qtbot.waitUntil(lambda: widget.progress.value() > 1, timeout=WAIT)
    viewer.window.remove_dock_widget(panel)
    qtbot.waitUntil(lambda: not training_threads(), timeout=WAIT)
    assert all(widget.stopped for widget in panel.widgets.values())
    (session,) = sessions_of(viewer)
    session.position = (3, 3)  # nobody listens any more, and nothing fails
    session.selection = np.ones((16, 16), bool)
    assert [layer.name for layer in viewer.layers] == ["simulated scan"]


def test_closing_napari_in_mid_run_stops_and_frees(panel_of, small_sample, qtbot):
    viewer, panel = panel_of()
    viewer.open_sample("latentstem", "polycrystal")
    widget = fill_in(panel, epochs=100_000)
    widget.train.click()
    qtbot.waitUntil(lambda: widget.progress.value() > 1, timeout=WAIT)
    (session,) = sessions_of(viewer)
    memory = weakref.ref(session.scan)
    del session
    viewer.close()
    qtbot.waitUntil(lambda: not training_threads(), timeout=WAIT)

    def freed():
        gc.collect()
        assert memory() is None

    qtbot.waitUntil(freed)


def test_two_scans_are_worked_on_by_turns(panel_of, small_sample, counts, open_in, qtbot):
    viewer, panel = panel_of()
    viewer.open_sample("latentstem", "polycrystal")
    (first,) = sessions_of(viewer)
    second = open_in(viewer, counts, "other")
    assert "other" in panel.about.text()
    trained(panel, qtbot, latent_dim=2, batch_size=8)
    assert second.embedding.maps.shape == (7, 5, 2)
    assert first.model is None
    viewer.layers.selection.active = viewer.layers["simulated scan"]
    assert "simulated scan" in panel.about.text()
    trained(panel, qtbot)
    assert first.embedding.maps.shape == (16, 16, 3)
    assert second.embedding.maps.shape == (7, 5, 2)
    with pytest.raises(ModelMismatchError, match=r"32 x 32 pixels"):
        first.model.embed(second.scan)
    viewer.layers.remove(viewer.layers["other"])
    viewer.layers.remove(viewer.layers["other latents"])
    assert second.closed
    assert list(sessions_of(viewer)) == [first]


def test_each_part_opens_alone(make_napari_viewer, small_sample):
    viewer = make_napari_viewer()
    viewer.open_sample("latentstem", "polycrystal")
    for title in ("Train", "Latent maps", "Patterns", "Latent space", "Model"):
        _, widget = viewer.window.add_plugin_dock_widget("latentstem", title)
        assert type(widget) in _TABS.values()
        widget.close()


def test_every_contribution_is_there():
    from npe2 import PluginManifest

    manifest = PluginManifest.from_distribution("latentstem")
    for command in manifest.contributions.commands:
        module, name = command.python_name.split(":")
        assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("with_model", [False, True])
def test_view_opens_what_is_in_python(make_napari_viewer, monkeypatch, tmp_path, with_model, qtbot):
    simulated = latentstem.simulate((7, 5), (32, 24), dose=400, n_grains=2)
    model = train(simulated, latent_dim=2, batch_size=8, epochs=1) if with_model else None
    monkeypatch.setattr("napari.Viewer", make_napari_viewer)
    viewer = latentstem.view(simulated, model and model.save(tmp_path / "ae.ckpt"))
    (session,) = sessions_of(viewer)
    assert np.shares_memory(session.scan.source.array, simulated.counts)
    shown = ["simulated scan", "simulated scan latents"][: 1 + with_model]
    assert [layer.name for layer in viewer.layers if "position" not in layer.name] == shown
    if with_model:
        np.testing.assert_array_equal(session.embedding.maps, model.embed(simulated).maps)
    (panel,) = viewer.window._qt_window.findChildren(Panel)
    panel.close()


@pytest.mark.parametrize("host", ["HyperSpy", "py4DSTEM"])
def test_view_opens_what_other_libraries_hold(make_napari_viewer, monkeypatch, host):
    counts = latentstem.simulate((7, 5), (32, 24), dose=400, n_grains=2).counts
    if host == "HyperSpy":
        data = pytest.importorskip("hyperspy.api").signals.Signal2D(counts)
        for axis, scale, units in zip(
            data.axes_manager.navigation_axes, (2.0, 3.0), ("nm", "nm"), strict=True
        ):
            axis.scale, axis.units = scale, units
        expected = (3.0, 2.0)  # rows, columns: HyperSpy's x is the last axis
    else:
        data = pytest.importorskip("py4DSTEM").DataCube(counts)
        data.calibration.set_R_pixel_size(2.5)
        data.calibration.set_R_pixel_units("nm")
        expected = (2.5, 2.5)
    monkeypatch.setattr("napari.Viewer", make_napari_viewer)
    viewer = latentstem.view(data)
    (session,) = sessions_of(viewer)
    layer = next(layer for layer in viewer.layers if "position" not in layer.name)
    np.testing.assert_allclose(layer.scale, expected)
    assert [str(unit) for unit in layer.units] == ["nanometer"] * 2
    np.testing.assert_array_equal(layer.data, counts.sum((2, 3)))
    assert session.scan.scan_shape == (7, 5)
    (panel,) = viewer.window._qt_window.findChildren(Panel)
    panel.close()


def python(code):
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False, timeout=200
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_closing_one_of_two_windows_in_mid_run_stops():
    said = python(
        """
import threading, time
import latentstem, napari
import napari_latentstem.layers.sample
from qtpy.QtWidgets import QApplication

def live(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)

def training():
    return [thread for thread in threading.enumerate() if thread.name == "latentstem-training"]

napari_latentstem.layers.sample.simulate = lambda: latentstem.simulate((16, 16), (32, 32))
viewer = napari.Viewer()
viewer.open_sample("latentstem", "polycrystal")
_, panel = viewer.window.add_plugin_dock_widget("latentstem", "LatentSTEM")
widget = panel.widgets["Train"]
widget.form.set_length("epochs", 100_000)
widget.train.click()
live(lambda: widget.progress.value() > 1)
napari.Viewer()
print(len(training()))
viewer.window._qt_window.close()
live(lambda: not training())
print(len(training()))
"""
    )
    assert said.split()[-2:] == ["1", "0"]


def test_napari_starts_without_loading_any_of_it():
    loaded = python(
        "import sys, napari; viewer = napari.Viewer(show=False); print(*sys.modules); viewer.close()"
    ).split()
    assert "napari" in loaded
    assert "napari_latentstem" not in loaded
    assert not {name.partition(".")[0] for name in loaded} & {"latentstem", "torch"}


def test_without_qt_there_is_all_but_the_panel():
    said = python(
        """
import importlib, pkgutil, sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("napari", "qtpy", "PySide6", "PyQt6", "vispy", "superqt", "magicgui", "psygnal"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import latentstem
for module in pkgutil.walk_packages(latentstem.__path__, "latentstem."):
    importlib.import_module(module.name)
try:
    latentstem.view([1])
except ImportError as error:
    print(error)
"""
    )
    assert said.strip() == (
        "latentstem.view needs napari, and napari is not installed. `pip install latentstem[napari]`."
    )
