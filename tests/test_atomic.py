"""Files and folders are whole or not there."""

from __future__ import annotations

import pytest

from latentstem.atomic import written_whole


def test_file_takes_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "new folder" / "scan.npy"
    with written_whole(path) as beside:
        beside.write_bytes(b"whole")
        assert beside.suffix == ".npy"
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert [file.name for file in path.parent.iterdir()] == ["scan.npy"]


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt])
def test_what_was_there_stays_if_writing_fails(tmp_path, stop):
    path = tmp_path / "scan.npy"
    path.write_bytes(b"before")

    def write():
        with written_whole(path) as beside:
            beside.write_bytes(b"half")
            raise stop("in the midst")

    with pytest.raises(stop, match="in the midst"):
        write()
    assert path.read_bytes() == b"before"
    assert [file.name for file in tmp_path.iterdir()] == ["scan.npy"]


@pytest.mark.parametrize("fails", [False, True])
def test_folder_takes_the_place_of_a_folder(tmp_path, fails):
    path = tmp_path / "scan.zspy"
    (path / "old").mkdir(parents=True)

    def write():
        with written_whole(path) as beside:
            (beside / "chunks").mkdir(parents=True)
            (beside / "chunks" / "0").write_bytes(b"whole")
            if fails:
                raise OSError("disk full")

    if fails:
        with pytest.raises(OSError, match="disk full"):
            write()
        assert [file.name for file in path.iterdir()] == ["old"]
    else:
        write()
        assert (path / "chunks" / "0").read_bytes() == b"whole"
        assert not (path / "old").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["scan.zspy"]
