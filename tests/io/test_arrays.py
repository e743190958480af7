"""Arrays of every kind give the patterns that numpy slicing gives."""

from __future__ import annotations

import mmap
import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import latentstem
from latentstem.errors import (
    DataTypeError,
    PatternShapeError,
    ScanDimensionError,
    ScanShapeError,
    UnsupportedDataError,
)
from latentstem.io import arrays, chunks
from latentstem.io.arrays import as_pattern_source
from latentstem.io.open import open_scan
from latentstem.io.units import normalise_units
from latentstem.scan.validation import find_layout

SHAPE = (7, 5, 32, 24)
DATA = np.random.default_rng(0).integers(-9, 99, SHAPE).astype(np.int16)
DTYPES = [
    f"{order}{kind}" for order in "<>" for kind in ("u1", "i2", "u2", "i4", "u4", "i8", "f2", "f4", "f8")
]


def flat(array):
    return np.asarray(array).reshape(-1, *array.shape[-2:])


def in_hdf5(array, path, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=array, **options)
    return h5py.File(path, "r")["data"]


@st.composite
def memory_arrays(draw):
    """An array of any shape, dtype, byte order and strides, with the scan shape to give with it."""
    scan_shape = draw(st.tuples(st.integers(1, 6), st.integers(2, 6)))
    pattern_shape = draw(st.tuples(st.integers(8, 12), st.integers(8, 12)))
    n = scan_shape[0] * scan_shape[1]
    kind = draw(st.sampled_from(["4-D", "stack", "stack with channel", "singleton"]))
    shape = {
        "4-D": (*scan_shape, *pattern_shape),
        "stack": (n, *pattern_shape),
        "stack with channel": (n, 1, *pattern_shape),
        "singleton": (*scan_shape, 1, *pattern_shape),
    }[kind]
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 100, shape)
    array = values.astype(draw(st.sampled_from(DTYPES)))
    layout = draw(st.sampled_from(["C", "F", "every second", "reversed", "read-only"]))
    if layout == "F":
        array = np.asfortranarray(array)
    elif layout == "every second":
        array = np.repeat(array, 2, axis=-1)[..., ::2]
    elif layout == "reversed":
        array = array[::-1]
    elif layout == "read-only":
        array.flags.writeable = False
    return array, None if kind == "singleton" or (kind == "4-D" and draw(st.booleans())) else scan_shape


@given(memory_arrays(), st.data())
def test_memory_arrays_read_as_numpy_slices(case, data):
    array, scan_shape = case
    before, given_data = array.tobytes(), flat(array)
    if scan_shape is None and array.ndim == 4 and array.shape[1] == 1:
        scan_shape = array.shape[:2]
    scan = open_scan(array, scan_shape)
    indices = np.array(data.draw(st.lists(st.integers(0, scan.n_positions - 1), max_size=9)), dtype=int)
    patterns = scan.read(indices)
    np.testing.assert_array_equal(patterns, given_data[indices])
    assert patterns.dtype.isnative
    assert patterns.dtype == scan.dtype == array.dtype.newbyteorder("=")
    assert scan.pattern_shape == array.shape[-2:]
    assert not np.shares_memory(patterns, array)
    if scan.source.array is not None:
        assert np.shares_memory(scan.source.array, array)
        np.testing.assert_array_equal(flat(scan.source.array), given_data)
    assert (scan.source.array is None) == (not array.dtype.isnative)
    assert array.tobytes() == before


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(
    dtype=st.sampled_from(DTYPES),
    chunks=st.tuples(st.integers(1, 7), st.integers(1, 5), st.integers(9, 32), st.integers(9, 24)),
    store=st.sampled_from(["h5py", "h5py stack", "zarr", "dask", "dask stack", "dask uneven"]),
    indices=st.lists(st.integers(0, 34), max_size=20),
)
def test_chunked_arrays_read_as_numpy_slices(tmp_path, dtype, chunks, store, indices):
    array = np.abs(DATA).astype(dtype)
    stack = array.reshape(35, 1, 32, 24)
    stack_chunks = (chunks[0] * chunks[1], 1, *chunks[2:])
    if store == "h5py":
        held = in_hdf5(array, tmp_path / "a.h5", chunks=chunks, compression="gzip")
    elif store == "h5py stack":
        held = in_hdf5(stack, tmp_path / "s.h5", chunks=stack_chunks)
    elif store == "zarr":
        held = pytest.importorskip("zarr").array(array, chunks=chunks)
    else:
        dask = pytest.importorskip("dask.array")
        chunks = (chunks[0], (1, 3, 1), 32, -1) if store == "dask uneven" else chunks
        held = dask.from_array(stack, stack_chunks) if "stack" in store else dask.from_array(array, chunks)
    scan = open_scan(held, (7, 5) if "stack" in store else None)
    indices = np.array(indices, dtype=int)
    patterns = scan.read(indices)
    np.testing.assert_array_equal(patterns, flat(array)[indices])
    assert patterns.dtype == np.dtype(dtype).newbyteorder("=")
    assert patterns.dtype.isnative
    seen = [block for block in scan.blocks(6)]
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(35))
    streamed = np.concatenate([scan.read(block) for block in seen])
    np.testing.assert_array_equal(streamed, flat(array)[np.concatenate(seen)])


