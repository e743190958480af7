"""Results written to files: the same numbers as in memory, nothing lost, nothing half-written."""

from __future__ import annotations

import h5py
import hyperspy.api as hs
import numpy as np
import py4DSTEM
import pytest
import zarr

import latentstem
from helpers import train
from latentstem.adapters.export import PATTERN_FILES
from latentstem.errors import FileError

SUFFIXES = list(PATTERN_FILES)


@pytest.fixture(scope="module")
def model(scan):
    return train(scan, context=2)


@pytest.fixture(scope="module")
def want(model, scan):
    return model.reconstruct(scan)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_in_the_file_is_what_is_in_memory(model, scan, want, suffix, tmp_path):
    path = tmp_path / f"clean{suffix}"
    held = model.reconstruct(scan, out=path)
    kind = {".hspy": h5py.Dataset, ".zspy": zarr.Array}.get(suffix, np.memmap)
    assert isinstance(held, kind)
    assert held.shape == scan.shape
    assert held.dtype == np.float32
    np.testing.assert_allclose(held[...], want, rtol=1e-5, atol=1e-5)
    with pytest.raises((ValueError, OSError, PermissionError), match=r"read-only|write|permission"):
        held[0, 0] = 0
    again = latentstem.as_scan(path)
    np.testing.assert_array_equal(again.read(np.arange(120)).reshape(scan.shape), held[...])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".h5", ".hspy", ".zspy"])
def test_hosts_open_the_file(model, scan, want, suffix, tmp_path):
    path = str(tmp_path / f"clean{suffix}")
    model.reconstruct(scan, out=path)
    data = py4DSTEM.read(path).data if suffix == ".h5" else hs.load(path).data
    np.testing.assert_allclose(data, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_there(model, scan, suffix, tmp_path):
    path = tmp_path / f"clean{suffix}"
    path.mkdir() if suffix == ".zspy" else path.write_bytes(b"precious")
    with pytest.raises(FileError, match=r"clean\.\w+, which exists already.*overwrite=True"):
        model.reconstruct(scan, out=path)
    assert path.is_dir() or path.read_bytes() == b"precious"
    assert model.reconstruct(scan, out=path, overwrite=True).shape == scan.shape
