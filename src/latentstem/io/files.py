"""Scans in files, read in place where possible, else by HyperSpy or py4DSTEM. Nothing in a file is executed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..errors import FileError, LatentSTEMError, format_exception
from ..scan.scan import Scan
from ..util.paths import local_path
from .array_files import NPY, NPZ, TORCH, ZARR, is_zarr_store
from .empad import EMPAD
from .file_format import ScanShape, not_installed_error
from .hdf5 import HDF5
from .host_table import HOSTS

__all__ = ["FORMATS", "SUPPORTED_FORMATS", "scan_from_file"]

#: formats that are read without a host; other files are offered to the hosts
FORMATS = (HDF5, NPY, NPZ, TORCH, ZARR, EMPAD)

_ARCHIVE_SUFFIXES = {".zip", ".gz", ".tar", ".tgz", ".7z", ".rar", ".bz2", ".xz"}
#: the formats that can be read, in words for messages
SUPPORTED_FORMATS = (
    ".npy, .npz, .pt, .hspy, .zspy, .h5 and .emd (py4DSTEM, EMD, DECTRIS, plain HDF5), or what HyperSpy or "
    "py4DSTEM read (.mib, .blo, .dm4, .mrc, .ser, EMPAD .xml and .raw ...)"
)


def scan_from_file(path: str | os.PathLike[str], scan_shape: ScanShape = None) -> Scan:
    """The scan in a file.

    Parameters
    ----------
    path : path
        A file, or the folder of a zarr store (.zspy, .zarr).
    scan_shape : (int, int), optional
        Scan rows and columns, where the file holds a stack of patterns.

    Returns
    -------
    Scan
        With the file's calibration. Data stay on disk if the format allows it.

    Raises
    ------
    FileError
        If the file is missing, damaged, of an unsupported format, or does not contain one scan.
    ScanDimensionError, ScanShapeError, PatternShapeError, DataTypeError
        If its content is not a scan.
    """
    path = local_path(path).expanduser()
    _check_path(path)
    try:
        file_format = next((candidate for candidate in FORMATS if candidate.matches(path)), None)
        scan = None if file_format is None else file_format.read(path, scan_shape)
        scan = scan or _read_with_host(path, scan_shape)
        scan.read(np.zeros(1, dtype=np.int64))  # fails early for damaged chunks or missing filters
    except LatentSTEMError:
        raise
    except Exception as error:  # damaged files can raise any exception
        raise FileError(
            "file cannot be read",
            expected=f"a complete {path.suffix or 'data'} file",
            received=f"{path} ({format_exception(error)})",
            advice="The file may be truncated or damaged: copy or export it again."
            + (" `pip install hdf5plugin` adds compression filters." if "filter" in str(error) else ""),
        ) from error
    return scan.renamed(path.stem, {**scan.metadata, "path": str(path)}, [str(path)])


def _check_path(path: Path) -> None:
    received, advice = str(path), ""
    if not path.exists():
        received += ", which does not exist"
        folder = path.parent
        advice = f"There is no folder {folder}." if not folder.is_dir() else _list_similar_files(path)
    elif path.is_dir() and not is_zarr_store(path):
        received += ", a folder"
        advice = "Give the data file inside it."
    elif path.is_file() and path.stat().st_size == 0:
        received += ", which is empty"
        advice = "Copy or export it again."
    elif path.suffix.lower() in _ARCHIVE_SUFFIXES:
        received += ", an archive"
        advice = "Unpack it, and give the data file inside."
    elif path.suffix.lower() == ".ckpt":
        received += ", a model"
        advice = "Give the data here; latentstem.load(path) loads a model."
    if advice:
        raise FileError(
            "no data file", expected="an existing file that contains a scan", received=received, advice=advice
        )


def _list_similar_files(path: Path) -> str:
    names = sorted(file.name for file in path.parent.iterdir() if file.suffix == path.suffix)
    return (
        f"There are {', '.join(names[:5])} in that folder."
        if names
        else "Check the name, and the working directory."
    )


def _read_with_host(path: Path, scan_shape: ScanShape) -> Scan:
    """The scan, read by the first host that can read the file."""
    failures: dict[str, Exception] = {}
    for host in HOSTS:
        try:
            scan: Scan | None = host.functions.scan_from_file(path, scan_shape)
        except LatentSTEMError:
            raise
        except Exception as error:  # damaged files can raise any exception
            failures[host.label] = error
            continue
        if scan is not None:
            return scan
    missing = {name for name, error in failures.items() if isinstance(error, ModuleNotFoundError)}
    reasons = "; ".join(
        f"{name} cannot be imported ({error})" if name in missing else f"{name}: {format_exception(error)}"
        for name, error in failures.items()
    )
    if missing:
        raise not_installed_error(path, reasons)
    raise FileError(
        "file cannot be read",
        expected=SUPPORTED_FORMATS,
        received=f"{path} ({reasons})",
        advice="If it is one of these, it may be damaged; otherwise convert it to .hspy or .npy.",
    )
