"""Open scans of a viewer: which are open, and which is in use."""

from __future__ import annotations

import copy
import gc
import subprocess
import sys
import weakref

import numpy as np

from napari_latentstem.layers.scan_layers import scan_kwargs
from napari_latentstem.layers.sessions import SESSION_KEY, Sessions, sessions_of
from napari_latentstem.model.session import Session


def test_setting_an_attribute_tells_new_and_old(calibrated):
    session, heard = Session(calibrated, "scan"), []
    session.events.position.connect(lambda *values: heard.append(values))
    session.events.selection.connect(lambda *values: heard.append(values))
    session.position = (3, 4)
    session.position = (3, 4)
    assert heard == [((3, 4), (0, 0))]
    chosen = np.zeros((16, 16), bool)
    session.selection = chosen
    session.selection = chosen
    assert len(heard) == 2
    session.selection = chosen.copy()
    assert len(heard) == 3


def test_a_scan_is_open_as_long_as_it_has_a_layer(make_napari_viewer, calibrated, open_in):
    viewer = make_napari_viewer()
    sessions, heard = sessions_of(viewer), []
    sessions.added.connect(lambda session: heard.append(("added", session)))
    sessions.removed.connect(lambda session: heard.append(("removed", session)))
    session = open_in(viewer, calibrated)
    labels = viewer.add_labels(np.zeros((16, 16), int), **scan_kwargs(session))
    assert heard == [("added", session)]
    assert sessions.layers_of(session) == list(viewer.layers)
    viewer.layers.remove(viewer.layers[0])
    assert list(sessions) == [session]
    assert not session.closed
    viewer.layers.remove(labels)
    assert heard == [("added", session), ("removed", session)]
    assert session.closed
    assert not len(sessions)
    assert sessions.active is None


def test_the_active_scan_is_that_of_the_layer_selected_last(make_napari_viewer, calibrated, counts, open_in):
    viewer = make_napari_viewer()
    first, second = open_in(viewer, calibrated), open_in(viewer, counts)
    sessions, heard = sessions_of(viewer), []
    sessions.active_changed.connect(heard.append)
    assert (first.name, second.name) == ("scan", "scan [2]")
    assert sessions.active is second
    viewer.layers.selection.active = viewer.layers[0]
    assert sessions.active is first
    viewer.add_points(np.zeros((1, 2)))
    assert sessions.active is first
    viewer.layers.remove(viewer.layers[0])
    assert sessions.active is second
    assert heard == [first, second]


def test_layers_that_were_there_before_are_taken_up(make_napari_viewer, calibrated):
    viewer, session = make_napari_viewer(), Session(calibrated, "early")
    viewer.add_image(np.zeros((16, 16)), **scan_kwargs(session))
    assert list(sessions_of(viewer)) == [session]
    assert sessions_of(viewer).active is session


def test_proxies_of_a_viewer_are_the_viewer(make_napari_viewer):
    from napari.utils._proxies import PublicOnlyProxy

    viewer = make_napari_viewer()
    assert sessions_of(PublicOnlyProxy(viewer)) is sessions_of(viewer)
    assert sessions_of(PublicOnlyProxy(viewer)).viewer is viewer


def test_a_duplicated_layer_shows_the_same_scan(make_napari_viewer, calibrated, open_in):
    viewer = make_napari_viewer()
    session = open_in(viewer, calibrated)
    assert copy.deepcopy(viewer.layers[0].metadata)[SESSION_KEY] is session


def test_layers_of_others_belong_to_no_scan(make_napari_viewer):
    viewer = make_napari_viewer()
    layer = viewer.add_image(np.zeros((4, 4)), metadata={SESSION_KEY: "something else"})
    assert Sessions.of_layer(layer) is None
    assert Sessions.of_layer(None) is None


def test_closing_the_viewer_closes_its_scans_and_frees_them(make_napari_viewer, calibrated, open_in):
    viewer = make_napari_viewer()
    session = open_in(viewer, calibrated)
    viewer.close()
    assert session.closed
    assert not len(sessions_of(viewer))
    memory = weakref.ref(session)
    del session
    gc.collect()
    assert memory() is None


def test_the_model_needs_no_qt_no_napari_and_no_torch():
    code = """
import importlib, pkgutil, sys
import napari_latentstem.layers.sessions, napari_latentstem.model as model
for module in pkgutil.iter_modules(model.__path__):
    if module.name != "training_callback":
        importlib.import_module(f"{model.__name__}.{module.name}")
print(*{name.partition(".")[0] for name in sys.modules})
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "psygnal" in run.stdout.split()
    assert not {"qtpy", "PySide6", "PyQt6", "napari", "torch", "vispy"} & set(run.stdout.split())
