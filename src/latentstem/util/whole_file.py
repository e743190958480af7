"""Atomic writes: files and folders are written under a temporary name, then renamed."""

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

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path; on success it replaces `path`.

    If the block fails or is interrupted, the old file at `path` is kept. A process killed in the block leaves a hidden
    file or folder, ``.NAME.PROCESS-XXXX.part.SUFFIX``; the next write to `path` removes it. The temporary path is in the
    same folder, with the same suffix. Missing parent folders are created.

    Raises
    ------
    StorageError
        If the disk is full, or nothing can be written there.
    """
    path = local_path(path, StorageError)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.part{path.suffix}")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_partial_files(path)
    try:
        with storage_errors(path, _DISK_FULL):
            yield temporary
        with storage_errors(path):
            _fsync_tree(temporary)
            if path.is_dir():  # a folder cannot be replaced in one step
                _replace_folder(path, temporary)
            else:
                os.replace(temporary, path)
    except BaseException:
        _remove(temporary)
        raise
    _fsync(path.parent)


def require_writable_folder(path: str | Path) -> None:
    """Create a folder if missing; raise `StorageError` if files cannot be written to it."""
    path = local_path(path, StorageError)
    with storage_errors(path / "..."):
        path.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path) as file:
            file.write(bytes(4096))
            file.flush()


@contextmanager
def storage_errors(path: Path, only_errno: set[int] | None = None) -> Iterator[None]:
    """Raise a `StorageError` that names the file instead of an `OSError`; only for these errno values, if given."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if only_errno is not None and error.errno not in only_errno:
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
            _remove(old)  # the new folder is complete; only the removal of the old one was interrupted
        elif old.exists():
            old.rename(path)
        raise


def remove_partial_files(path: Path) -> None:
    """Remove temporary files that killed processes left for `path`; restore a folder that was being replaced."""
    pattern = re.compile(
        rf"\.{re.escape(path.stem)}\.(\d+)-[0-9a-f]{{8}}\.part{re.escape(path.suffix)}(\.old)?"
    )
    for leftover in sorted(path.parent.glob(".*.part*"), reverse=True):  # .old first
        match = pattern.fullmatch(leftover.name)
        if match is None or psutil.pid_exists(int(match[1])):
            continue
        if match[2] and not path.exists():
            leftover.rename(path)
        else:
            _remove(leftover)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _fsync_tree(path: Path) -> None:
    for file in path.rglob("*") if path.is_dir() else [path]:
        _fsync(file)


def _fsync(path: Path) -> None:
    if os.name == "nt":  # Windows cannot fsync folders or read-only files
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
