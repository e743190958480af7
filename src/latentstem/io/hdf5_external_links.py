"""External links in HDF5 files: allowed only to files in the same folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import h5py

from ..errors import FileError

__all__ = ["check_external_links"]


def check_external_links(file: h5py.File, path: Path) -> None:
    """Refuse an HDF5 file with links to files outside its folder.

    Links and virtual datasets within the folder are common in detector files, and the linked files are checked too. A
    link out of the folder could lead to a private file, or to a device that never ends.

    Raises
    ------
    FileError
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
