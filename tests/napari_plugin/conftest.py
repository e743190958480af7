"""What the tests of the panel share; they are left out, and that is said, where there is no napari or no display."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import latentstem

if TYPE_CHECKING:
    from napari_latentstem.model.session import Session


def _missing() -> str:
    """What these tests need and is not there."""
    names = ("napari", "qtpy", "pytestqt")
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed: pip install -e .[all,dev]"
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "no display: run them with make test, or under xvfb-run"
    return ""


if _missing():
    collect_ignore_glob = ["*/test_*.py"]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _missing():
        terminalreporter.write_line(f"The tests of the napari panel were left out: {_missing()}")


@pytest.fixture
def qtbot(qtbot: Any) -> Any:
    """pytest-qt's, with more time: on a busy machine, what is waited for may take longer than five seconds."""
    wait_until = qtbot.waitUntil
    qtbot.waitUntil = lambda callback, *, timeout=30_000: wait_until(callback, timeout=timeout)
    return qtbot


@pytest.fixture
def counts() -> np.ndarray:
    """Counts (7, 5, 32, 24)."""
    return latentstem.simulate((7, 5), (32, 24), dose=400, n_grains=2).counts


@pytest.fixture
def calibrated() -> latentstem.Scan:
    """A scan of 16 x 16 positions, 2 nm apart, of 32 x 32 pixels in 1/angstrom."""
    return latentstem.as_scan(latentstem.simulate((16, 16), (32, 32), dose=400, n_grains=3))


@pytest.fixture
def open_in() -> Callable[..., Session]:
    """Opens data in a viewer as the panel's reader does: ``open_in(viewer, data, name="scan")``."""
    from napari_latentstem.layers.reader import open_session
    from napari_latentstem.layers.scan_layers import virtual_image_kwargs
    from napari_latentstem.layers.sessions import sessions_of

    def opened(viewer: Any, data: Any, name: str = "scan") -> Session:
        sessions = sessions_of(viewer)
        session = open_session(lambda: latentstem.as_scan(data), name)
        viewer.add_image(**virtual_image_kwargs(session))
        assert session in list(sessions)
        return session

    return opened


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any]) -> Any:
    """A viewer of napari."""
    return make_napari_viewer()


@pytest.fixture
def session(viewer: Any, open_in: Callable[..., Session], calibrated: latentstem.Scan) -> Session:
    """The calibrated scan, open in the viewer."""
    return open_in(viewer, calibrated)


@pytest.fixture
def latents(calibrated: latentstem.Scan) -> latentstem.Embedding:
    """Latents (16, 16, 4): a ramp of size 1, noise of size 10, a constant, a ramp of size 3; one position is out."""
    y, x = np.mgrid[:16, :16] / 15
    noise = np.random.default_rng(0).uniform(0, 10, (16, 16))
    maps = np.stack([y, noise, np.full((16, 16), 2.0), 3 * x], axis=-1).astype(np.float32)
    maps[5, 6] = np.nan
    return latentstem.Embedding(maps, calibrated.axes[:2])
