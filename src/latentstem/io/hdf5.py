"""Scans in HDF5 files (of py4DSTEM, EMD, HyperSpy, EBSD, plain ones) and in HyperSpy's zarr stores.

Datasets are read in place, so none of the libraries that wrote them has to be installed.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import FileError, LatentSTEMError, UnsupportedDataError
from ..scan.scan import Axis, Scan, default_axes
from ..scan.series import Series
from ..scan.validation import MIN_PATTERN_SIZE, check_dtype, find_layout
from .arrays import as_pattern_source
from .dectris import is_dectris, scan_from_dectris
from .file_format import FileFormat
from .integrity import check_external_links
from .navigation_axes import axes_error, ragged_error
from .series import is_series_array, series_from_array
from .units import normalise_units

with contextlib.suppress(ImportError):  # the compression filters of detectors, where they are installed
    import hdf5plugin  # noqa: F401

__all__ = ["HDF5", "scan_from_dataset", "scan_from_hdf5", "scan_from_hyperspy_group"]


def scan_from_hdf5(path: Path, scan_shape: tuple[int, int] | None) -> Scan | None:
    """The scan in an HDF5 file, read in place; None where HyperSpy is needed to understand the file."""
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise FileError(
            "HDF5 file cannot be opened",
            expected="a complete HDF5 file",
            received=f"{path} ({error})",
            advice="It may be truncated, or still open for writing elsewhere: copy or export it again.",
        ) from error
    check_external_links(file, path)
    if "Experiments" in file:
        return scan_from_hyperspy_group(file["Experiments"], path, scan_shape)
    if is_dectris(file):
        return scan_from_dectris(file, path, scan_shape)
    if path.suffix.lower() == ".emd" and "Data" in file and "Version" in file:  # Velox
        return None
    return scan_from_dataset(_find_scan_dataset(file, path, scan_shape), scan_shape)


def scan_from_dataset(dataset: Any, scan_shape: tuple[int, int] | None) -> Scan:
    """An h5py.Dataset as a scan, or as a series of scans, with the calibration in its group."""
    if is_series_array(dataset):
        return _series_from_dataset(dataset.parent, dataset)
    source = as_pattern_source(dataset, _ebsd_scan_shape(dataset, scan_shape))
    return Scan(source, _read_axes(dataset.parent, dataset.shape, source.shape))


def scan_from_hyperspy_group(experiments: Any, path: Path, scan_shape: tuple[int, int] | None) -> Scan:
    """The one scan among the signals of a HyperSpy file.

    Read without HyperSpy, because HyperSpy evaluates axes given as expressions.
    """
    signals = {name: experiments[name]["data"] for name in experiments}
    candidates = next(
        (names for n in (4, 5, 3) if (names := [name for name in signals if signals[name].ndim == n])),
        list(signals),
    )
    if len(candidates) != 1:
        raise FileError(
            "file holds several signals" if candidates else "file holds no signal",
            expected="one scan",
            received=f"{path} with {', '.join(f'{n} {signals[n].shape}' for n in candidates[:6]) or 'no signal'}",
            advice="Load it with hyperspy.api.load, and give one of the signals.",
        )
    group, dataset = experiments[candidates[0]], signals[candidates[0]]
    if dataset.dtype.kind == "O":
        raise ragged_error(f"{path} with ragged data of shape {dataset.shape}")
    axes = [dict(group[f"axis-{n}"].attrs) for n in range(dataset.ndim) if f"axis-{n}" in group]
    non_uniform = [
        str(axis.get("name", n)) for n, axis in enumerate(axes) if not {"scale", "offset"} <= axis.keys()
    ]
    if non_uniform:
        raise UnsupportedDataError(
            "non-uniform axis",
            expected="uniform axes, with one scale and one offset",
            received=f"{path} with non-uniform {', '.join(non_uniform)}",
            advice="Load it with hyperspy.api.load, interpolate with signal.interpolate_on_axis, and give the signal.",
        )
    navigate = [bool(axis.get("navigate")) for axis in axes]
    is_stack = navigate == [True, False, False] and scan_shape is not None
    if navigate == [True, True, True, False, False] and is_series_array(dataset):
        return _series_from_dataset(group, dataset)
    if not is_stack and navigate != [True, True, False, False]:
        n_axes = navigate.count(True), navigate.count(False)
        raise axes_error(*n_axes, f"{path} with data of shape {dataset.shape}")
    source = as_pattern_source(dataset, scan_shape)
    return Scan(source, _read_axes(group, dataset.shape, source.shape))


def _series_from_dataset(group: Any, dataset: Any) -> Series:
    """The scans of a dataset (T, Ny, Nx, H, W)."""
    series_axis = Axis("step", len(dataset))
    if "axis-0" in group:
        stored = group["axis-0"].attrs
        scale, offset = float(stored["scale"]), float(stored["offset"])
        series_axis = replace(series_axis, scale=scale, offset=offset, **_axis_units_and_name(stored))
    return series_from_array(dataset, _read_axes(group, dataset.shape, dataset.shape[1:]), series_axis)


def _read_axes(
    group: Any, stored_shape: tuple[int, ...], shape: tuple[int, int, int, int]
) -> tuple[Axis, Axis, Axis, Axis]:
    """Axes of a scan of this shape, calibrated by what the dataset's group (of h5py or zarr) stores."""
    axes = list(default_axes(shape))
    for position, calibration in _axis_calibrations(group, stored_shape, shape):
        axes[position] = replace(axes[position], **calibration)
    metadata = group.parent.get("metadatabundle/calibration", {}) if isinstance(group, h5py.Group) else {}
    for space, positions in (("R", (0, 1)), ("Q", (2, 3))):
        if f"{space}_pixel_size" in metadata:
            scale, units = metadata[f"{space}_pixel_size"][()], metadata[f"{space}_pixel_units"][()]
            for position in positions:
                axes[position] = replace(axes[position], scale=float(scale), units=normalise_units(units))
    return axes[0], axes[1], axes[2], axes[3]


