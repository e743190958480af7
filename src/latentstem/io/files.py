"""Files as scans: read in place where possible, else by HyperSpy or py4DSTEM. Nothing in a file is executed."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError, LatentSTEMError, format_exception
from ..scan.scan import Scan
from ..util.paths import local_path
from .hdf5 import scan_from_hdf5, scan_from_hyperspy_group
from .host_table import HOSTS
from .npz import npz_array, npz_header
from .output_files import with_stored_axes
from .series import scan_from_array

__all__ = ["READ", "scan_from_file"]

ScanShape = tuple[int, int] | None
_HDF5 = {".h5", ".hdf5", ".he5", ".hspy", ".nxs"}
_ARCHIVES = {".zip", ".gz", ".tar", ".tgz", ".7z", ".rar", ".bz2", ".xz"}
#: what can be read, for messages
READ = (
    ".npy, .npz, .pt, .hspy, .zspy, .h5 and .emd (py4DSTEM, EMD, DECTRIS, plain HDF5), or what HyperSpy or "
    "py4DSTEM read (.mib, .blo, .dm4, .mrc, .ser, EMPAD .xml ...)"
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
        With the file's calibration. The data stay in the file where its format allows that.

    Raises
    ------
    FileError
        If the file is missing, damaged, of a kind that is not read, or does not hold one scan.
    ScanDimensionError, ScanShapeError, PatternShapeError, DataTypeError
        If what it holds is not a scan.
    """
    path = local_path(path).expanduser()
    _check(path)
    try:
        scan = _reader(path)(path, scan_shape)
        scan.read(np.zeros(1, dtype=np.int64))  # a damaged chunk or a missing filter shows here
    except LatentSTEMError:
        raise
    except Exception as error:  # readers raise whatever a damaged file makes them raise
        raise FileError(
            "file cannot be read",
            expected=f"a complete {path.suffix or 'data'} file",
            received=f"{path} ({format_exception(error)})",
            advice="The file may be truncated or damaged: copy or export it again."
            + (" `pip install hdf5plugin` adds compression filters." if "filter" in str(error) else ""),
        ) from error
    return scan.renamed(path.stem, "file", {**scan.metadata, "path": str(path)})


def _check(path: Path) -> None:
    received, advice = str(path), ""
    if not path.exists():
        received += ", which does not exist"
        folder = path.parent
        advice = f"There is no folder {folder}." if not folder.is_dir() else _similar(path)
    elif path.is_dir() and path.suffix != ".zspy" and not _is_zarr_array(path):
        received += ", a folder"
        advice = "Give the data file inside it."
    elif path.is_file() and path.stat().st_size == 0:
        received += ", which is empty"
        advice = "Copy or export it again."
    elif path.suffix.lower() in _ARCHIVES:
        received += ", an archive"
        advice = "Unpack it, and give the data file inside."
    elif path.suffix.lower() == ".ckpt":
        received += ", a model"
        advice = "Give the data here; latentstem.load(path) loads a model."
    if advice:
        raise FileError(
            "no data file", expected="an existing file that holds a scan", received=received, advice=advice
        )


def _similar(path: Path) -> str:
    names = sorted(file.name for file in path.parent.iterdir() if file.suffix == path.suffix)
    return (
        f"There are {', '.join(names[:5])} in that folder."
        if names
        else "Check the name, and the working directory."
    )


def _reader(path: Path) -> Callable[[Path, ScanShape], Scan]:
    suffix = path.suffix.lower()
    if path.is_dir() or suffix == ".zspy":
        return _zarr
    if suffix in _HDF5 or _starts_with(path, b"\x89HDF\r\n\x1a\n"):
        return _hdf5
    return {".npy": _npy, ".npz": _npz, ".pt": _torch, ".pth": _torch}.get(suffix, _by_host)


def _starts_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _is_zarr_array(path: Path) -> bool:
    return (path / ".zarray").is_file() or (path / "zarr.json").is_file()


def _npy(path: Path, scan_shape: ScanShape) -> Scan:
    return scan_from_array(np.load(path, mmap_mode="r", allow_pickle=False), scan_shape)


