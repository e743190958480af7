"""A check of free disk space, before a large file is written."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..errors import ArgumentError
from .formatting import format_bytes

__all__ = ["require_disk_space"]

_RESERVED_BYTES = 2**29  # that must stay free after writing a large file


def require_disk_space(path: str | Path, nbytes: int) -> None:
    """Raise `ArgumentError` if the disk has too little free space for a file or folder, which need not exist.

    Besides its size, the same amount (at most 0.5 GB) must stay free.
    """
    folder = Path(path).expanduser().absolute()
    while not folder.is_dir():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if nbytes + min(_RESERVED_BYTES, nbytes) > free:
        raise ArgumentError(
            "not enough room on the disk",
            expected=f"{format_bytes(nbytes)} for {path}, plus a reserve",
            received=f"{format_bytes(free)} free at {folder}",
            advice="Delete what is not needed, or write to another disk.",
        )
