"""Opening scans with the reader and the sample, and writing latents."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

import latentstem
from helpers import Payload, train
from latentstem.errors import FileError
from latentstem.io.output_files import latent_suffixes, pattern_suffixes
from napari_latentstem.layers.latent_layers import show_embedding
from napari_latentstem.layers.progress_dialog import run_with_progress
from napari_latentstem.layers.reader import get_reader
from napari_latentstem.layers.sessions import SESSION_KEY, sessions_of
from napari_latentstem.layers.writer import (
    export_latents,
    export_reconstructions,
)
from napari_latentstem.widgets.maps_widget import MapsWidget


def test_a_file_opens_as_a_calibrated_image(make_napari_viewer, tmp_path, counts):
    hs = pytest.importorskip("hyperspy.api")
    signal = hs.signals.Signal2D(counts)
    for axis, name, scale, offset, units in zip(
        signal.axes_manager._axes,
        "yxab",
        (2, 3, 0.1, 0.1),
        (10, 20, 0, 0),
        ("nm", "nm", "1/A", "1/A"),
        strict=True,
    ):
        axis.name, axis.scale, axis.offset, axis.units = name, scale, offset, units
    signal.save(tmp_path / "grains.hspy")
    viewer = make_napari_viewer()
    (layer,) = viewer.open(tmp_path / "grains.hspy", plugin="latentstem")
    assert layer.name == "grains"
    np.testing.assert_array_equal(layer.data, counts.sum((2, 3), dtype=np.float32))
    assert tuple(layer.scale) == (2, 3)
    assert tuple(layer.translate) == (10, 20)
    assert [str(unit) for unit in layer.units] == ["nanometer"] * 2
    assert layer.axis_labels == ("y", "x")
    assert viewer.canvas.overlays.scale_bar.visible
    session = sessions_of(viewer).of_layer(layer)
    assert session.scan.scan_shape == (7, 5)
    assert session.scan.source.array is None or isinstance(session.scan.source.array, np.memmap)


def test_a_path_that_is_no_scan_says_what_to_do(make_napari_viewer, tmp_path):
    np.save(tmp_path / "pattern.npy", np.zeros((8, 8)))
    (tmp_path / "empty.mib").touch()
    assert get_reader(str(tmp_path / "pattern.npy")) is None
    viewer = make_napari_viewer()
    with pytest.raises(FileError, match=r"empty.*Copy or export it again"):
        viewer.open(tmp_path / "empty.mib", plugin="latentstem")
    assert not viewer.layers


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".h5"])
def test_a_hostile_file_does_nothing(make_napari_viewer, tmp_path, monkeypatch, suffix):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path, payload = tmp_path / f"evil{suffix}", Payload(tmp_path / "executed")
    if suffix == ".npz":
        np.savez(path, data=np.full((7, 5, 32, 24), payload, object))
    elif suffix == ".pt":
        torch.save({"data": torch.ones(7, 5, 32, 24), "evil": payload}, path)
    else:
        path.write_bytes(pickle.dumps(payload))
    viewer = make_napari_viewer()
    if suffix == ".npy":
        assert get_reader(str(path)) is None
    else:
        with pytest.raises(FileError, match="expected"):
            viewer.open(path, plugin="latentstem")
    assert not viewer.layers
    assert not (tmp_path / "executed").exists()


def test_big_files_stay_on_disk(make_napari_viewer, tmp_path, counts):
    np.save(tmp_path / "scan.npy", counts)
    viewer = make_napari_viewer()
    viewer.open(tmp_path / "scan.npy", plugin="latentstem")
    (session,) = sessions_of(viewer)
    assert (
        isinstance(session.scan.source.array.base, np.memmap) or not session.scan.source.array.flags.owndata
    )


def test_the_sample_opens(make_napari_viewer):
    viewer = make_napari_viewer()
    (layer,) = viewer.open_sample("latentstem", "polycrystal")
    assert layer.data.shape == (64, 64)
    assert tuple(layer.scale) == (2, 2)
    assert layer.metadata[SESSION_KEY].scan.axes[2].units == "1/angstrom"
    assert layer.contrast_limits[0] < layer.contrast_limits[1]


def test_the_window_lives_while_something_is_read(qapp):
    from qtpy.QtCore import QTimer

    beats = []
    timer = QTimer(interval=5)
    timer.timeout.connect(lambda: beats.append(1))
    timer.start()

    def slow():
        import time

        for step in range(10):
            time.sleep(0.02)
            yield step / 9, step

    assert run_with_progress(slow(), "Reading", "Stop") == 9
    assert len(beats) > 10


def test_enough_takes_what_is_there(qapp):
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QProgressDialog

    def endless():
        import time

        n = 0
        while True:
            time.sleep(0.01)
            yield 0.5, (n := n + 1)

    def press():
        (dialog,) = [
            w for w in qapp.topLevelWidgets() if isinstance(w, QProgressDialog) and w.labelText() == "On"
        ]
        dialog.canceled.emit()

    QTimer.singleShot(200, press)
    assert run_with_progress(endless(), "On", "Stop") >= 1


def test_errors_come_out_of_the_thread(qapp):
    def broken():
        yield 0.5, None
        raise FileError("no file", expected="one", received="none", advice="Look.")

    with pytest.raises(FileError, match=r"no file: expected one; received none\. Look\."):
        run_with_progress(broken(), "Reading", "Stop")


def test_the_layer_of_latents_can_be_saved_from_the_file_menu(
    make_napari_viewer, tmp_path, calibrated, open_in
):
    viewer = make_napari_viewer()
    session = open_in(viewer, calibrated)
    maps = np.random.default_rng(0).random((16, 16, 3), np.float32)
    session.embedding = latentstem.Embedding(maps, calibrated.axes[:2])
    layer = show_embedding(viewer, session)
    for suffix in (".npz", ".hspy"):
        written = layer.save(str(tmp_path / f"latents{suffix}"), plugin="latentstem")
        assert written == [str(tmp_path / f"latents{suffix}")]
    saved = latentstem.Embedding.load(tmp_path / "latents.npz")
    np.testing.assert_array_equal(saved.maps, maps)
    assert saved.axes == calibrated.axes[:2]
    hs = pytest.importorskip("hyperspy.api")
    signal = hs.load(tmp_path / "latents.hspy")
    np.testing.assert_array_equal(signal.data, np.moveaxis(maps, -1, 0))
    assert signal.axes_manager.signal_axes[0].units == "nm"
    with pytest.raises(RuntimeError, match=r"no latents to write: .*received 'scan'"):
        viewer.layers["scan"].save(str(tmp_path / "image.npz"), plugin="latentstem")


@pytest.mark.parametrize("suffix", list(pattern_suffixes()))
def test_each_kind_of_file_is_written_and_opens_again(
    make_napari_viewer, tmp_path, calibrated, open_in, suffix, qtbot
):
    pytest.importorskip({".h5": "py4DSTEM"}.get(suffix, "hyperspy"))
    viewer = make_napari_viewer()
    session = open_in(viewer, calibrated)
    session.model = train(calibrated, latent_dim=2, batch_size=32, epochs=1)
    session.embedding = session.model.embed(calibrated)
    widget = MapsWidget(viewer)
    qtbot.addWidget(widget)
    if suffix in latent_suffixes():
        widget._save("latents", export_latents, latent_suffixes(), str(tmp_path / f"latents{suffix}"))
        qtbot.waitUntil(
            lambda: widget.message.text() == f"Written: {tmp_path / f'latents{suffix}'}", timeout=60_000
        )
    path = tmp_path / f"patterns{suffix}"
    widget._save("reconstructions", export_reconstructions, pattern_suffixes(), str(path))
    qtbot.waitUntil(lambda: widget.message.text() == f"Written: {path}", timeout=60_000)
    widget.close()
    (layer,) = viewer.open(path, plugin="latentstem")
    scan = layer.metadata[SESSION_KEY].scan
    np.testing.assert_array_equal(
        scan.read(np.arange(256)).reshape(16, 16, 32, 32), session.model.reconstruct(calibrated)
    )
    if suffix != ".npy":
        assert (scan.axes[0].units, scan.axes[0].scale) == ("nm", 2)
