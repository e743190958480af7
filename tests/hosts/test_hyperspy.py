"""HyperSpy signals become scans, and get their results back as signals."""

from __future__ import annotations

import subprocess
import sys

import dask
import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import latentstem
from latentstem.errors import (
    ArgumentError,
    DataTypeError,
    MaskError,
    ModelMismatchError,
    ScanDimensionError,
    ScanShapeError,
    UnsupportedDataError,
)
from latentstem.hosts.hyperspy_signals import scan_from_signal
from latentstem.hosts.latent_maps import LatentMaps, LazyLatentMaps
from latentstem.scan.scan import Axis

AXES = (
    Axis("y", 7, 0.5, 1.0, "nm"),
    Axis("x", 5, 0.25, -2.0, "nm"),
    Axis("ky", 32, 0.1, -1.6, "1/angstrom"),
    Axis("kx", 24, 0.2, -2.4, "1/angstrom"),
)


def calibrated(data, axes=AXES):
    signal = hs.signals.Signal2D(data, axes=[axis.as_dict() for axis in axes])
    signal.metadata.General.title = "a scan"
    return signal


@pytest.fixture
def signal(counts):
    return calibrated(counts)


@pytest.fixture
def lazy(counts):
    signal = calibrated(da.from_array(counts, chunks=(3, 2, 16, 24))).as_lazy()
    assert signal._lazy
    return signal


def same_numbers(actual, expected):
    """Equal to rounding: patterns in chunks go through the network in another order than those in memory."""
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def mask_of(*positions):
    mask = np.zeros((7, 5), bool)
    mask[positions] = True
    return mask


# ---- signal to scan


@pytest.mark.parametrize("kind", ["signal", "lazy"])
def test_scan_has_the_patterns_and_the_calibration(kind, counts, request):
    scan = scan_from_signal(request.getfixturevalue(kind))
    assert scan.scan_shape == (7, 5)
    assert scan.pattern_shape == (32, 24)
    assert scan.axes == AXES
    assert (scan.name, scan.dtype) == ("a scan", np.uint16)
    np.testing.assert_array_equal(scan.read([34, 0, 6]), counts[[6, 0, 1], [4, 0, 1]])


def test_uncalibrated_axes_get_default_names_and_no_units(counts):
    scan = latentstem.as_scan(hs.signals.Signal2D(counts))
    assert [axis.name for axis in scan.axes] == ["y", "x", "ky", "kx"]
    assert {(axis.scale, axis.offset, axis.units) for axis in scan.axes} == {(1.0, 0.0, "")}
    assert scan.name == "scan"


def test_units_are_plain_strings(signal):
    signal.axes_manager[0].units = "µm"
    signal.axes_manager[2].units = "$A^{-1}$"
    assert [axis.units for axis in scan_from_signal(signal).axes] == ["nm", "um", "1/angstrom", "1/angstrom"]


@settings(max_examples=25, deadline=None)
@given(
    order=st.permutations(range(4)),
    scales=st.lists(st.floats(0.01, 100), min_size=4, max_size=4, unique=True),
    dtype=st.sampled_from(["u1", ">u2", "<i4", "f4", ">f8"]),
)
def test_axes_follow_the_data_through_transposing(order, scales, dtype):
    shape = (9, 11, 13, 8)
    data = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    axes = [Axis(f"a{i}", n, scale) for i, (n, scale) in enumerate(zip(shape, scales, strict=True))]
    signal = calibrated(data, axes)
    new = [signal.axes_manager._axes[i] for i in order]
    signal = signal.transpose(navigation_axes=new[1::-1], signal_axes=new[:1:-1])
    scan = scan_from_signal(signal)
    assert list(scan.axes) == [axes[i] for i in order]
    n = scan.n_positions
    expected = data.transpose(order).reshape(n, *scan.pattern_shape)
    np.testing.assert_array_equal(scan.read(np.arange(n)), expected)


def test_pyxem_signals_and_their_lazy_twins(counts):
    signals = pytest.importorskip("pyxem.signals")
    for signal in (signals.ElectronDiffraction2D(counts), signals.Diffraction2D(counts).as_lazy()):
        scan = scan_from_signal(signal)
        np.testing.assert_array_equal(scan.read([34]), counts[6:, 4])


def test_one_navigation_axis_with_scan_shape(counts):
    stack = calibrated(counts.reshape(35, 32, 24), [Axis("time", 35, 0.1, 0, "s"), *AXES[2:]])
    for signal in (stack, stack.as_lazy()):
        scan = scan_from_signal(signal, (7, 5))
        assert scan.axes == (Axis("y", 7), Axis("x", 5), *AXES[2:])
        np.testing.assert_array_equal(scan.read([33]), counts[6:, 3])
    with pytest.raises(ScanShapeError, match="expected 7 x 6 = 42 patterns; received 35"):
        scan_from_signal(stack, (7, 6))