def test_dask_chunks_are_computed_once_in_a_streamed_pass():
    dask = pytest.importorskip("dask.array")
    computed = []

    def load(block, block_info=None):
        computed.append(block_info[0]["chunk-location"])
        return block

    lazy = dask.from_array(DATA, chunks=(3, 2, 16, 24)).map_blocks(load, dtype=DATA.dtype, meta=DATA[:0])
    scan = open_scan(lazy)
    assert scan.source.chunks == (3, 2)
    for block in scan.blocks(12):
        scan.read(block)
        scan.read(block[:1])
    assert len(computed) == len(set(computed)) == 3 * 3 * 2


def test_large_chunks_are_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "_MAX_READ_BYTES", 10 * 32 * 24 * 2)
    dataset = in_hdf5(DATA, tmp_path / "a.h5", chunks=SHAPE)
    source = as_pattern_source(dataset)
    assert source.chunks[0] * source.chunks[1] <= 10
    np.testing.assert_array_equal(source.read(np.arange(35)), flat(DATA))


def test_decompressed_chunks_are_kept_within_bounds(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "_CHUNK_CACHE_BYTES", 2 * 5 * 32 * 24 * 2)
    source = as_pattern_source(in_hdf5(DATA, tmp_path / "a.h5", chunks=(1, 5, 32, 24)))
    np.testing.assert_array_equal(source.read(np.arange(35)), flat(DATA))
    assert len(source._cache) == 2


def test_contiguous_hdf5_is_memory_mapped(tmp_path):
    dataset = in_hdf5(DATA, tmp_path / "a.h5")
    source = as_pattern_source(dataset)
    bases = [source.array]
    while isinstance(bases[-1], np.ndarray):
        bases.append(bases[-1].base)
    assert isinstance(bases[-1], mmap.mmap)
    np.testing.assert_array_equal(source.array, DATA)


@pytest.mark.parametrize("kind", ["h5py", "zarr"])
def test_dask_over_a_dataset_is_read_from_the_dataset(tmp_path, kind):
    da = pytest.importorskip("dask.array")
    if kind == "h5py":
        store = in_hdf5(DATA, tmp_path / "a.h5", chunks=(2, 3, 32, 24))
    else:
        store = pytest.importorskip("zarr").array(DATA, chunks=(2, 3, 16, 24))
    lazy = da.from_array(store, chunks=(7, 5, 32, 24))
    source = as_pattern_source(lazy)
    assert source._store is store
    assert source.chunks == (2, 3)
    np.testing.assert_array_equal(source.read(np.arange(35)), flat(DATA))
    others = (lazy * 2, lazy[::-1], lazy[:6], lazy.rechunk((2, 5, 32, 24)), lazy.map_blocks(np.negative))
    for other in others:  # what is computed with it is computed
        source = as_pattern_source(other)
        assert source._store is other
        np.testing.assert_array_equal(source.read(np.arange(source.shape[0] * 5)), flat(other.compute()))


