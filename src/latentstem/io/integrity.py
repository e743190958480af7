"""Checks of datasets in files, before anything is read from them."""

from __future__ import annotations

import math
import os
from typing import Any

from ..errors import FileError

__all__ = ["check_dataset_integrity", "check_file_open"]

_MAX_COMPRESSION_RATIO = 10_000  # of data size to file size; a larger one is refused ...
_MIN_CHECKED_BYTES = (
    2**36
)  # ... if the data are larger than this (the file of a new dataset may be nearly empty)
_MAX_CHUNKS_CHECKED = 200_000  # about a second


def check_file_open(data: Any) -> None:
    """Refuse an h5py dataset whose file has been closed.

    Raises
    ------
    FileError
    """
    if type(data).__module__.startswith("h5py") and not data:
        raise FileError(
            "the HDF5 file is closed",
            expected="a dataset of an open file",
            received="a dataset whose file has been closed",
            advice="Open it again, and keep it open: h5py.File(path, 'r').",
        )


def check_dataset_integrity(array: Any) -> None:
    """Refuse an h5py dataset or zarr array that is larger than its file can hold, or uses the pickle codec.

    Raises
    ------
    FileError
    """
    codecs = [*(getattr(array, "filters", None) or ()), getattr(array, "compressor", None)]
    if any(getattr(codec, "codec_id", "") == "pickle" for codec in codecs):
        raise FileError(
            "chunks are pickles",
            expected="chunks of numbers, compressed or not",
            received=f"a zarr array with the codecs {', '.join(map(repr, codecs))}",
            advice="Write it again without the codec 'pickle', which would run code from the file.",
        )
    file = getattr(array, "file", None)  # an h5py dataset has one
    if file is None or file.mode != "r" or array.is_virtual or array.external:
        return  # files being written are incomplete
    if not os.path.isfile(file.filename):
        return
    file_bytes, nbytes = os.path.getsize(file.filename), math.prod(array.shape) * array.dtype.itemsize
    if nbytes > max(_MIN_CHECKED_BYTES, _MAX_COMPRESSION_RATIO * file_bytes):
        raise FileError(
            "data are larger than their file can hold",
            expected=f"at most {_MAX_COMPRESSION_RATIO:,} times the {file_bytes:,} bytes of the file",
            received=f"{array.name} of shape {array.shape}, {nbytes:,} bytes",
            advice="The file is damaged or was never filled: copy or export it again.",
        )
    if array.chunks is not None and _has_invalid_chunks(array, file_bytes):
        raise FileError(
            "chunk index is damaged",
            expected="chunks that lie inside the file",
            received=f"{array.name} of {file.filename}, with chunks outside it",
            advice="The file is damaged: copy or export it again.",
        )


def _has_invalid_chunks(dataset: Any, file_bytes: int) -> bool:
    """Whether the chunk index points outside the file; HDF5 can crash on such files."""
    n_checked = 0

    def is_invalid(chunk: Any) -> bool | None:
        nonlocal n_checked
        n_checked += 1
        is_inside = 0 < chunk.byte_offset and 0 < chunk.size and chunk.byte_offset + chunk.size <= file_bytes
        if not is_inside:
            return True
        return False if n_checked == _MAX_CHUNKS_CHECKED else None

    return bool(dataset.id.chunk_iter(is_invalid))