def test_scan_shape_that_contradicts_two_navigation_axes(signal):
    with pytest.raises(ScanShapeError, match=r"expected \(7, 5\).*received \(5, 7\)"):
        scan_from_signal(signal, (5, 7))


# ---- what is refused, and whether the advice works


def refused(signal, match):
    with pytest.raises(ScanDimensionError, match=match) as caught:
        latentstem.as_scan(signal)
    return caught.value


@pytest.mark.parametrize(
    ("make", "axes"),
    [
        (hs.signals.BaseSignal, "0 navigation and 4 signal axes"),
        (hs.signals.Signal1D, "3 navigation and 1 signal axes"),
        (lambda data: hs.signals.BaseSignal(data).T, "4 navigation and 0 signal axes"),
    ],
)
def test_four_dimensions_divided_otherwise(make, axes, counts):
    signal = make(counts)
    error = refused(signal, axes)
    assert "signal.transpose(signal_axes=2)" in error.advice
    scan = latentstem.as_scan(signal.transpose(signal_axes=2))
    np.testing.assert_array_equal(scan.read([34]), counts[6:, 4])


def test_one_navigation_axis_without_scan_shape(counts):
    signal = hs.signals.Signal2D(counts.reshape(35, 32, 24))
    error = refused(signal, "1 navigation and 2 signal axes")
    assert "Give scan_shape=(Ny, Nx)" in error.advice
    assert "hs.signals.Signal2D(signal.data.reshape(Ny, Nx, H, W))" in error.advice


def test_three_dimensions_divided_otherwise(counts):
    signal = hs.signals.BaseSignal(counts.reshape(35, 32, 24))
    error = refused(signal, "0 navigation and 3 signal axes")
    assert error.advice.index("transpose(signal_axes=2)") < error.advice.index("scan_shape=(Ny, Nx)")
    assert latentstem.as_scan(signal.transpose(signal_axes=2), (7, 5)).scan_shape == (7, 5)


def test_spectra_and_profiles_are_told_as_such(counts, tmp_path):
    signal = hs.signals.Signal1D(counts[:, :, 0])
    signal.save(tmp_path / "spectra.hspy")
    for data in (signal, signal.as_lazy(), tmp_path / "spectra.hspy"):
        with pytest.raises(ScanDimensionError, match="2 navigation and 1 signal axes") as caught:
            latentstem.as_scan(data)
        assert "spectra or profiles, not diffraction patterns" in caught.value.advice
        assert "transpose" not in caught.value.advice


def test_an_unfolded_signal_is_to_be_folded(signal):
    expected = latentstem.as_scan(signal).read([3])
    signal.unfold()
    assert "signal.fold()" in refused(signal, "navigation").advice
    signal.fold()
    np.testing.assert_array_equal(latentstem.as_scan(signal).read([3]), expected)


def test_units_that_say_that_scan_and_detector_are_swapped(tmp_path):
    signal = calibrated(np.random.default_rng(0).poisson(3, (9, 10, 32, 24)))
    swapped = signal.transpose()
    swapped.save(tmp_path / "swapped.hspy")
    for data in (swapped, swapped.as_lazy(), tmp_path / "swapped.hspy"):
        with pytest.raises(ScanDimensionError, match="scan and detector are swapped") as caught:
            latentstem.as_scan(data)
        assert "scan axes in 1/angstrom, diffraction axes in nm" in caught.value.received
        assert "signal.transpose()" in caught.value.advice
    np.testing.assert_array_equal(
        latentstem.as_scan(swapped.transpose()).read([3]), latentstem.as_scan(signal).read([3])
    )


@pytest.mark.parametrize(
    ("scan", "pattern"), [("nm", "mrad"), ("", "1/nm"), ("1/nm", "1/nm"), ("", "um"), ("um", ""), ("deg", "")]
)
def test_units_that_are_no_evidence(signal, scan, pattern):
    for axis in signal.axes_manager.navigation_axes:
        axis.units = scan
    for axis in signal.axes_manager.signal_axes:
        axis.units = pattern
    assert latentstem.as_scan(signal).scan_shape == (7, 5)