def _npz(path: Path, scan_shape: ScanShape) -> Scan:
    if not zipfile.is_zipfile(path):
        raise OSError("not a complete zip archive")
    with np.load(path, allow_pickle=False) as arrays:
        names = list(arrays)
    name = next((name for name in ("data", "counts") if name in names), None)
    if name is None:
        name = _only({name: npz_header(path, name)[0] for name in names}, path)
    scan = scan_from_array(npz_array(path, name), scan_shape)
    return with_stored_axes(scan, {"axes": npz_array(path, "axes")} if "axes" in names else {})


def _torch(path: Path, scan_shape: ScanShape) -> Scan:
    import torch

    try:
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:
        raise FileError(
            "tensor file cannot be read",
            expected="a tensor, or a dict with one tensor, saved with torch.save",
            received=f"{path} ({format_exception(error)})",
            advice="Files that need unpickling of other objects are refused; save the bare tensor: "
            "torch.save(tensor, path).",
        ) from error
    tensors = held if isinstance(held, dict) else {"tensor": held}
    tensors = {str(key): value for key, value in tensors.items() if isinstance(value, torch.Tensor)}
    named = [name for name in ("data", "counts") if name in tensors]
    name = named[0] if named else _only({name: tuple(tensor.shape) for name, tensor in tensors.items()}, path)
    tensor = tensors[name]
    if (
        tensor.layout is torch.strided
        and tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes()
    ):
        raise FileError(
            "the tensor repeats itself",
            expected="one stored value for each detector pixel of each pattern",
            received=f"{path} with a tensor of shape {tuple(tensor.shape)}, expanded from fewer values",
            advice="Save it whole: torch.save(tensor.contiguous(), path).",
        )
    return scan_from_array(tensor, scan_shape)


def _only(shapes: dict[str, tuple[int, ...]], path: Path) -> str:
    """The one array that may be a scan: the only one with four dimensions, or else with three."""
    if len(shapes) == 1:
        return next(iter(shapes))
    for n in (4, 3):
        names = [name for name, shape in shapes.items() if len(shape) == n]
        if len(names) == 1:
            return names[0]
        if names:
            break
    shown = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:8])
    raise FileError(
        "no array to choose",
        expected="an array named data or counts, or one 4-D array",
        received=f"{path} with {shown or 'no array'}",
        advice="Save the scan under the name data.",
    )


def _hdf5(path: Path, scan_shape: ScanShape) -> Scan:
    return scan_from_hdf5(path, scan_shape) or _by_host(path, scan_shape)


def _zarr(path: Path, scan_shape: ScanShape) -> Scan:
    try:
        import zarr
    except ImportError as error:
        raise _not_installed(path, "zarr") from error
    path = path.absolute()  # workers of a cluster may run in another folder
    store: Any = str(path) if path.is_dir() else zarr.storage.ZipStore(str(path), mode="r")
    root = zarr.open(store, mode="r")
    if hasattr(root, "dtype"):
        return scan_from_array(root, scan_shape)
    return scan_from_hyperspy_group(root["Experiments"], path, scan_shape)


def _by_host(path: Path, scan_shape: ScanShape) -> Scan:
    """What the first host makes of the file that can read it."""
    failures: dict[str, Exception] = {}
    for host in HOSTS:
        try:
            scan: Scan | None = host.functions.scan_from_file(path, scan_shape)
        except LatentSTEMError:
            raise
        except Exception as error:  # hosts' readers raise whatever a damaged file makes them raise
            failures[host.label] = error
            continue
        if scan is not None:
            return scan
    missing = {name for name, error in failures.items() if isinstance(error, ModuleNotFoundError)}
    told = "; ".join(
        f"{name} cannot be imported ({error})" if name in missing else f"{name}: {format_exception(error)}"
        for name, error in failures.items()
    )
    if missing:
        raise _not_installed(path, told)
    raise FileError(
        "file cannot be read",
        expected=READ,
        received=f"{path} ({told})",
        advice="If it is one of these, it may be damaged; otherwise convert it to .hspy or .npy.",
    )


def _not_installed(path: Path, said: str) -> FileError:
    return FileError(
        "a library is needed to read this file",
        expected="HyperSpy (or py4DSTEM), which read such files",
        received=f"{path}; {said}",
        advice="`pip install latentstem[hyperspy]` (or latentstem[py4dstem]).",
    )
