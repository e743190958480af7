"""Files of every kind give the patterns that were stored, or an error that says what to do."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import warnings
from dataclasses import replace

import dask
import h5py
import numpy as np
import pytest

import latentstem
from latentstem.errors import (
    DataTypeError,
    FileError,
    LatentSTEMError,
    PatternShapeError,
    ScanDimensionError,
    ScanShapeError,
    UnsupportedDataError,
)
from latentstem.io.files import scan_from_file
from latentstem.io.open import open_scan
from latentstem.io.pattern_files import write_patterns
from latentstem.scan.scan import Block, default_axes

SHAPE = (7, 5, 32, 24)
DATA = np.random.default_rng(0).integers(0, 99, SHAPE).astype(np.uint16)
STACK = DATA.reshape(35, 1, 32, 24)
EVERY = np.arange(35)


@pytest.fixture(autouse=True)
def quiet_hosts():
    """What HyperSpy, pyxem and py4DSTEM say while they read is theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def assert_reads(scan, expected=DATA):
    assert scan.scan_shape == expected.shape[:2]
    np.testing.assert_array_equal(
        scan.read(np.arange(scan.n_positions)), expected.reshape(-1, *expected.shape[2:])
    )


def assert_axes(scan, *expected):
    for axis, (name, scale, offset, units) in zip(scan.axes, expected, strict=True):
        assert (axis.name, axis.units) == (name, units)
        assert (axis.scale, axis.offset) == (pytest.approx(scale), pytest.approx(offset))


def hyperspy_signal(data=DATA):
    hs = pytest.importorskip("hyperspy.api")
    signal = hs.signals.Signal2D(data)
    for axis, scale, offset, units in zip(
        (*signal.axes_manager.navigation_axes[::-1], *signal.axes_manager.signal_axes[::-1]),
        (1.5, 2.5, 0.1, 0.2),
        (3.0, 4.0, -1.6, -2.4),
        ("nm", "nm", "A^-1", "1/Å"),
        strict=False,
    ):
        axis.name, axis.scale, axis.offset, axis.units = f"axis {scale}", scale, offset, units
    return signal


HYPERSPY_AXES = (
    ("axis 1.5", 1.5, 3.0, "nm"),
    ("axis 2.5", 2.5, 4.0, "nm"),
    ("axis 0.1", 0.1, -1.6, "1/angstrom"),
    ("axis 0.2", 0.2, -2.4, "1/angstrom"),
)


# numpy


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_is_memory_mapped(tmp_path, order):
    np.save(tmp_path / "scan.npy", np.array(DATA, order=order))
    scan = open_scan(tmp_path / "scan.npy")
    assert_reads(scan)
    assert scan.name == "scan"
    assert scan.metadata == {"path": str(tmp_path / "scan.npy")}
    assert not scan.source.array.flags.writeable
    assert len(pickle.dumps(scan.source)) < 2000


def test_npy_stack_as_string_path(tmp_path):
    np.save(tmp_path / "stack.npy", STACK)
    assert_reads(open_scan(str(tmp_path / "stack.npy"), (7, 5)))
    with pytest.raises(ScanShapeError, match="35 patterns fill"):
        open_scan(str(tmp_path / "stack.npy"))


@pytest.mark.parametrize(
    "arrays",
    [
        {"data": DATA, "mask": np.ones(SHAPE)},
        {"counts": DATA, "clean": np.ones(SHAPE)},
        {"anything": DATA, "labels": np.ones((7, 5)), "stack": np.ones((35, 9, 9))},
        {"only": DATA},
    ],
)
def test_npz_chooses_the_scan(tmp_path, arrays):
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    assert_reads(open_scan(tmp_path / "a.npz"))