def test_a_series_of_series(counts):
    signal = hs.signals.Signal2D(np.stack([np.stack([counts, counts + 1])] * 2))
    error = refused(signal, "4 navigation and 2 signal axes")
    assert "signal.inav[:, :, 0, 0]" in error.advice
    np.testing.assert_array_equal(latentstem.as_scan(signal.inav[:, :, 0, 0]).read([34]), counts[6:, 4])


def test_an_image(counts):
    assert "give the whole scan" in refused(hs.signals.Signal2D(counts[0, 0]), "0 navigation").advice


def test_navigation_axes_that_are_not_first_in_the_array(signal):
    signal.axes_manager._axes[0].navigate = False
    signal.axes_manager._axes[2].navigate = True
    error = refused(signal, "not the first axes")
    assert "signal.transpose(navigation_axes=(0, 1), signal_axes=(2, 3))" in error.advice
    aligned = signal.transpose(navigation_axes=(0, 1), signal_axes=(2, 3))
    with pytest.raises(ValueError, match="too small"):  # the 7 x 24 patterns of a 5 x 32 scan, by now
        latentstem.as_scan(aligned)


def test_complex_and_ragged_signals(counts, tmp_path):
    with pytest.raises(DataTypeError, match=r"complex128\. Patterns are intensities"):
        latentstem.as_scan(hs.signals.ComplexSignal2D(counts.astype(complex)))
    ragged = np.empty((7, 5), dtype=object)
    for i in np.ndindex(7, 5):
        ragged[i] = np.zeros(3 + i[0])
    signal = hs.signals.BaseSignal(ragged, ragged=True)
    for suffix in (".hspy", ".zspy"):
        signal.save(tmp_path / f"peaks{suffix}")
    for data in (signal, tmp_path / "peaks.hspy", tmp_path / "peaks.zspy"):
        with pytest.raises(UnsupportedDataError, match="ragged signal: a list of peaks or vectors"):
            latentstem.as_scan(data)


def test_non_uniform_axis(signal):
    signal.axes_manager[0].convert_to_non_uniform_axis()
    with pytest.raises(UnsupportedDataError, match="received non-uniform x"):
        latentstem.as_scan(signal)


def test_methods_of_other_signals_say_what_is_wrong(model):
    spectra = hs.signals.Signal1D(np.zeros((7, 5, 20)))
    for call in (spectra.train_autoencoder, lambda: spectra.embed(model), lambda: spectra.reconstruct(model)):
        with pytest.raises(ScanDimensionError, match="2 navigation and 1 signal axes"):
            call()


# ---- training


def test_training_through_a_signal_is_training_on_its_array(signal, lazy, model, embedding):
    for kind in (signal, lazy):
        trained = kind.train_autoencoder(epochs=1, latent_dim=3, progress=False)
        assert trained.scan_signature["name"] == "a scan"
        same_numbers(trained.embed(kind).maps, embedding.maps)


def test_masks_of_a_signal(signal, counts, embedding):
    navigation_mask, signal_mask = mask_of([0, 6], [1, 4]), np.zeros((32, 24), bool)
    signal_mask[:4] = True
    arguments = {"epochs": 1, "latent_dim": 3, "progress": False}
    expected = latentstem.train_autoencoder(
        counts, scan_mask=navigation_mask, pattern_mask=signal_mask, **arguments
    ).embed(counts)
    trained = signal.train_autoencoder(
        navigation_mask=navigation_mask, signal_mask=hs.signals.Signal2D(signal_mask).as_lazy(), **arguments
    )
    np.testing.assert_array_equal(trained.embed(counts).maps, expected.maps)
    assert not np.array_equal(expected.maps, embedding.maps)


def test_masks_under_their_other_names(signal, model):
    with pytest.raises(ArgumentError, match=r"received 'scan_mask'\. Did you mean 'navigation_mask'"):
        signal.train_autoencoder(scan_mask=mask_of(0, 0))
    with pytest.raises(ArgumentError, match=r"received 'pattern_mask'\. Did you mean 'signal_mask'"):
        signal.train_autoencoder(pattern_mask=np.zeros((32, 24), bool))
    for method in (signal.embed, signal.reconstruct):
        with pytest.raises(ArgumentError, match=r"received 'scan_mask'\. Did you mean 'navigation_mask'"):
            method(model, scan_mask=mask_of(0, 0))
        with pytest.raises(
            ArgumentError, match=r"scan_shape, navigation_mask, .*progress.*'signal_mask'. See"
        ):
            method(model, signal_mask=None)


def test_mask_of_the_wrong_shape_states_both(signal, model):
    with pytest.raises(MaskError, match=r"shape \(7, 5\); received bool \(5, 7\)"):
        signal.embed(model, navigation_mask=mask_of(0, 0).T)


