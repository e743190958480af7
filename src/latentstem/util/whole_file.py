"""Files and folders that are whole or not there: written beside their place, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

import psutil

from ..errors import StorageError
from .paths import local_path

__all__ = ["atomic_write", "remove_partial_files", "require_writable_folder", "storage_errors"]

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Where to write a file or folder that takes the place of `path` once it is whole.

    What was at `path` stays until then, and if the block fails or is interrupted, for good. A process that is killed
    in the block leaves a hidden file or folder, ``.NAME.PROCESS-XXXX.part.SUFFIX``, which the next writing of `path`
    removes.

    Parameters
    ----------
    path : str or Path
        Of the file or folder; its own folder is made where it is missing.

    Yields
    ------
    Path
        A name of the same suffix in the same folder, which does not exist yet.

    Raises
    ------
    StorageError
        If the disk is full, or nothing can be written there.
    """
    path = local_path(path, StorageError)
    beside = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.part{path.suffix}")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_partial_files(path)
    try:
        with storage_errors(path, _NO_ROOM):
            yield beside
        with storage_errors(path):
            _to_disk(beside)
            if path.is_dir():  # a folder cannot be replaced in one step
                _replace_folder(path, beside)
            else:
                os.replace(beside, path)
    except BaseException:
        _remove(beside)
        raise
    _flush(path.parent)


def require_writable_folder(path: str | Path) -> None:
    """Make a folder, if it is missing, and see that something can be written into it.

    Raises
    ------
    StorageError
    """
    path = local_path(path, StorageError)
    with storage_errors(path / "..."):
        path.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path) as file:
            file.write(bytes(4096))
            file.flush()


@contextmanager
def storage_errors(path: Path, among: set[int] | None = None) -> Iterator[None]:
    """What the system says (among these numbers) as an error that names the file and what to do."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if among is not None and error.errno not in among:
            raise
        raise StorageError(
            "a file cannot be written",
            expected=f"a folder that can be written to, with room on its disk, for '{path}'",
            received=error.strerror or str(error),
            advice="Make room, or write somewhere else.",
        ) from error


def _replace_folder(path: Path, new: Path) -> None:
    old = new.with_name(new.name + ".old")
    try:
        path.rename(old)
        new.rename(path)
        _remove(old)
    except BaseException:
        if path.exists():
            _remove(old)  # all of it, also if the first try was interrupted
        elif old.exists():
            old.rename(path)
        raise


def remove_partial_files(path: Path) -> None:
    """Remove what killed processes left of `path`; a folder that one was about to replace comes back."""
    name = re.compile(rf"\.{re.escape(path.stem)}\.(\d+)-[0-9a-f]{{8}}\.part{re.escape(path.suffix)}(\.old)?")
    found = [(left, name.fullmatch(left.name)) for left in path.parent.glob(".*.part*")]
    for left, match in sorted(found, key=lambda pair: pair[0].name, reverse=True):  # .old first
        if match is None or psutil.pid_exists(int(match[1])):
            continue
        if match[2] and not path.exists():
            left.rename(path)
        else:
            _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    for file in path.rglob("*") if path.is_dir() else [path]:
        _flush(file)


def _flush(path: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there, nor files for reading be flushed
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