@pytest.mark.parametrize("arrays", [{"a": DATA, "b": DATA}, {"a": np.ones((7, 5)), "b": np.ones(3)}, {}])
def test_npz_without_a_choice_names_the_arrays(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    shown = re.escape(", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "no array")
    with pytest.raises(FileError, match=f"{shown}.*Save the scan under the name data"):
        open_scan(tmp_path / "a.npz")


def test_npz_of_reconstructions_is_calibrated(tmp_path):
    (y, x, *detector), steps = default_axes(SHAPE), {"scale": 2.0, "offset": 1.0, "units": "nm"}
    scan = replace(open_scan(DATA), axes=(replace(y, **steps), replace(x, **steps), *detector))
    write_patterns([(Block(slice(0, SHAPE[0]), slice(0, SHAPE[1])), DATA)], scan, tmp_path / "a.npz")
    read = open_scan(tmp_path / "a.npz")
    assert_reads(read)
    assert read.axes == scan.axes


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_pickles_in_numpy_files_are_refused(tmp_path, suffix):
    bomb = np.empty(1, dtype=object)
    bomb[0] = Bomb()
    (np.save if suffix == ".npy" else np.savez)(tmp_path / f"a{suffix}", bomb)
    with pytest.raises(FileError, match=r"allow_pickle=False|Python objects in dtype"):
        open_scan(tmp_path / f"a{suffix}")


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


# torch


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize("legacy", [False, True])
def test_torch_files(tmp_path, suffix, legacy):
    torch = pytest.importorskip("torch")
    path = tmp_path / f"train_tensor{suffix}"
    torch.save(torch.tensor(STACK.astype(np.float32)), path, _use_new_zipfile_serialization=not legacy)
    assert_reads(open_scan(path, (7, 5)))
    with pytest.raises(ScanShapeError, match=r"35 patterns fill scan_shape=\(5, 7\), \(7, 5\)"):
        open_scan(path)


def test_torch_dicts(tmp_path):
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(DATA.astype(np.int32))
    torch.save({"patterns": tensor, "step": 3}, tmp_path / "a.pt")
    assert_reads(open_scan(tmp_path / "a.pt"))
    torch.save({"weight": torch.ones(3), "bias": torch.ones(3)}, tmp_path / "b.pt")
    with pytest.raises(FileError, match=r"weight \(3,\), bias \(3,\)"):
        open_scan(tmp_path / "b.pt")


def test_torch_pickles_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"data": Bomb()}, tmp_path / "a.pt")
    with pytest.raises(FileError, match="other pickled objects are refused; save the tensor alone"):
        open_scan(tmp_path / "a.pt")


# HDF5


