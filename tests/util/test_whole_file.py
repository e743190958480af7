"""Files and folders are whole or not there."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys

import pytest

from latentstem.errors import StorageError
from latentstem.util.whole_file import atomic_write, require_writable_folder


def test_file_takes_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "new folder" / "scan.npy"
    with atomic_write(path) as beside:
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
        with atomic_write(path) as beside:
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
        with atomic_write(path) as beside:
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


def left_of_a_killed_process(path, content):
    """What is left of writing `path`, by a process that is no more."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    beside = path.with_name(f".{path.stem}.{done.pid}-0123abcd.part{path.suffix}")
    beside.write_text(content)
    return beside


def test_ctrl_c_while_the_replaced_folder_is_removed_leaves_nothing_of_it(tmp_path, monkeypatch):
    path = tmp_path / "scan.zspy"
    path.mkdir()
    (path / "before").touch()
    rmtree, calls = shutil.rmtree, []

    def interrupted(*arguments, **more):
        calls.append(arguments)
        if len(calls) == 1:
            raise KeyboardInterrupt
        rmtree(*arguments, **more)

    def write():
        with atomic_write(path) as beside:
            beside.mkdir()
            (beside / "after").touch()

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write()
    assert [left.name for left in tmp_path.iterdir()] == ["scan.zspy"]
    assert [left.name for left in path.iterdir()] == ["after"]


def test_what_a_killed_process_left_is_removed_at_the_next_writing(tmp_path):
    path = tmp_path / "scan[1].npy"
    left = left_of_a_killed_process(path, "half")
    others = left_of_a_killed_process(tmp_path / "scan.npy", "half of another file")
    mine = tmp_path / f".scan[1].{os.getpid()}-0123abcd.part.npy"
    mine.write_text("in the midst of writing")
    with atomic_write(path) as beside:
        beside.write_text("whole")
    assert not left.exists()
    assert others.exists()
    assert mine.exists()
    assert path.read_text() == "whole"


def test_a_folder_that_was_about_to_be_replaced_comes_back(tmp_path):
    """The process was killed between the two renames."""
    path = tmp_path / "scan.zspy"
    path.mkdir()
    (path / "old").touch()
    left = left_of_a_killed_process(path, "new")
    path.rename(left.with_name(left.name + ".old"))

    def fail():
        with atomic_write(path):
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert [file.name for file in tmp_path.rglob("*")] == ["scan.zspy", "old"]


@pytest.mark.parametrize(("number", "ours"), [(errno.ENOSPC, True), (errno.ENOENT, False)])
def test_a_full_disk_is_told_apart_from_what_cannot_be_read(tmp_path, number, ours):
    def write():
        with atomic_write(tmp_path / "scan.npy"):
            raise OSError(number, os.strerror(number))

    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        write()
    assert isinstance(caught.value, StorageError) == ours
    assert not list(tmp_path.iterdir())


def test_require_folder_makes_it_and_leaves_nothing_in_it(tmp_path):
    require_writable_folder(tmp_path / "a" / "b")
    assert not list((tmp_path / "a" / "b").iterdir())
