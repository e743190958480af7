"""Whether there is room on the disk."""

from __future__ import annotations

import shutil

import pytest

from latentstem.disk import readable_size, require_disk
from latentstem.errors import ArgumentError


def test_what_fits_is_let_through_and_what_does_not_is_refused(tmp_path):
    usage = shutil.disk_usage(tmp_path)
    require_disk(tmp_path / "new" / "folder" / "x.npy", 1000)
    assert not (tmp_path / "new").exists()
    with pytest.raises(ArgumentError, match=r"for .*x\.npy.* free at .* another disk"):
        require_disk(tmp_path / "new" / "x.npy", usage.free - 2**20)  # nothing to spare
    require_disk(tmp_path / "x.npy", int(usage.free - 2**30 - 0.01 * usage.total))


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
    assert readable_size(nbytes) == text
