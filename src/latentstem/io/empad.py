"""Frames of EMPAD detectors in ``.raw`` files without their ``.xml`` header, memory-mapped."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..scan.scan import Scan
from .file_format import FileFormat, ScanShape
from .series import scan_from_array

__all__ = ["EMPAD", "empad_headers"]

_FRAME_SHAPE = (130, 128)  # 128 rows of pixels, then two rows of metadata
_PIXEL_ROWS = 128
_FRAME_BYTES = 4 * _FRAME_SHAPE[0] * _FRAME_SHAPE[1]
_SCAN_IN_NAME = re.compile(r"x(\d+)_y(\d+)")  # as EMPAD's software names files: scan_x256_y128.raw


def _read_empad(path: Path, scan_shape: ScanShape) -> Scan | None:
    """The scan in a file; None if it is not of whole frames, or has a header that HyperSpy reads."""
    n_frames, rest = divmod(path.stat().st_size, _FRAME_BYTES)
    if rest or path.with_suffix(".rpl").exists() or empad_headers(path):
        return None
    frames = np.memmap(path, "<f4", "r", shape=(n_frames, *_FRAME_SHAPE))[:, :_PIXEL_ROWS]
    match = _SCAN_IN_NAME.search(path.stem)
    if scan_shape is None and match is not None:
        columns, rows = int(match[1]), int(match[2])
        scan_shape = (rows, columns) if rows * columns == n_frames else None
    return scan_from_array(frames, scan_shape)


def empad_headers(path: Path) -> list[Path]:
    """The ``.xml`` headers beside a ``.raw`` file that name it."""
    return [file for file in path.parent.glob("*.xml") if path.name in file.read_text(errors="ignore")]


EMPAD = FileFormat((".raw",), _read_empad)