def test_plain_hdf5_with_one_scan(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["deep/down/scan"] = DATA
        file["deep/labels"] = np.ones((7, 5))
        file["deep/small"] = np.ones((7, 5, 1, 8))
    scan = open_scan(tmp_path / "a.h5")
    assert_reads(scan)
    assert scan.source.array is not None


def test_hdf5_is_told_by_its_content(tmp_path):
    with h5py.File(tmp_path / "a.ndata1", "w") as file:
        file["data"] = DATA
    assert_reads(open_scan(tmp_path / "a.ndata1"))


def test_hdf5_stack(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("frames", data=STACK[:, 0], chunks=(4, 32, 24))
    assert_reads(open_scan(tmp_path / "a.h5", (7, 5)))
    with pytest.raises(ScanShapeError, match="35 patterns fill"):
        open_scan(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("datasets", "error", "message"),
    [
        (
            {"a": DATA, "b": DATA},
            FileError,
            r"several scans.*/a \(7, 5, 32, 24\), /b.*h5py.File\(.*\)\['/a'\]",
        ),
        ({"a": np.ones((7, 5))}, FileError, r"no scan in this HDF5 file.*with /a \(7, 5\)"),
        ({}, FileError, "no scan in this HDF5 file.*no dataset"),
        ({"a": DATA.astype(complex)}, DataTypeError, r"abs\(data\)"),
        ({"a": DATA[..., :4]}, PatternShapeError, "32 x 4"),
    ],
)
def test_hdf5_without_one_scan(tmp_path, datasets, error, message):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, array in datasets.items():
            file[name] = array
    with pytest.raises(error, match=message):
        open_scan(tmp_path / "a.h5")


def test_emd_dimension_vectors(tmp_path):
    with h5py.File(tmp_path / "a.emd", "w") as file:
        group = file.create_group("experiment")
        group["datacube"] = DATA
        for i, (n, name, units) in enumerate(
            zip(SHAPE, "abcd", ["[n_m]", "[n_m]", "[n_m^-1]", "[n_m^-1]"], strict=True)
        ):
            group[f"dim{i + 1}"] = -1.0 + 0.5 * (i + 1) * np.arange(n)
            group[f"dim{i + 1}"].attrs.update(name=np.bytes_(name), units=np.bytes_(units))
    scan = open_scan(tmp_path / "a.emd")
    expected = (("a", 0.5, -1, "nm"), ("b", 1, -1, "nm"), ("c", 1.5, -1, "1/nm"), ("d", 2, -1, "1/nm"))
    assert_axes(scan, *expected)
    with h5py.File(tmp_path / "a.emd") as file:
        assert open_scan(file["experiment/datacube"]).axes == scan.axes


def test_py4dstem_file_is_mapped_and_calibrated(tmp_path):
    py4dstem = pytest.importorskip("py4DSTEM")
    cube = py4dstem.DataCube(DATA, name="cube")
    cube.calibration.set_R_pixel_size(0.7)
    cube.calibration.set_R_pixel_units("nm")
    cube.calibration.set_Q_pixel_size(0.04)
    cube.calibration.set_Q_pixel_units("A^-1")
    py4dstem.save(str(tmp_path / "a.h5"), cube, mode="o")
    scan = open_scan(tmp_path / "a.h5")
    assert_reads(scan)
    assert scan.source.array is not None
    names = (
        ("Rx", 0.7, 0, "nm"),
        ("Ry", 0.7, 0, "nm"),
        ("Qx", 0.04, 0, "1/angstrom"),
        ("Qy", 0.04, 0, "1/angstrom"),
    )
    assert_axes(scan, *names)


@pytest.mark.parametrize("suffix", [".hspy", ".zspy"])
def test_hyperspy_files_are_read_in_place(tmp_path, suffix):
    signal = hyperspy_signal()
    signal.save(tmp_path / f"a{suffix}", chunks=(3, 2, 32, 24))
    scan = open_scan(tmp_path / f"a{suffix}")
    assert_reads(scan)
    assert_axes(scan, *HYPERSPY_AXES)
    assert scan.source.chunks == (3, 2)


@pytest.mark.parametrize("suffix", [".hspy", ".zspy"])
def test_hyperspy_files_with_one_scan_axis(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    hyperspy_signal(STACK[:, 0]).save(path)
    scan = open_scan(path, (7, 5))
    assert_reads(scan)
    assert [axis.units for axis in scan.axes][:2] == ["", ""]
    with pytest.raises(ScanDimensionError, match=r"1 navigation and 2 signal axes.*scan_shape=\(Ny, Nx\)"):
        open_scan(path)


@pytest.mark.parametrize("suffix", [".hspy", ".zspy"])
def test_hyperspy_files_with_four_scan_axes(tmp_path, suffix):
    hyperspy_signal(np.ones((2, 2, 3, 4, 9, 8))).save(tmp_path / f"a{suffix}")
    with pytest.raises(ScanDimensionError, match="4 navigation and 2 signal axes"):
        open_scan(tmp_path / f"a{suffix}")


def test_hyperspy_file_with_two_signals(tmp_path):
    signal = hyperspy_signal()
    signal.save(tmp_path / "a.hspy")
    with h5py.File(tmp_path / "a.hspy", "r+") as file:
        file.copy("Experiments/__unnamed__", "Experiments/second")
    with pytest.raises(FileError, match=r"several signals.*give one of the signals"):
        open_scan(tmp_path / "a.hspy")


def test_zarr_array_folder(tmp_path):
    zarr = pytest.importorskip("zarr")
    zarr.save(str(tmp_path / "a.zarr"), DATA)
    assert_reads(open_scan(tmp_path / "a.zarr"))


def test_files_in_place_need_no_host(tmp_path):
    hyperspy_signal().save(tmp_path / "a.hspy")
    code = (
        "import sys; from latentstem.io.open import open_scan; open_scan(sys.argv[1]);"
        "found = {'torch', 'hyperspy', 'rsciio', 'py4DSTEM', 'emdfile', 'dask'} & set(sys.modules);"
        "sys.exit(str(found) if found else 0)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.hspy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# DECTRIS


@pytest.fixture
def dectris(tmp_path):
    """A master file, two files of frames, and the microscope's file."""
    for i, part in enumerate((STACK[:20, 0], STACK[20:, 0]), start=1):
        with h5py.File(tmp_path / f"run_data_{i:06}.h5", "w") as file:
            file.create_dataset("entry/data/data", data=part, chunks=(1, 32, 24))
    with h5py.File(tmp_path / "run_master.h5", "w") as file:
        for i in (1, 2):
            file[f"entry/data/data_{i:06}"] = h5py.ExternalLink(f"run_data_{i:06}.h5", "entry/data/data")
        bad = np.zeros((32, 24), np.uint32)
        bad[3, 4] = 1
        file["entry/instrument/detector/detectorSpecific/pixel_mask"] = bad
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file.create_group("STEM Metadata").attrs.update(
            NumPixelsX="5", NumPixelsY="7", **{"Pixel Size": [0.3]}
        )
    return tmp_path / "run_master.h5"


def test_dectris_frames(dectris):
    scan = open_scan(dectris)
    assert_reads(scan)
    np.testing.assert_array_equal(scan.read(np.array([34, 20, 0, 19, 19])), STACK[[34, 20, 0, 19, 19], 0])
    np.testing.assert_array_equal(np.argwhere(scan.pattern_mask), [[3, 4]])
    assert_axes(scan, ("y", 0.3, 0, "nm"), ("x", 0.3, 0, "nm"), ("ky", 1, 0, ""), ("kx", 1, 0, ""))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(scan.source)).read(EVERY), STACK[:, 0])


def test_dectris_without_the_microscopes_file(dectris):
    dectris.with_name("run.h5").unlink()
    with pytest.raises(ScanShapeError, match="35 patterns fill"):
        open_scan(dectris)
    assert_reads(open_scan(dectris, (7, 5)))


def test_dectris_with_missing_frames(dectris):
    dectris.with_name("run_data_000002.h5").unlink()
    with pytest.raises(FileError, match=r"without run_data_000002.h5.*into the folder of the master file"):
        open_scan(dectris)


def test_dectris_with_different_frames(dectris):
    with h5py.File(dectris.with_name("run_data_000002.h5"), "w") as file:
        file["entry/data/data"] = STACK[20:, 0, :, :9]
    with pytest.raises(UnsupportedDataError, match="frames differ"):
        open_scan(dectris)


# What cannot be read


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.npy", b"", "which is empty"),
        ("empty.mib", b"", "which is empty"),
        ("damaged.npy", b"nonsense", "file cannot be read.*truncated or damaged"),
        ("damaged.npz", b"nonsense", "not a complete zip archive"),
        ("damaged.h5", b"nonsense", "HDF5 file cannot be opened.*truncated"),
        ("damaged.hspy", b"nonsense", "HDF5 file cannot be opened.*truncated"),
        ("damaged.pt", b"nonsense", "tensor file cannot be read"),
        ("damaged.blo", b"nonsense", "HyperSpy"),
        ("damaged.mib", b"nonsense", "HyperSpy.*py4DSTEM"),
        ("picture.unknown", b"nonsense", r"suffix '.unknown' are not known.*convert it to .hspy or .npy"),
        ("without_suffix", b"nonsense", "expected .npy, .npz"),
        ("scan.zip", b"PK", "an archive. Unpack it"),
        ("model.ckpt", b"PK", r"a model.*latentstem.load\(path\)"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError, match=message):
        open_scan(tmp_path / name)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".hspy", ".pt"])
