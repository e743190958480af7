"""A scan knows the files that it is read from, or was loaded from."""

from __future__ import annotations

import pickle

import h5py
import numpy as np
import pytest

from latentstem.io.files import FORMATS
from latentstem.io.open import as_scan
from latentstem.io.source_files import fingerprint

DATA = np.arange(7 * 5 * 9 * 8, dtype=np.uint16).reshape(7, 5, 9, 8)


@pytest.fixture
def stored(tmp_path):
    """The same patterns in files of several formats."""
    np.save(tmp_path / "a.npy", DATA)
    np.savez(tmp_path / "a.npz", data=DATA)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("chunked", data=DATA, chunks=(3, 2, 9, 8))
    return tmp_path


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.h5"])
def test_files_that_were_opened(stored, name):
    scan = as_scan(stored / name)
    assert scan.files == {str(stored / name)}
    assert as_scan([scan, scan]).files == {str(stored / name)}
    assert scan.with_masks(np.eye(7, 5, dtype=bool)).files == scan.files


def test_arrays_over_files(stored):
    da = pytest.importorskip("dask.array")
    mapped = np.load(stored / "a.npy", mmap_mode="r")
    with h5py.File(stored / "a.h5", "r") as file:
        lazy = da.from_array(file["chunked"], chunks=(4, 5, 9, 8))
        expected = {str(stored / "a.npy"): [mapped, mapped[:, ::2], mapped[:5].transpose(1, 0, 2, 3)]}
        expected[str(stored / "a.h5")] = [
            file["chunked"],
            lazy,
            lazy + 1,
            (lazy + 1)[2:].rechunk((2, 5, 9, 8)),
        ]
        for path, arrays in expected.items():
            for array in arrays:
                scan = as_scan(array)
                assert scan.files == {path}
                assert fingerprint(scan)["files"][0][0] == path


def test_data_in_memory_have_no_files():
    da = pytest.importorskip("dask.array")
    for data in (DATA, DATA.astype(">u2"), da.from_array(DATA, chunks=(4, 5, 9, 8)), [DATA, DATA]):
        scan = as_scan(data)
        assert scan.files == set()
        assert fingerprint(scan) is None


def test_a_signal_in_memory_was_loaded_from_its_file(tmp_path):
    hs = pytest.importorskip("hyperspy.api")
    signal = hs.signals.Signal2D(DATA)
    signal.save(tmp_path / "a.hspy")
    assert as_scan(signal).source.files == set()
    loaded = as_scan(hs.load(tmp_path / "a.hspy"))
    assert loaded.source.files == set()
    assert loaded.files == {str(tmp_path / "a.hspy")}
    assert fingerprint(loaded) is None


@pytest.mark.parametrize(("name", "by_path"), [("a.npy", True), ("a.h5", True), ("a.npz", False)])
def test_sources_are_sent_by_path_where_they_can(stored, name, by_path):
    source = as_scan(stored / name).source
    assert source.is_read_by_path == by_path
    assert (len(pickle.dumps(source)) < DATA.nbytes) == by_path
    positions = np.array([3, 17])
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(source)).read(positions), DATA.reshape(-1, 9, 8)[positions]
    )


def test_no_suffix_has_two_formats():
    suffixes = [suffix for each in FORMATS for suffix in each.suffixes]
    assert len(set(suffixes)) == len(suffixes)
