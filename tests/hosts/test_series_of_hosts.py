"""Series of scans of the hosts: signals with three navigation axes, lists of signals, datacubes and files."""

from __future__ import annotations

import hyperspy.api as hs
import numpy as np
import py4DSTEM
import pytest

import latentstem
from latentstem import as_scan
from latentstem.errors import MaskError
from latentstem.scan.scan import Axis

AXES = (
    Axis("time", 3, 2.0, 10.0, "s"),
    Axis("y", 7, 0.5, 1.0, "nm"),
    Axis("x", 5, 0.25, -2.0, "nm"),
    Axis("ky", 32, 0.1, -1.6, "1/angstrom"),
    Axis("kx", 24, 0.2, -2.4, "1/angstrom"),
)


@pytest.fixture(scope="module")
def movie(counts):
    """Three scans, the last two brighter."""
    movie = np.stack([counts, counts + 1, 2 * counts])
    movie.flags.writeable = False
    return movie


def signal_of(movie):
    signal = hs.signals.Signal2D(movie, axes=[axis.as_dict() for axis in AXES])
    signal.metadata.General.title = "a movie"
    return signal


@pytest.fixture(params=["eager", "lazy"])
def signal(movie, request):
    signal = signal_of(movie)
    if request.param == "eager":
        return signal
    lazy = signal.as_lazy()
    lazy.data = lazy.data.rechunk((2, 4, 3, 16, 24))
    return lazy


def navigation(signal):
    return [
        (axis.name, axis.size, axis.scale, axis.offset) for axis in signal.axes_manager.navigation_axes[::-1]
    ]


def test_scans_of_a_signal(signal, movie):
    whole = as_scan(signal)
    assert whole.series_axis == AXES[0]
    assert [scan.name for scan in whole.scans] == ["a movie_0", "a movie_1", "a movie_2"]
    for number, scan in enumerate(whole.scans):
        assert scan.axes == AXES[1:]
        np.testing.assert_array_equal(scan.read(np.arange(35)).reshape(7, 5, 32, 24), movie[number])


def test_a_signal_trains_embeds_and_is_reconstructed(signal, movie, tmp_path):
    mask = np.zeros((3, 7, 5), bool)
    mask[1, 2, 3] = True
    model = signal.train_autoencoder(
        epochs=1, latent_dim=3, progress=False, navigation_mask=hs.signals.BaseSignal(mask).T
    )
    want = [model.embed(scan).maps for scan in movie]

    maps = signal.embed(model)
    assert maps.data.shape == (3, 3, 7, 5)
    assert maps.metadata.Signal.signal_type == "latent_maps"
    assert [axis.name for axis in maps.axes_manager.navigation_axes] == ["latent", "time"]
    assert navigation(maps)[0] == ("time", 3, 2.0, 10.0)
    assert [axis.scale for axis in maps.axes_manager.signal_axes] == [0.25, 0.5]
    for number in range(3):
        np.testing.assert_allclose(np.moveaxis(maps.data[number], 0, -1), want[number], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(maps.as_loadings()[35 + 2 * 5 + 3], maps.data[1, :, 2, 3])
    assert [part["name"] for part in maps.provenance["applied_to"]] == [f"a movie_{n}" for n in range(3)]
    maps.save(tmp_path / "maps.hspy")
    np.testing.assert_array_equal(hs.load(tmp_path / "maps.hspy").data, maps.data)

    clean = signal.reconstruct(model, navigation_mask=[None, mask[1], None])
    assert type(clean) is type(signal)
    assert navigation(clean) == navigation(signal)
    if clean._lazy:
        clean.compute(progressbar=False)
    assert np.isnan(clean.data[1, 2, 3]).all()
    np.testing.assert_allclose(clean.data[2], model.reconstruct(movie[2]), rtol=1e-4, atol=1e-4)
    with pytest.raises(MaskError, match=r"navigation_mask does not fit the series.*list of 3"):
        signal.reconstruct(model, navigation_mask=mask[0])


@pytest.mark.parametrize("suffix", [".hspy", ".zspy"])
def test_files_of_hyperspy(movie, tmp_path, suffix):
    path = tmp_path / f"movie{suffix}"
    signal_of(movie).save(path)
    for data in (path, hs.load(path, lazy=True)):
        whole = as_scan(data)
        assert whole.series_axis == AXES[0]
        assert whole.scans[2].axes == AXES[1:]
        for number, scan in enumerate(whole.scans):
            np.testing.assert_array_equal(scan.read(np.arange(35)).reshape(7, 5, 32, 24), movie[number])


def test_several_files_loaded_with_hyperspy(movie, tmp_path):
    for number, scan in enumerate(movie[:2]):
        hs.signals.Signal2D(scan[: 7 - number]).save(tmp_path / f"part{number}.hspy")
    loaded = hs.load(str(tmp_path / "part*.hspy"), lazy=True)
    model = latentstem.train_autoencoder(loaded, epochs=1, latent_dim=3, progress=False)
    assert [e.maps.shape for e in latentstem.embed(loaded, model)] == [(7, 5, 3), (6, 5, 3)]


def test_datacubes(movie):
    cubes = [
        py4DSTEM.DataCube(movie[0].copy(), name="one"),
        py4DSTEM.DataCube(movie[2, :, :4].copy(), name="two"),
    ]
    model = latentstem.train_autoencoder(cubes, epochs=1, latent_dim=3, progress=False)
    assert [part["name"] for part in model.scan_signature["scans"]] == ["one", "two"]
    first, second = latentstem.embed(cubes, model)
    assert cubes[1].embed(model).data.shape == (3, 7, 4)
    np.testing.assert_array_equal(second.maps, np.moveaxis(cubes[1].embed(model).data, 0, -1))
    assert first.provenance["applied_to"]["name"] == "one"