def test_truncated_files(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, DATA)
    elif suffix == ".npz":
        np.savez(path, data=DATA)
    elif suffix == ".pt":
        torch = pytest.importorskip("torch")
        torch.save(torch.ones(SHAPE), path)
    elif suffix == ".hspy":
        hyperspy_signal().save(path)
    else:
        with h5py.File(path, "w") as file:
            file["data"] = DATA
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(FileError, match=r"truncated|tensor file cannot be read"):
        open_scan(path)


def test_damaged_chunk(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "data", data=DATA, chunks=(1, 5, 32, 24), compression="gzip", fletcher32=True
        )
        offset = dataset.id.get_chunk_info(3).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 40 : offset + 80] = bytes(40)
    path.write_bytes(content)
    scan = open_scan(path)
    with pytest.raises(FileError, match=r"patterns cannot be read.*may be damaged"):
        scan.read(np.array([15]))


def test_missing_files(tmp_path):
    np.save(tmp_path / "scan_a.npy", DATA)
    with pytest.raises(FileError, match=r"does not exist.*There are scan_a.npy in that folder"):
        open_scan(tmp_path / "scan_b.npy")
    with pytest.raises(FileError, match=r"does not exist. There is no folder"):
        open_scan(tmp_path / "nowhere" / "scan.npy")
    with pytest.raises(FileError, match=r"a folder. Give the data file inside"):
        open_scan(tmp_path)


@pytest.mark.parametrize("suffix", [".blo", ".mib"])
def test_missing_library(tmp_path, monkeypatch, suffix):
    for name in ("hyperspy", "hyperspy.api", "py4DSTEM"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / f"a{suffix}").write_bytes(b"content")
    with pytest.raises(FileError, match=r"pip install latentstem\[hyperspy\]"):
        open_scan(tmp_path / f"a{suffix}")


# Real files