def resident(path):
    """Bytes of a mapped file that count as memory of this process."""
    lines = Path("/proc/self/smaps").read_text().split(str(path), 1)[1].splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("Rss:")).split()[1])


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="pages are counted in /proc")
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_pages_of_a_mapped_file_are_given_back(tmp_path, order, monkeypatch):
    monkeypatch.setattr(arrays, "_MAX_RESIDENT_BYTES", 2**20)
    data = np.random.default_rng(0).integers(0, 9, (16, 64, 64, 64)).astype(order)
    np.save(tmp_path / "a.npy", data)
    source = as_pattern_source(np.asarray(np.load(tmp_path / "a.npy", mmap_mode="r"))[1:])
    for at in np.array_split(np.arange(15 * 64), 60):
        np.testing.assert_array_equal(source.read(at), data[1:].reshape(-1, 64, 64)[at])
        assert resident(tmp_path / "a.npy") < 5 * 2**20  # of 7.8 MB


@pytest.mark.parametrize("mode", ["c", "r+"])
def test_what_was_written_into_a_map_stays(tmp_path, mode, monkeypatch):
    monkeypatch.setattr(arrays, "_MAX_RESIDENT_BYTES", 1)
    np.save(tmp_path / "a.npy", DATA)
    held = np.load(tmp_path / "a.npy", mmap_mode=mode)
    held[2, 3] = 77
    source = as_pattern_source(held)
    assert (source.read(np.array([2 * 5 + 3, 0]))[0] == 77).all()
    assert (source.read(np.array([2 * 5 + 3]))[0] == 77).all()
    assert (held[2, 3] == 77).all()


