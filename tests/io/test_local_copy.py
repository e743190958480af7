"""The one-time copy of a scan that is slow to read."""

from __future__ import annotations

import shutil
from collections import namedtuple

import h5py
import numpy as np
import pytest

from helpers import maps, train
from latentstem import as_scan
from latentstem.errors import ArgumentError
from latentstem.io import local_copy as cache
from latentstem.io.local_copy import cache_scan

DATA = np.random.default_rng(0).integers(0, 999, (7, 5, 32, 24)).astype(">u2")
PATTERN = 2 * 32 * 24


@pytest.fixture
def stored(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_BLOCK_BYTES", 6 * PATTERN)
    return in_file(tmp_path / "scan.h5", DATA)


def in_file(path, data):
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=data, chunks=(3, 2, 16, 24), compression="gzip")
    return path


def test_a_copy_is_made_once_and_stated(stored, tmp_path, monkeypatch, capsys):
    mask = np.zeros((7, 5), bool)
    mask[2, 3] = True
    scan = as_scan(stored, scan_mask=mask)
    found = cache_scan(scan, tmp_path / "cache", progress=True)
    assert "Copying 54 kB to" in capsys.readouterr().out
    np.testing.assert_array_equal(found.source.array, DATA)
    assert found.source.array.base is not None  # mapped, not loaded
    assert (found.axes, found.name, found.scan_mask) == (scan.axes, scan.name, scan.scan_mask)
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".lock", ".npy"]
    monkeypatch.setattr(cache, "_write_copy", lambda *given: pytest.fail("written again"))
    again = cache_scan(as_scan(stored), tmp_path / "cache")
    np.testing.assert_array_equal(again.source.array, DATA)


def test_a_copy_of_a_file_that_changed_is_not_used(stored, tmp_path):
    cache_scan(as_scan(stored), tmp_path / "cache")
    in_file(stored, DATA[::-1])
    found = cache_scan(as_scan(stored), tmp_path / "cache")
    np.testing.assert_array_equal(found.source.array, DATA[::-1])


def test_a_copy_that_was_altered_is_made_again(stored, tmp_path):
    cache_scan(as_scan(stored), tmp_path / "cache")
    (path,) = (tmp_path / "cache").glob("*.npy")
    path.write_bytes(path.read_bytes()[:-100])
    np.testing.assert_array_equal(cache_scan(as_scan(stored), tmp_path / "cache").source.array, DATA)
    np.lib.format.open_memmap(path, mode="r+")[6, 4] = 0
    np.testing.assert_array_equal(cache_scan(as_scan(stored), tmp_path / "cache").source.array, DATA)


@pytest.mark.parametrize("damage", [None, "block", "journal"])
def test_an_interrupted_copy_is_continued(stored, tmp_path, damage, monkeypatch):
    scan = as_scan(stored)
    reads = []
    source = scan.source
    read = type(source).read

    def interrupted(self, at):
        reads.append(at)
        if len(reads) == 4:
            raise KeyboardInterrupt
        return read(self, at)

    monkeypatch.setattr(type(source), "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache_scan(scan, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.npy"))
    (part,), (journal,) = ((tmp_path / "cache").glob(f"*.{kind}") for kind in ("part", "journal"))
    if damage == "block":
        np.lib.format.open_memmap(part, mode="r+")[0, 0] = 0  # as a disk that lost power may leave it
    if damage == "journal":
        journal.write_text(journal.read_text()[:-4])
    found = cache_scan(scan, tmp_path / "cache")
    np.testing.assert_array_equal(found.source.array, DATA)
    total = len(list(scan.blocks(6)))
    again = len(reads) - 4
    assert again == total - 3 + (damage is not None)


def test_there_must_be_room_for_it(stored, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**9, 0, 100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(ArgumentError, match=r"not enough room.*54 kB for"):
        cache_scan(as_scan(stored), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.npy")) + list((tmp_path / "cache").glob("*.part"))


def test_each_scan_of_a_series_has_its_own_copy(tmp_path):
    data = np.stack([DATA, DATA[::-1]])
    with h5py.File(tmp_path / "movie.h5", "w") as file:
        file.create_dataset("data", data=data, chunks=(1, 3, 2, 16, 24), compression="gzip")
    found = cache_scan(as_scan(tmp_path / "movie.h5"), tmp_path / "cache")
    np.testing.assert_array_equal([part.source.array for part in found.scans], data)
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2


def test_what_needs_no_copy_has_none(tmp_path, caplog):
    np.save(tmp_path / "a.npy", DATA.astype("<u2"))
    mapped = as_scan(tmp_path / "a.npy")
    assert cache_scan(mapped, tmp_path / "cache") is mapped
    in_memory = as_scan(DATA)  # of the other byte order, but in no file
    assert cache_scan(in_memory, tmp_path / "cache") is in_memory
    assert "not in a file" in caplog.text
    assert not (tmp_path / "cache").exists()


def test_a_model_trained_from_the_copy_is_the_same(scan, tmp_path):
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_dataset("data", data=scan, chunks=(5, 4, 16, 20), compression="gzip")
    model = train(tmp_path / "scan.h5", cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(maps(model, scan), maps(train(scan), scan))
    assert list((tmp_path / "cache").glob("scan-*.npy"))
