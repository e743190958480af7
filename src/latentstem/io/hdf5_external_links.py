"""HDF5 files that point to other files: what they point to has to lie beside them."""

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
    """Refuse an HDF5 file that would have others read, from outside its own folder.

    Links to files in the same folder or below, and virtual datasets of them, are how detectors write frames; those
    files are checked too. What lies elsewhere could be any file of the user's, or a device that never ends.

    Raises
    ------
    FileError
    """
    home, waiting, seen = Path(os.path.abspath(path)).parent, [Path(os.path.abspath(path))], set[Path]()
    while waiting:
        here = waiting.pop()
        if here in seen:
            continue
        seen.add(here)
        for name, target in _elsewhere(file if len(seen) == 1 else here):
            for place in _places(target, here.parent):
                if not (place.is_relative_to(home) and place.is_file()):
                    raise FileError(
                        "file points to another one",
                        expected="data in the file itself, or in files in its folder",
                        received=f"{here}, whose {name} points to {target}",
                        advice="If you trust its source, copy the data into the file (h5repack), or give the "
                        "dataset as an array.",
                    )
                waiting.append(place)


def _places(target: str, folder: Path) -> list[Path]:
    """Where HDF5 would find a file of this name: as it stands, or by its last part in the folder."""
    tried = [os.path.join(base, target) for base in ("", folder)] + [folder / os.path.basename(target)]
    if "%" in target:  # the n-th file of a virtual dataset
        tried = [found for name in tried for found in glob(re.sub(r"%\d*b", "*", os.fspath(name)))]
    return [Path(place) for place in {os.path.abspath(place) for place in tried if os.path.lexists(place)}]


def _elsewhere(file: h5py.File | Path) -> Iterator[tuple[str, str]]:
    """Names of objects whose data are in other files, with the names of those; nothing is followed."""
    if isinstance(file, Path):
        try:
            with h5py.File(file, "r") as opened:
                yield from _elsewhere(opened)
        except OSError:  # no HDF5 file: nothing can be read through it
            return
        return
    links: list[bytes] = []
    datasets: list[h5py.Dataset] = []

    def note(name: bytes, info: h5py.h5l.LinkInfo) -> None:
        if info.type == h5py.h5l.TYPE_EXTERNAL:
            links.append(name)

    file.id.links.visit(note, info=True)
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