# ---- latent maps


@pytest.mark.parametrize("kind", ["signal", "lazy"])
def test_latent_maps(kind, model, embedding, request):
    signal = request.getfixturevalue(kind)
    maps = signal.embed(model)
    assert type(maps) is LatentMaps
    same_numbers(maps.data, np.moveaxis(embedding.maps, -1, 0))
    latent, x, y = (maps.axes_manager[i] for i in range(3))
    assert (latent.name, latent.size, latent.navigate) == ("latent", 3, True)
    for axis, expected in ((y, AXES[0]), (x, AXES[1])):
        assert not axis.navigate
        assert (axis.name, axis.size, axis.scale, axis.offset, axis.units) == (*expected.as_dict().values(),)
    assert maps.metadata.General.title == "Latent maps of a scan"


def test_latent_maps_keep_the_units_as_the_signal_writes_them(signal, model):
    signal.axes_manager[0].units = "µm"
    assert signal.embed(model).axes_manager["x"].units == "µm"
    uncalibrated = hs.signals.Signal2D(signal.data)
    assert uncalibrated.embed(model).axes_manager[1].units == uncalibrated.axes_manager[0].units


def test_latent_maps_of_a_stack(counts, model, embedding):
    stack = hs.signals.Signal2D(counts.reshape(35, 32, 24))
    maps = stack.embed(model, scan_shape=(7, 5))
    np.testing.assert_array_equal(maps.data, np.moveaxis(embedding.maps, -1, 0))


def test_excluded_positions_are_nan(signal, lazy, model, counts):
    mask = mask_of(2, 3)
    expected = latentstem.embed(counts, model, scan_mask=mask).maps
    for kind in (signal, lazy):
        data = kind.embed(model, navigation_mask=mask).data
        np.testing.assert_array_equal(np.isnan(data), np.broadcast_to(mask, data.shape))
        same_numbers(data, np.moveaxis(expected, -1, 0))


@pytest.mark.parametrize("extension", ["hspy", "zspy"])
@pytest.mark.filterwarnings("ignore:The NestedDirectoryStore is deprecated:FutureWarning")
def test_latent_maps_survive_their_file(extension, signal, model, tmp_path):
    maps = signal.embed(model)
    maps.save(tmp_path / f"maps.{extension}")
    again = hs.load(tmp_path / f"maps.{extension}")
    lazily = hs.load(tmp_path / f"maps.{extension}", lazy=True)
    assert (type(again), type(lazily)) == (LatentMaps, LazyLatentMaps)
    for loaded in (again, lazily):
        np.testing.assert_array_equal(loaded.data, maps.data)
        assert loaded.axes_manager.as_dictionary() == maps.axes_manager.as_dictionary()
        assert loaded.provenance == maps.provenance
        np.testing.assert_array_equal(loaded.as_loadings(), maps.as_loadings())
    assert again.provenance["config"]["latent_dim"] == 3
    assert again.provenance["applied_to"]["name"] == "a scan"


@pytest.mark.filterwarnings("ignore:The NestedDirectoryStore is deprecated:FutureWarning")
def test_a_fresh_process_finds_the_class(signal, model, tmp_path):
    signal.embed(model).save(tmp_path / "maps.hspy")
    code = f"import hyperspy.api as hs; print(type(hs.load({str(tmp_path / 'maps.hspy')!r})).__name__)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert run.stdout.strip() == "LatentMaps"


def test_loadings_are_row_major(signal, model, embedding):
    np.testing.assert_array_equal(signal.embed(model).as_loadings(), embedding.maps.reshape(35, 3))


def test_clustering_as_the_class_documents_it(signal, model):
    maps = signal.embed(model)
    signal.cluster_analysis(cluster_source=maps.T, n_clusters=2, random_state=0, n_init=1)
    labels = signal.get_cluster_labels(merged=True).data
    assert labels.shape == (7, 5)
    assert set(np.unique(labels)) == {0, 1}
    assert maps.data.shape == (3, 7, 5)


def test_slicing_keeps_the_class_and_the_calibration(signal, model):
    third = signal.embed(model).inav[2].isig[1:3, :]
    assert type(third) is LatentMaps
    assert (third.axes_manager["x"].offset, third.axes_manager["x"].scale) == (-1.75, 0.25)


# ---- reconstruction


