"""What a file format is, and what several of them need."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from ..errors import FileError
from ..scan.scan import Scan

__all__ = ["FileFormat", "ScanShape", "find_scan_array", "not_installed"]

ScanShape = tuple[int, int] | None


@dataclass(frozen=True)
class FileFormat:
    """A format that is read without HyperSpy or py4DSTEM.

    Parameters
    ----------
    suffixes : tuple of str
        Of its files, in lower case.
    read : callable
        Takes a path and the scan shape, and returns the scan; None if HyperSpy or py4DSTEM has to read the file.
    magic : bytes
        First bytes of its files, whatever their suffix; empty if there are none.
    folders : bool
        Whether it may be a folder.
    """

    suffixes: tuple[str, ...]
    read: Callable[[Path, ScanShape], Scan | None]
    magic: bytes = b""
    folders: bool = False

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

    Raises
    ------
    FileError
        If none is the scan, or several may be.
    """
    preferred = [name for name in ("data", "counts") if name in names]
    if preferred:
        return preferred[0]
    shapes = {name: shape_of(name) for name in names}
    if len(shapes) == 1:
        return next(iter(shapes))
    for n in (4, 3):
        fitting = [name for name, shape in shapes.items() if len(shape) == n]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            break
    arrays = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:8])
    raise FileError(
        "cannot tell which array is the scan",
        expected="an array named data or counts, or one 4-D array",
        received=f"{path} with {arrays or 'no array'}",
        advice="Save the scan under the name data.",
    )


def not_installed(path: Path, reason: str) -> FileError:
    """Error for a file that needs a library."""
    return FileError(
        "a library is needed to read this file",
        expected="HyperSpy (or py4DSTEM), which read such files",
        received=f"{path}; {reason}",
        advice="`pip install latentstem[hyperspy]` (or latentstem[py4dstem]).",
    )