def _axis_calibrations(
    group: Any, stored_shape: tuple[int, ...], shape: tuple[int, int, int, int]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (scan axis, calibration) for each calibration in a group."""
    axis_positions: tuple[int | None, ...] = (*(None,) * (len(stored_shape) - 2), 2, 3)  # of a stack
    if stored_shape[1:] == shape:  # a series
        axis_positions = (None, 0, 1, 2, 3)
    elif stored_shape[:2] == shape[:2]:
        axis_positions = (0, 1, *(None,) * (len(stored_shape) - 4), 2, 3)
    first = 0 if "dim0" in group else 1  # emdfile numbers dims from 0, older EMD files from 1
    for i, position in enumerate(axis_positions):
        if position is None:
            continue
        if f"axis-{i}" in group:
            axis = group[f"axis-{i}"].attrs
            calibration = {"scale": float(axis["scale"]), "offset": float(axis["offset"])}
        elif getattr(group.get(f"dim{i + first}"), "size", 0) > 1:
            values, axis = group[f"dim{i + first}"], group[f"dim{i + first}"].attrs
            calibration = {"scale": float(values[1]) - float(values[0]), "offset": float(values[0])}
        else:
            continue
        yield position, {**calibration, **_axis_units_and_name(axis)}


def _axis_units_and_name(axis: Any) -> dict[str, Any]:
    """Units of a stored axis, and its name if it has one."""
    name = axis.get("name")
    name = name.decode() if isinstance(name, bytes) else name
    has_name = isinstance(name, str) and name and "undefined" not in name
    return {"units": normalise_units(axis.get("units")), **({"name": name} if has_name else {})}


def _find_scan_dataset(file: h5py.File, path: Path, scan_shape: tuple[int, int] | None) -> h5py.Dataset:
    """The only dataset that is a scan, or else the most likely one, so that the user sees what is wrong with it."""
    datasets: list[h5py.Dataset] = []
    file.visititems(lambda _, item: datasets.append(item) if isinstance(item, h5py.Dataset) else None)
    possible_scans = [item for item in datasets if item.ndim >= 3]
    datacubes = [item for item in possible_scans if item.parent.attrs.get("python_class") == "DataCube"]
    scans = [item for item in possible_scans if item.ndim >= 4]
    stacks = [item for item in possible_scans if item.ndim == 3]
    for candidates in (datacubes, scans, stacks):
        fitting = [item for item in candidates if _is_scan(item, scan_shape)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise FileError(
                "file holds several scans",
                expected="one scan",
                received=f"{path} with {_describe_datasets(fitting)}",
                advice=f"Give one of them: h5py.File({str(path)!r})[{fitting[0].name!r}].",
            )
    stacks = [item for item in stacks if min(item.shape[1:]) >= MIN_PATTERN_SIZE and len(item) > 1]
    if scans or stacks:
        return max(scans or stacks, key=lambda item: item.size)
    raise FileError(
        "no scan in this HDF5 file",
        expected="a 4-D dataset (Ny, Nx, H, W), or a stack of patterns (N, H, W)",
        received=f"{path} with {_describe_datasets(datasets) or 'no dataset'}",
        advice="This may be a metadata file whose patterns are in another file.",
    )


def _describe_datasets(datasets: list[h5py.Dataset]) -> str:
    return ", ".join(f"{item.name} {item.shape}" for item in datasets[:6])


def _is_scan(dataset: h5py.Dataset, scan_shape: tuple[int, int] | None) -> bool:
    try:
        find_layout(dataset.shape, _ebsd_scan_shape(dataset, scan_shape))
        check_dtype(dataset.dtype)
    except LatentSTEMError:
        return False
    return True


def _ebsd_scan_shape(dataset: h5py.Dataset, scan_shape: tuple[int, int] | None) -> tuple[int, int] | None:
    """`scan_shape` if given, else the scan shape from the header of an EBSD file."""
    header = dataset.parent.parent.get("Header") if dataset.parent.name != "/" else None
    if scan_shape is not None or dataset.ndim != 3 or not isinstance(header, h5py.Group):
        return scan_shape
    names = {re.sub(r"[^a-z]", "", name.lower()): name for name in header}
    rows, columns = (
        next((int(np.ravel(header[names[key]][()])[0]) for key in keys if key in names), 0)
        for keys in (("nrows",), ("ncolumns", "ncols"))
    )
    return (rows, columns) if rows * columns == len(dataset) else None


HDF5 = FileFormat((".h5", ".hdf5", ".he5", ".hspy", ".nxs"), scan_from_hdf5, magic=b"\x89HDF\r\n\x1a\n")
