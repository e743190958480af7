"""Files that py4DSTEM reads and writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from ..io.pattern_files import PATTERN_DTYPE
from ..scan.scan import Axis, Scan
from .py4dstem_datacubes import datacube_like, latents_node, scan_from_datacube

if TYPE_CHECKING:
    from ..inference.embedding import Embedding

__all__ = ["create_pattern_file", "open_pattern_file", "save_latents", "scan_from_file"]

#: the spelling of diffraction units in py4DSTEM, and the factor to them
_PY4DSTEM_UNITS = {"1/angstrom": ("A^-1", 1.0), "1/nm": ("A^-1", 0.1), "mrad": ("mrad", 1.0)}
_PY4DSTEM_SUFFIXES = set(".h5 .hdf5 .emd .py4dstem .dm .dm3 .dm4 .raw .mrc .gtg .bin .mib".split())


def scan_from_file(path: Path, scan_shape: tuple[int, int] | None) -> Scan | None:
    """The scan in a file; None where py4DSTEM does not know its suffix."""
    if path.suffix.lower() not in _PY4DSTEM_SUFFIXES:
        return None
    import py4DSTEM

    return scan_from_datacube(py4DSTEM.import_file(str(path)), scan_shape)


@contextmanager
def create_pattern_file(path: Path, scan: Scan, template: Any, chunk: tuple[int, int]) -> Iterator[Any]:
    """Let py4DSTEM write a small datacube, replace its dataset by one of full size, and yield the dataset."""
    import py4DSTEM

    is_datacube = isinstance(template, py4DSTEM.DataCube)
    shape = template.data.shape if is_datacube else (*scan.scan_shape, *scan.pattern_shape)
    small = np.zeros([min(n, 2) for n in shape], PATTERN_DTYPE)  # axes are stored as their first two values
    datacube = datacube_like(template, small) if is_datacube else _make_datacube(small, scan)
    py4DSTEM.save(str(path), datacube, mode="o")
    with h5py.File(path, "a") as file:
        group = _find_datacube(file)
        attributes = dict(group["data"].attrs)
        del group["data"]
        dataset = group.create_dataset("data", shape, PATTERN_DTYPE)  # contiguous, to be memory-mapped
        dataset.attrs.update(attributes)
        yield dataset


def open_pattern_file(path: Path) -> np.memmap:
    """A memory map of the patterns in a file."""
    with h5py.File(path, "r") as file:
        dataset = _find_datacube(file)["data"]
        return np.memmap(path, dataset.dtype, "r", dataset.id.get_offset(), dataset.shape)


def save_latents(embedding: Embedding, path: Path) -> None:
    """Write latent maps as an array (k, Rx, Ry) in a tree of py4DSTEM."""
    import py4DSTEM

    units = embedding.axes[0].units or "pixels"
    py4DSTEM.save(str(path), latents_node(embedding, "latents", units), mode="w")


def _find_datacube(file: Any) -> Any:
    """The one datacube in a tree of py4DSTEM."""
    (root,) = file.values()
    return next(group for group in root.values() if group.attrs.get("python_class") == "DataCube")


def _make_datacube(patterns: np.ndarray, scan: Scan) -> Any:
    """A DataCube with the scan's calibration; py4DSTEM has one pixel size per pair of axes."""
    from py4DSTEM import DataCube

    datacube = DataCube(patterns, name=scan.name.replace("/", "-"))  # the name of a group in the file
    calibration = datacube.calibration
    step, units = _shared_scale(scan.axes[:2])
    if units:
        calibration.set_R_pixel_size(step)
        calibration.set_R_pixel_units(units)
    step, units = _shared_scale(scan.axes[2:])
    if units in _PY4DSTEM_UNITS:
        units, factor = _PY4DSTEM_UNITS[units]
        calibration.set_Q_pixel_size(step * factor)
        calibration.set_Q_pixel_units(units)
    return datacube


def _shared_scale(axes: tuple[Axis, ...]) -> tuple[float, str]:
    """Scale and units of two axes; empty units if the axes differ in them."""
    y, x = axes
    is_shared = y.units == x.units and np.isclose(y.scale, x.scale)
    return y.scale, y.units if is_shared else ""
