"""DECTRIS detectors (Arina, Quadro ...): a master file that links to the data files."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import FileError, UnsupportedDataError
from ..scan.scan import Scan, default_axes
from ..scan.validation import check_dtype, find_layout
from .chunks import ChunkedSource

__all__ = ["FrameStack", "is_dectris", "scan_from_dectris"]

_FRAME_DATASET = re.compile(r"data_\d{6}")
_PIXEL_MASK = "entry/instrument/detector/detectorSpecific/pixel_mask"


class FrameStack:
    """Datasets of frames, each (n, H, W), read as one stack (N, H, W).

    Parameters
    ----------
    datasets : list of h5py.Dataset
        In the order of the scan.
    """

    chunks = None  # frames are stored one by one

    def __init__(self, datasets: list[h5py.Dataset]) -> None:
        self._datasets = datasets
        self._starts = np.cumsum([0, *(len(dataset) for dataset in datasets)])
        self.shape = (int(self._starts[-1]), *datasets[0].shape[1:])
        self.dtype = datasets[0].dtype

    @property
    def files(self) -> set[str]:
        """Paths of the data files."""
        return {dataset.file.filename for dataset in self._datasets}

    def __getitem__(self, selection: tuple[slice]) -> np.ndarray:
        """Frames from start to stop, shape (stop - start, H, W)."""
        (span,) = selection
        parts = [
            dataset[max(span.start - first, 0) : span.stop - first]
            for dataset, first in zip(self._datasets, self._starts, strict=False)
            if first < span.stop and span.start < first + len(dataset)
        ]
        return np.concatenate(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_frames, (
            [(os.path.abspath(dataset.file.filename), dataset.name) for dataset in self._datasets],
        )


def _open_frames(datasets: list[tuple[str, str]]) -> FrameStack:
    return FrameStack([h5py.File(filename, "r")[name] for filename, name in datasets])


def is_dectris(file: h5py.File) -> bool:
    """Whether an HDF5 file is a DECTRIS master file."""
    group = file.get("entry/data")
    return isinstance(group, h5py.Group) and any(_FRAME_DATASET.fullmatch(name) for name in group)


def scan_from_dectris(file: h5py.File, path: Path, scan_shape: tuple[int, int] | None) -> Scan:
    """The scan that a master file describes.

    The detector's mask of bad pixels becomes the pattern mask; the scan shape and step are taken from the
    microscope's file ``<name>.h5`` beside ``<name>_master.h5``, if it exists.
    """
    links = file["entry/data"]
    names = sorted(filter(_FRAME_DATASET.fullmatch, links))
    try:
        datasets = [links[name] for name in names]
    except (KeyError, OSError) as error:
        targets = [links.get(name, getlink=True) for name in names]
        files = [target.filename for target in targets if isinstance(target, h5py.ExternalLink)]
        missing = [name for name in files if not (path.parent / name).exists()]
        raise FileError(
            "frames are missing",
            expected="the files of frames that the master file links to, beside it",
            received=f"{path} without {', '.join(missing)}",
            advice="Copy the *_data_*.h5 files into the folder of the master file.",
        ) from error
    shapes_and_dtypes = {(dataset.shape[1:], str(dataset.dtype)) for dataset in datasets}
    if len(shapes_and_dtypes) > 1:
        raise UnsupportedDataError(
            "frames differ",
            expected="frames of one shape and dtype",
            received=f"{path} with {', '.join(map(str, sorted(shapes_and_dtypes)))}",
            advice="Give the dataset of one file: h5py.File(path)['entry/data/data'].",
        )
    frames = FrameStack(datasets)
    check_dtype(frames.dtype)
    stored_shape, step = _scan_metadata(path)
    if scan_shape is None and stored_shape and np.prod(stored_shape) == frames.shape[0]:
        scan_shape = stored_shape
    layout = find_layout(frames.shape, scan_shape)
    y, x, ky, kx = default_axes(layout.shape)
    if step:
        y, x = (replace(axis, scale=step, units="nm") for axis in (y, x))
    bad_pixels = np.asarray(file[_PIXEL_MASK]) != 0 if _PIXEL_MASK in file else np.zeros(0, bool)
    is_usable = bad_pixels.shape == layout.shape[2:] and bad_pixels.any() and not bad_pixels.all()
    return Scan(ChunkedSource(frames, layout), (y, x, ky, kx), pattern_mask=bad_pixels if is_usable else None)


def _scan_metadata(path: Path) -> tuple[tuple[int, int] | None, float]:
    """Scan shape and step in nm from the microscope's file; (None, 0.0) if it does not exist."""
    metadata_path = path.with_name(path.name.replace("_master.h5", ".h5"))
    if metadata_path == path or not metadata_path.exists() or not h5py.is_hdf5(metadata_path):
        return None, 0.0
    with h5py.File(metadata_path, "r") as file:
        attributes = dict(file["STEM Metadata"].attrs) if "STEM Metadata" in file else {}
    try:
        return (int(attributes["NumPixelsY"]), int(attributes["NumPixelsX"])), float(
            np.ravel(attributes["Pixel Size"])[0]
        )
    except (KeyError, ValueError):
        return None, 0.0
