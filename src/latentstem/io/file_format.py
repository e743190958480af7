"""The description of a file format, and functions for several formats."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from ..errors import FileError
from ..scan.scan import Scan

__all__ = ["FileFormat", "ScanShape", "find_scan_array", "not_installed_error"]

ScanShape = tuple[int, int] | None


@dataclass(frozen=True)
class FileFormat:
    """A format that is read without HyperSpy or py4DSTEM."""

    suffixes: tuple[str, ...]  # of its files, in lower case
    read: Callable[[Path, ScanShape], Scan | None]  # None: HyperSpy or py4DSTEM has to read the file
    magic: bytes = b""  # first bytes of its files, whatever their suffix; empty if there are none
    folders: bool = False  # whether folders are of this format; the caller has checked that they are scans

    def matches(self, path: Path) -> bool:
        """Whether a file is of this format."""
        if path.is_dir():
            return self.folders
        if path.suffix.lower() in self.suffixes:
            return True
        if not self.magic:
            return False
        with path.open("rb") as file:
            return file.read(len(self.magic)) == self.magic


def find_scan_array(names: Collection[str], shape_of: Callable[[str], tuple[int, ...]], path: Path) -> str:
    """Name of the array ``data`` or ``counts`` in a file, else of the only 4-D array, else of the only 3-D array.

    A FileError says if none is the scan, or several may be.
    """
    preferred = [name for name in ("data", "counts") if name in names]
    if preferred:
        return preferred[0]
    shapes = {name: shape_of(name) for name in names}
    if len(shapes) == 1:
        return next(iter(shapes))
    for n_axes in (4, 3):
        candidates = [name for name, shape in shapes.items() if len(shape) == n_axes]
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            break
    arrays = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:8])
    raise FileError(
        "cannot tell which array is the scan",
        expected="an array named data or counts, or one 4-D array",
        received=f"{path} with {arrays or 'no array'}",
        advice="Save the scan under the name data.",
    )


def not_installed_error(path: Path, reason: str) -> FileError:
    """Error for a file that only HyperSpy or py4DSTEM can read."""
    return FileError(
        "a library is needed to read this file",
        expected="HyperSpy (or py4DSTEM), which read such files",
        received=f"{path}; {reason}",
        advice="`pip install latentstem[hyperspy]` (or latentstem[py4dstem]).",
    )
