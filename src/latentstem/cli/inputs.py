"""Open the scan and the masks that are named on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FileError, ScanShapeError, format_exception
from .messages import echo_stderr

if TYPE_CHECKING:
    import numpy as np

    from ..scan.scan import Scan

__all__ = ["open_data", "read_mask"]


def open_data(
    paths: list[Path],
    scan_shape: tuple[int, int] | None,
    scan_masks: list[Path] | None = None,
    pattern_mask: Path | None = None,
) -> Scan:
    """The scan in a file, or the series of scans in several.

    A stack with a square number of patterns and no scan shape is opened as a square scan, with a message.
    """
    from ..io.open import as_scan

    masks = [read_mask(path) for path in scan_masks or ()]
    if len(paths) == 1 and len(masks) <= 1:
        return _open_file(paths[0], scan_shape).with_masks(
            masks[0] if masks else None, read_mask(pattern_mask)
        )
    scans = [_open_file(path, scan_shape) for path in paths]
    return as_scan(scans, scan_mask=masks or None, pattern_mask=read_mask(pattern_mask))


def _open_file(path: Path, scan_shape: tuple[int, int] | None) -> Scan:
    from ..io.open import as_scan

    try:
        return as_scan(path, scan_shape)
    except ScanShapeError as error:
        ny, nx = error.candidates[0] if error.candidates else (0, 1)
        if scan_shape is not None or ny != nx:
            raise
    echo_stderr(
        f"{path} is a stack of {ny * nx} patterns: taken as a square scan, --scan {ny} {nx}. "
        "If the scan was not square, give --scan NY NX."
    )
    return as_scan(path, (ny, nx))


def read_mask(path: Path | None) -> np.ndarray | None:
    """The array in a .npy file.

    Raises
    ------
    FileError
        If the file contains something else.
    """
    if path is None:
        return None
    import numpy as np

    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except OSError:
        raise
    except Exception as error:  # a damaged file makes its reader raise anything
        raise FileError(
            "the mask cannot be read",
            expected="a .npy file with a boolean array",
            received=f"{path} ({format_exception(error)})",
            advice="Write it with numpy.save(path, mask); True excludes.",
        ) from error