@pytest.mark.parametrize("scan_shape", [(1, 8), (4, 2), (8, 1)])
def test_the_scan_shape_that_is_given_wins_over_the_header(shared_data, scan_shape):
    path = shared_data / "formats" / "mib_merlin" / "001_4x2_6bit.mib"
    scan, stack = latentstem.as_scan(path, scan_shape), latentstem.as_scan(path, (1, 8))
    assert scan.scan_shape == scan_shape
    np.testing.assert_array_equal(scan.read([5]), stack.read([5]))
    with pytest.raises(ScanShapeError, match=r"scan_shape contradicts the data: expected \(2, 4\)"):
        latentstem.as_scan(path, (3, 4))
    with pytest.raises(ScanShapeError, match="two positive integers"):
        latentstem.as_scan(path, 8)


def test_a_lazy_reader_gives_whole_patterns(shared_data):
    """Chunks that are cut along the detector would all be read, for each pattern."""
    path = shared_data / "formats" / "mib_merlin" / "001_4x2_6bit.mib"
    with dask.config.set({"array.chunk-size": "256 kiB"}):
        scan = latentstem.as_scan(path)
    assert scan.source.chunks == (2, 2)


def test_every_shared_file_opens_or_says_why_not(shared_data):
    opened, errors = {}, []
    for path in sorted(path for path in shared_data.rglob("*") if path.is_file()):
        for scan_shape in (None, (4, 4), (6, 5), (12, 29)):
            try:
                scan = scan_from_file(path, scan_shape)
            except LatentSTEMError as error:
                errors.append(error)
                continue
            opened.setdefault(path.name, (*scan.scan_shape, *scan.pattern_shape))
            assert scan.read(np.array([scan.n_positions - 1, 0])).shape == (2, *scan.pattern_shape)
    expected = {
        "test_00_master.h5": (4, 4, 192, 192),
        "test_arina_master.h5": (4, 4, 24, 24),
        "test_arina_data_000001.h5": (4, 4, 24, 24),
        "test1.blo": (3, 2, 144, 144),
        "nickel_edax.h5": (3, 3, 60, 60),
        "libertem_hdf5_sample_16x16x16x16.h5": (16, 16, 16, 16),
        "map4x4.xml": (4, 4, 128, 128),
        "scan_x4_y4.raw": (4, 4, 128, 128),
        "fpd_file_test.hdf5": (2, 2, 256, 256),
        "001_4x2_6bit.mib": (2, 4, 256, 256),
        "001_4x2_6bit.hdr": (2, 4, 256, 256),
        "002_4x2_6bit_roi128.mib": (2, 4, 128, 256),
        "Custom_movie.mrc": (6, 5, 16, 16),
        "ROI_Random_Scan_movie.mrc": (12, 29, 16, 16),
        "16x16-diffraction_imagel_5x5x256x256_EDS.emi": (5, 5, 256, 256),
        "16x16-diffraction_imagel_5x5x256x256_EDS_2.ser": (5, 5, 256, 256),
        "scan_32.h5": (32, 32, 64, 64),
        "scan_32.hspy": (32, 32, 64, 64),
        "scan_32.npz": (32, 32, 64, 64),
    }
    assert expected.items() <= opened.items()
    assert all(error.advice.endswith(".") for error in errors)


def test_shared_scan_is_the_same_through_every_file(shared_data):
    scans = [
        open_scan(shared_data / "orient4d-scan32" / f"scan_32{suffix}") for suffix in (".npz", ".h5", ".hspy")
    ]
    everything = np.arange(1024)
    for scan in scans[1:]:
        np.testing.assert_array_equal(scan.read(everything), scans[0].read(everything))
        assert [axis.units for axis in scan.axes] == ["", "", "1/angstrom", "1/angstrom"]
        assert scan.axes[3].scale == pytest.approx(0.0421875)


def test_ebsd_scan_shape_comes_from_the_header(shared_data):
    with h5py.File(shared_data / "formats/ebsd_nickel/nickel_3x3x60x60_kikuchipy.h5") as file:
        assert open_scan(file["Scan 1/EBSD/Data/patterns"]).scan_shape == (3, 3)


def test_suffixes_of_py4dstem_are_its_own():
    parse = pytest.importorskip("py4DSTEM.io.parsefiletype")._parse_filetype
    from latentstem.hosts import py4dstem_files

    for suffix in py4dstem_files._PY4DSTEM_SUFFIXES - {".h5", ".hdf5", ".emd", ".py4dstem"}:
        assert parse(f"a{suffix}")
