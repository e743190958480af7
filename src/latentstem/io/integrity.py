"""Checks of HDF5 files and of datasets, before anything is read from them."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

import h5py

from ..errors import FileError

__all__ = ["check_dataset_integrity", "check_external_links", "check_file_open"]

_MAX_COMPRESSION_RATIO = 10_000  # of data size to file size; a larger one is refused ...
_MIN_CHECKED_BYTES = 2**36  # ... if the data are larger; the file of a new dataset may be nearly empty
_MAX_CHUNKS_CHECKED = 200_000  # about a second


def check_file_open(data: Any) -> None:
    """Raise a FileError for an h5py dataset whose file has been closed."""
    if type(data).__module__.startswith("h5py") and not data:
        raise FileError(
            "the HDF5 file is closed",
            expected="a dataset of an open file",
            received="a dataset whose file has been closed",
            advice="Open it again, and keep it open: h5py.File(path, 'r').",
        )


def check_dataset_integrity(array: Any) -> None:
    """Raise a FileError for a dataset that is larger than its file can hold, or a zarr array with the pickle codec."""
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
    numbers = itertools.count(1)

    def is_invalid(chunk: Any) -> bool | None:
        is_inside = 0 < chunk.byte_offset and 0 < chunk.size and chunk.byte_offset + chunk.size <= file_bytes
        if not is_inside:
            return True
        return False if next(numbers) == _MAX_CHUNKS_CHECKED else None

    return bool(dataset.id.chunk_iter(is_invalid))


def check_external_links(file: h5py.File, path: Path) -> None:
    """Raise a FileError for an HDF5 file with links to files outside its folder.

    Links and virtual datasets within the folder are common in detector files, and the linked files are checked too. A
    link out of the folder could lead to a private file, or to a device that never ends.
    """
    first_file = Path(os.path.abspath(path))
    folder, pending_files, checked_files = first_file.parent, [first_file], set[Path]()
    while pending_files:
        current = pending_files.pop()
        if current in checked_files:
            continue
        checked_files.add(current)
        for name, target in _external_references(file if current == first_file else current):
            for candidate in _candidate_paths(target, current.parent):
                if not (candidate.is_relative_to(folder) and candidate.is_file()):
                    raise FileError(
                        "file links outside its folder",
                        expected="data in the file itself, or in files in its folder",
                        received=f"{current}, whose {name} points to {target}",
                        advice="If you trust its source, copy the data into the file (h5repack), or give the "
                        "dataset as an array.",
                    )
                pending_files.append(candidate)


def _candidate_paths(target: str, folder: Path) -> list[Path]:
    """Existing paths that HDF5 tries for a link target: as given, relative to the folder, by file name in the folder."""
    paths = [os.path.join(base, target) for base in ("", folder)] + [folder / os.path.basename(target)]
    if "%" in target:  # the n-th file of a virtual dataset
        paths = [match for name in paths for match in glob(re.sub(r"%\d*b", "*", os.fspath(name)))]
    return [
        Path(candidate)
        for candidate in {os.path.abspath(candidate) for candidate in paths if os.path.lexists(candidate)}
    ]


def _external_references(file: h5py.File | Path) -> Iterator[tuple[str, str]]:
    """Yield (name of the object, file that it refers to) for every external reference, without following it."""
    if isinstance(file, Path):
        try:
            with h5py.File(file, "r") as opened:
                yield from _external_references(opened)
        except OSError:  # no HDF5 file: nothing can be read through it
            return
        return
    links: list[bytes] = []
    datasets: list[h5py.Dataset] = []

    def collect_links(name: bytes, info: h5py.h5l.LinkInfo) -> None:
        if info.type == h5py.h5l.TYPE_EXTERNAL:
            links.append(name)

    file.id.links.visit(collect_links, info=True)
    for link in links:
        target, _ = file.id.links.get_val(link)
        yield os.fsdecode(link), os.fsdecode(target)
    file.visititems(lambda _, item: datasets.append(item) if isinstance(item, h5py.Dataset) else None)
    for dataset in datasets:
        for raw, *_ in dataset.external or ():
            yield f"raw data of {dataset.name}", os.fsdecode(raw)
        for source in dataset.virtual_sources() if dataset.is_virtual else ():
            if source.file_name != ".":
                yield f"virtual dataset {dataset.name}", source.file_name
