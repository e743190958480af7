"""Room on a disk, asked for before anything is written."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..errors import ArgumentError

__all__ = ["format_bytes", "require_disk_space"]

_HEADROOM = 2**29  # bytes that a large file leaves to everybody else on the disk


def format_bytes(nbytes: float) -> str:
    """Bytes as a person reads them: ``8.6 GB``."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if nbytes >= size:
            return f"{nbytes / size:.{1 if nbytes < 99.95 * size else 0}f} {unit}"
    return f"{nbytes / 1e3:.0f} kB"


def require_disk_space(path: str | Path, nbytes: int) -> None:
    """Refuse to begin a file that the disk has no room for.

    Parameters
    ----------
    path : str or Path
        Of the file or folder that will be written; neither it nor its folder has to exist.
    nbytes : int
        Its size. As much must be left beside it, or half a gigabyte.

    Raises
    ------
    ArgumentError
    """
    folder = Path(path).expanduser().absolute()
    while not folder.is_dir():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if nbytes + min(_HEADROOM, nbytes) > free:
        raise ArgumentError(
            "not enough room on the disk",
            expected=f"{format_bytes(nbytes)} for {path}, and some to spare",
            received=f"{format_bytes(free)} free at {folder}",
            advice="Delete what is not needed, or write to another disk.",
        )