def test_hdf5_open_for_writing_is_not_memory_mapped(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        source = as_pattern_source(file.create_dataset("data", data=DATA))
        assert source.array is None
        np.testing.assert_array_equal(source.read(np.arange(35)), flat(DATA))


@pytest.mark.parametrize("kind", ["memmap", "fortran memmap", "h5py", "h5py mapped", "dask", "zarr", "numpy"])
def test_sources_travel_to_other_processes(tmp_path, kind):
    if "memmap" in kind:
        np.save(tmp_path / "a.npy", np.asfortranarray(DATA) if "fortran" in kind else DATA)
        held = np.load(tmp_path / "a.npy", mmap_mode="r")
    elif "h5py" in kind:
        held = in_hdf5(DATA, tmp_path / "a.h5", chunks=None if "mapped" in kind else (2, 2, 32, 24))
    elif kind == "numpy":
        held = DATA
    else:
        held = pytest.importorskip("dask.array").from_array(DATA) if kind == "dask" else None
        held = held if held is not None else pytest.importorskip("zarr").array(DATA, chunks=(2, 2, 32, 24))
    source = as_pattern_source(held)
    sent = pickle.dumps(source)
    np.testing.assert_array_equal(pickle.loads(sent).read(np.arange(35)), flat(DATA))
    if "memmap" in kind or "mapped" in kind:
        assert len(sent) < 2000  # the file's name, and not its content


def test_torch_tensors_are_viewed():
    torch = pytest.importorskip("torch")
    tensor = torch.arange(7 * 5 * 32 * 24, dtype=torch.float32).reshape(35, 1, 32, 24).requires_grad_()
    scan = open_scan(tensor, (7, 5))
    assert scan.source.array.__array_interface__["data"][0] == tensor.data_ptr()
    np.testing.assert_array_equal(scan.read(np.array([34])), tensor.detach().numpy()[[34], 0])
    half = tensor.detach().to(torch.bfloat16)
    np.testing.assert_array_equal(open_scan(half, (7, 5)).read(np.array([2])), half[2].float().numpy())
    with pytest.raises(UnsupportedDataError, match=r"to_dense"):
        open_scan(tensor.detach().reshape(SHAPE).to_sparse())


@pytest.mark.parametrize("dtype", [complex, object, bool, "U3", "datetime64[s]", [("a", int)]])
def test_dtypes_that_are_no_intensities(dtype):
    with pytest.raises(DataTypeError, match=r"expected integers or real floating point numbers; received"):
        open_scan(np.zeros(SHAPE, dtype))


@pytest.mark.parametrize(
    ("shape", "scan_shape", "error", "message"),
    [
        (
            (32, 24),
            None,
            ScanDimensionError,
            "expected 4-D data; received 2-D data of shape .32, 24.*single image",
        ),
        (
            (2, 3, 7, 5, 32, 24),
            None,
            ScanDimensionError,
            "received 6-D data.*one scan of the series, such as data.0.",
        ),
        ((1, 7, 5, 32, 24), None, ScanDimensionError, "squeeze"),
        ((256, 256, 7, 5), None, ScanDimensionError, "axes look swapped.*transpose.2, 3, 0, 1."),
        ((32, 24, 7, 5), None, PatternShapeError, "at least 8 x 8 pixels; received 7 x 5.*transpose"),
        ((2, 3, 4, 5), None, PatternShapeError, "at least 8 x 8 pixels; received 4 x 5"),
        ((1, 1, 32, 24), None, ScanDimensionError, "at least 2 scan positions; received 1"),
        ((0, 5, 32, 24), None, ScanDimensionError, "at least 2 scan positions; received 0"),
        (
            (35, 32, 24),
            None,
            ScanShapeError,
            r"needs scan_shape.*one frame less than 6 x 6.*\(5, 7\), \(7, 5\)",
        ),
        ((36, 1, 32, 24), None, ScanShapeError, r"36 is a square number: scan_shape=\(6, 6\)"),
        ((37, 32, 24), None, ScanShapeError, "one frame more than 6 x 6: drop it with data.1:. or data.:-1."),
        (
            (36, 32, 24),
            (7, 5),
            ScanShapeError,
            r"7 x 5 = 35 patterns; received 36.*one frame more than 7 x 5",
        ),
        ((34, 32, 24), (7, 5), ScanShapeError, r"one frame less than 7 x 5"),
        ((40, 32, 24), (7, 5), ScanShapeError, r"one scan line more than 7 x 5.*data\[5:\].*\(8, 5\)"),
        (
            (42, 32, 24),
            (7, 5),
            ScanShapeError,
            r"one frame more in each line than 7 x 5.*scan_shape=\(7, 6\)",
        ),
        ((60, 32, 24), (7, 9), ScanShapeError, r"60 patterns fill scan_shape=\(6, 10\)"),
        ((32, 24, 35), (7, 5), ScanShapeError, r"moveaxis\(data, -1, 0\)"),
        (SHAPE, (5, 7), ScanShapeError, r"contradicts the data: expected \(7, 5\).*received \(5, 7\)"),
        ((35, 32, 24), (7, 0), ScanShapeError, r"two positive integers.*received \(7, 0\)"),
        ((35, 32, 24), (7, 5.0), ScanShapeError, r"two positive integers.*received \(7, 5.0\)"),
        ((35, 32, 24), 35, ScanShapeError, r"two positive integers.*received 35.*scan_shape=\(1, 100\)"),
        ((35, 32, 24), (7, 5, 1), ScanShapeError, r"two positive integers.*received \(7, 5, 1\)"),
    ],
)
def test_shapes_that_are_no_scan(shape, scan_shape, error, message):
    with pytest.raises(error, match=message):
        open_scan(np.broadcast_to(np.uint8(1), shape), scan_shape)


@pytest.mark.parametrize(
    ("shape", "scan_shape", "seen"),
    [
        ((512, 512, 64, 64), None, (512, 512, 64, 64)),
        ((2, 1, 8, 9), (2, 1), (2, 1, 8, 9)),
        ((1, 35, 32, 24), None, (1, 35, 32, 24)),
        ((35, 1, 32, 24), np.array([7, 5]), SHAPE),
        ((1, 35, 32, 24), [1, 35], (1, 35, 32, 24)),
        ((2, 3, 1, 8, 9), None, (2, 3, 8, 9)),
        ((35, 32, 24), (35, 1), (35, 1, 32, 24)),
    ],
)
def test_shapes_that_are_a_scan(shape, scan_shape, seen):
    assert find_layout(shape, scan_shape).shape == seen


@given(st.integers(2, 500), st.integers(1, 40), st.integers(1, 40))
def test_offered_scan_shapes_fit(n, ny, nx):
    if ny * nx == n:
        assert find_layout((n, 8, 9), (ny, nx)).shape == (ny, nx, 8, 9)
        return
    with pytest.raises(ScanShapeError, match=f"{n} patterns fill scan_shape=") as caught:
        find_layout((n, 8, 2001), (ny, nx))
    shapes = caught.value.candidates
    assert shapes
    assert all(rows * columns == n for rows, columns in shapes)
    assert f"scan_shape={', '.join(map(str, shapes))}." in caught.value.advice


@pytest.mark.parametrize(
    ("n", "scan_shape", "candidates", "hint"),
    [
        (36, None, [(6, 6), (4, 9), (9, 4), (3, 12)], ""),
        (35, None, [(5, 7), (7, 5), (1, 35), (35, 1)], "That is one frame less than 6 x 6"),
        (40, (7, 5), [(8, 5), (5, 8), (10, 4), (4, 10)], "That is one scan line more than 7 x 5"),
    ],
)
def test_a_stack_that_does_not_fit_carries_the_scan_shapes_that_do(n, scan_shape, candidates, hint):
    with pytest.raises(ScanShapeError, match="patterns") as caught:
        find_layout((n, 32, 24), scan_shape)
    for error in (
        caught.value,
        pickle.loads(pickle.dumps(caught.value)),
        caught.value.with_fields(what="here"),
    ):
        assert sorted(error.candidates) == sorted(candidates)
        assert error.candidates[0] == candidates[0]
        assert error.argument == "scan_shape"
        assert error.hint.startswith(hint)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "DataCube, a HyperSpy Signal2D.*received builtins.NoneType"),
        (3.0, "received builtins.float"),
        ([[1, 2], [3, 4]], r"received builtins.list.*np.stack"),
        (np.float32(1), "received numpy.float32"),
        (np.ma.masked_array(DATA, DATA > 3), "masked_array|MaskedArray.*scan_mask or pattern_mask"),
    ],
)
def test_other_objects(data, message):
    with pytest.raises(UnsupportedDataError, match=message):
        open_scan(data)


