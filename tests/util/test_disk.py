"""Whether there is room on the disk."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest

from latentstem.errors import ArgumentError
from latentstem.util import disk
from latentstem.util.disk import require_disk_space
from latentstem.util.formatting import format_bytes


def test_what_fits_is_let_through_and_what_does_not_is_refused(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    require_disk_space(tmp_path / "new" / "folder" / "x.npy", 1000)
    assert not (tmp_path / "new").exists()
    with pytest.raises(ArgumentError, match=r"for .*x\.npy.* free at .* another disk"):
        require_disk_space(tmp_path / "new" / "x.npy", free - 2**20)  # nothing to spare
    require_disk_space(tmp_path / "x.npy", free - 2**30)


def test_a_small_disk_is_enough_for_a_small_file(tmp_path, monkeypatch):
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000_000))
    require_disk_space(tmp_path / "ae.ckpt", 40_000_000)
    with pytest.raises(ArgumentError, match=r"60\.0 MB for .* 100 MB free"):
        require_disk_space(tmp_path / "ae.ckpt", 60_000_000)


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (8_589_934_592, "8.6 GB"),
        (123_456_789, "123 MB"),
        (99_960_000, "100 MB"),
        (12_000, "12 kB"),
        (3.2e12, "3.2 TB"),
    ],
)
def test_sizes_are_readable(nbytes, text):
    assert format_bytes(nbytes) == text
