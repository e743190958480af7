"""Files and folders that are whole or not there: written beside their place, then renamed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["written_whole"]


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Where to write a file or folder that takes the place of `path` once it is whole.

    What was at `path` stays until then, and if the block fails or is interrupted, for good.

    Parameters
    ----------
    path : str or Path
        Of the file or folder; its own folder is made where it is missing.

    Yields
    ------
    Path
        A name of the same suffix in the same folder, which does not exist yet.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.part{path.suffix}")
    try:
        yield beside
        _to_disk(beside)
        if path.is_dir():  # a folder cannot be replaced in one step
            old = beside.with_name(beside.name + ".old")
            path.rename(old)
            beside.rename(path)
            shutil.rmtree(old)
        else:
            os.replace(beside, path)
    except BaseException:
        if beside.is_dir():
            shutil.rmtree(beside, ignore_errors=True)
        else:
            beside.unlink(missing_ok=True)
        raise
    _flush(path.parent)


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