def test_hdf5_file_objects(tmp_path):
    in_hdf5(DATA, tmp_path / "a.h5")
    with (
        h5py.File(tmp_path / "a.h5") as file,
        pytest.raises(UnsupportedDataError, match=r"arrays.*group: data"),
    ):
        open_scan(file)


def test_dask_of_unknown_shape():
    dask = pytest.importorskip("dask.array")
    lazy = dask.from_array(DATA.reshape(35, 32, 24))
    with pytest.raises(UnsupportedDataError, match="compute_chunk_sizes"):
        open_scan(lazy[lazy.max(axis=(1, 2)) > 0], (7, 5))


def test_a_scan_stays_itself():
    scan = open_scan(DATA)
    assert open_scan(scan) is scan
    assert open_scan(scan, (7, 5)) is scan
    with pytest.raises(ScanShapeError, match="contradicts"):
        open_scan(scan, (5, 7))


def test_simulated_scans_are_calibrated():
    simulated = latentstem.simulate(SHAPE[:2], SHAPE[2:], seed=1)
    scan = open_scan(simulated)
    np.testing.assert_array_equal(scan.source.array, simulated.counts)
    assert [axis.units for axis in scan.axes] == ["nm", "nm", "1/angstrom", "1/angstrom"]
    assert scan.axes[1].scale == simulated.scan_step
    assert scan.axes[2].offset == pytest.approx(-simulated.pixel_size * 15.5)
    assert scan.axes[3].offset + 11.5 * scan.axes[3].scale == pytest.approx(0)


@pytest.mark.parametrize(
    ("units", "plain"),
    [
        *((text, "1/angstrom") for text in ("A^-1", "1/Å", "Å⁻¹", "$A^{-1}$", "1 / angstrom", b"A^-1")),
        *((text, "1/nm") for text in ("nm^-1", "[n_m^-1]", "1/nm", "nm-1", "nm**-1")),
        *((text, "") for text in ("", "px", "pixels", "<undefined>", None, object(), "?/m", "1/px")),
        ("[n_m]", "nm"),
        ("µm", "um"),
        ("Å", "angstrom"),
        ("mrad", "mrad"),
        ("counts/s", "counts/s"),
    ],
)
def test_units_have_one_spelling(units, plain):
    assert normalise_units(units) == plain
    assert normalise_units(plain) == plain


def test_reading_arrays_imports_no_host():
    code = (
        "import sys, numpy; from latentstem.io.open import open_scan; open_scan(numpy.ones((3, 3, 9, 8)));"
        "found = {'torch', 'hyperspy', 'py4DSTEM', 'emdfile', 'dask', 'zarr'} & set(sys.modules);"
        "sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
