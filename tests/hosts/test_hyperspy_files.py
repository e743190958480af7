"""Reconstructions in files of HyperSpy: any file name, and all metadata."""

from __future__ import annotations

import hyperspy.api as hs
import numpy as np
import pytest

from helpers import train


@pytest.fixture(scope="session")
def model(counts):
    return train(counts, epochs=1)


@pytest.fixture
def signal(counts):
    signal = hs.signals.Signal2D(counts.copy())
    for axis, name in zip(signal.axes_manager._axes, ("y", "x", "ky", "kx"), strict=True):
        axis.name, axis.scale, axis.units = name, 0.5, "nm" if len(name) == 1 else "1/nm"
    return signal


@pytest.mark.parametrize("suffix", [".hspy", ".zspy"])
def test_a_file_name_is_not_a_pattern(signal, model, tmp_path, suffix):
    other = signal.inav[:, :4]
    other.reconstruct(model, out=tmp_path / f"clean1{suffix}")
    written = signal.reconstruct(model, out=tmp_path / f"clean[1]{suffix}")
    assert written.data.shape == signal.data.shape
    np.testing.assert_allclose(written.data.compute(), signal.reconstruct(model).data, rtol=1e-4)


def with_array(signal):
    signal.original_metadata.add_dictionary({"header": {"delta": np.linspace(0.0, 1.0, 5)}})


def with_marker(signal):
    points = hs.plot.markers.Points(offsets=np.array([[3.0, 4.0], [5.0, 6.0]]))
    signal.add_marker(points, permanent=True, plot_marker=False)


def with_image(signal):
    signal.metadata.set_item("Acquisition.survey", hs.signals.Signal2D(np.ones((5, 5))))


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("suffix", [".hspy", ".zspy"])
@pytest.mark.parametrize("change", [with_array, with_marker, with_image])
def test_metadata_that_hold_arrays(signal, model, tmp_path, change, suffix, lazy):
    change(signal)
    signal = signal.as_lazy() if lazy else signal
    written = signal.reconstruct(model, out=tmp_path / f"clean{suffix}")
    np.testing.assert_allclose(written.data.compute(), np.asarray(signal.reconstruct(model).data), rtol=1e-4)
    assert written.axes_manager.as_dictionary() == signal.axes_manager.as_dictionary()
    if change is with_array:
        np.testing.assert_array_equal(written.original_metadata.header.delta, np.linspace(0.0, 1.0, 5))
    if change is with_marker:
        assert "Markers" in written.metadata
    if change is with_image:
        np.testing.assert_array_equal(written.metadata.Acquisition.survey.data, 1)