def test_reconstruction_keeps_class_axes_and_metadata(signal, model, reconstruction):
    signal.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200)
    signal.original_metadata.set_item("camera", "a detector")
    clean = signal.reconstruct(model)
    assert type(clean) is type(signal)
    assert clean.data.dtype == np.float32
    np.testing.assert_array_equal(clean.data, reconstruction)
    assert clean.axes_manager.as_dictionary() == signal.axes_manager.as_dictionary()
    assert clean.metadata.as_dictionary() == signal.metadata.as_dictionary()
    assert clean.original_metadata.as_dictionary() == signal.original_metadata.as_dictionary()
    clean.metadata.General.title, clean.axes_manager[0].scale = "changed", 9.0
    assert (signal.metadata.General.title, signal.axes_manager[0].scale) == ("a scan", 0.25)


def test_reconstruction_of_pyxem_signals(counts, model, reconstruction):
    signals = pytest.importorskip("pyxem.signals")
    signal = signals.ElectronDiffraction2D(counts)
    assert type(signal.reconstruct(model)) is signals.ElectronDiffraction2D
    clean = signal.as_lazy().reconstruct(model)
    assert type(clean) is signals.LazyElectronDiffraction2D
    same_numbers(clean.data.compute(), reconstruction)


@pytest.mark.parametrize("block", ["100 KiB", "20 KiB", "4 KiB"])
def test_lazy_reconstruction_is_the_eager_one(block, lazy, model, reconstruction):
    with dask.config.set({"array.chunk-size": block}):
        clean = lazy.reconstruct(model)
    assert type(clean) is type(lazy)
    assert isinstance(clean.data, da.Array)
    assert clean.data.dtype == np.float32
    assert (clean.data.npartitions > 1) == (block != "100 KiB")
    same_numbers(clean.data.compute(), reconstruction)
    assert lazy.data.chunks[2] == (16, 16)


def test_lazy_reconstruction_waits_until_it_is_computed(counts, model):
    read = []

    def block(part):
        read.append(part.shape)
        return part

    data = da.from_array(counts, chunks=(1, 5, 32, 24)).map_blocks(block, dtype=counts.dtype, meta=counts[:0])
    clean = hs.signals.Signal2D(data).as_lazy().reconstruct(model)
    assert type(clean.data) is da.Array
    before = len(read)
    clean.compute(show_progressbar=False)
    assert len(read) == before + 7


@pytest.mark.parametrize("block", ["100 KiB", "20 KiB", "4 KiB"])
def test_lazy_reconstruction_with_a_mask(block, signal, lazy, model):
    mask = mask_of(slice(0, 3)) | mask_of(5, 2)
    eager = signal.reconstruct(model, navigation_mask=hs.signals.BaseSignal(mask).T).data
    with dask.config.set({"array.chunk-size": block}):
        clean = lazy.reconstruct(model, navigation_mask=mask).data.compute()
    np.testing.assert_array_equal(np.isnan(clean[..., 0, 0]), mask)
    same_numbers(clean, eager)


def test_reconstruction_of_a_stack(counts, model, reconstruction):
    stack = hs.signals.Signal2D(counts.reshape(35, 32, 24))
    np.testing.assert_array_equal(
        stack.reconstruct(model, scan_shape=(7, 5)).data, reconstruction.reshape(35, 32, 24)
    )
    lazily = stack.as_lazy().reconstruct(model, scan_shape=(7, 5)).data.compute()
    same_numbers(lazily, reconstruction.reshape(35, 32, 24))


def test_model_from_a_file(signal, lazy, model, embedding, reconstruction, tmp_path):
    path = model.save(tmp_path / "ae.ckpt")
    np.testing.assert_array_equal(signal.embed(path).as_loadings(), embedding.maps.reshape(35, 3))
    np.testing.assert_array_equal(signal.reconstruct(str(path)).data, reconstruction)
    same_numbers(lazy.reconstruct(path).data.compute(), reconstruction)


@pytest.mark.parametrize("kind", ["signal", "lazy"])
def test_patterns_of_another_shape_are_refused(kind, model, request):
    cut = request.getfixturevalue(kind).isig[:20, :]
    for method in (cut.embed, cut.reconstruct):
        with pytest.raises(ModelMismatchError, match=r"32 x 24 pixels.*received 32 x 20 pixels"):
            method(model)


def test_the_signal_is_left_as_it_was(signal, model, counts):
    before = (
        signal.metadata.as_dictionary(),
        signal.axes_manager.as_dictionary(),
        dict(signal.learning_results.__dict__),
    )
    signal.train_autoencoder(epochs=1, latent_dim=2, progress=False)
    signal.embed(model)
    signal.reconstruct(model)
    assert signal.data is counts
    after = (
        signal.metadata.as_dictionary(),
        signal.axes_manager.as_dictionary(),
        dict(signal.learning_results.__dict__),
    )
    assert before == after
