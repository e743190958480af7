"""Files that HyperSpy reads and writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import h5py
import numpy as np

from ..errors import FileError
from ..io.empad import empad_headers
from ..io.files import SUPPORTED_FORMATS
from ..io.pattern_files import PATTERN_DTYPE
from ..scan.scan import Scan
from ..scan.validation import check_scan_shape
from .hyperspy_signals import scan_from_signal

if TYPE_CHECKING:
    from ..inference.embedding import Embedding

__all__ = ["create_pattern_file", "open_pattern_file", "save_latents", "scan_from_file"]

#: HyperSpy readers whose code was reviewed: they execute nothing from the file. Left out: netCDF, which evaluates
#: text, and HSPY and ZSPY, whose axes may contain expressions that sympy evaluates.
_SAFE_HYPERSPY_READERS = {
    "Blockfile",
    "DENS",
    "DigitalMicrograph",
    "EMD",
    "EMPAD",
    "Hamamatsu",
    "Image",
    "MRC",
    "MRCZ",
    "PantaRhei",
    "QuantumDetector",
    "Ripple",
    "Semper",
    "TIA",
    "TIFF",
    "TVIPS",
}


def scan_from_file(path: Path, scan_shape: tuple[int, int] | None) -> Scan:
    """The scan in a file that HyperSpy reads, by a reader that executes nothing from the file."""
    import hyperspy.api as hs
    from rsciio import IO_PLUGINS

    path, options = _hyperspy_load_arguments(path, hs.load)
    apis = {
        plugin["name"]: plugin["api"]
        for plugin in IO_PLUGINS
        if path.suffix[1:].lower() in plugin["file_extensions"]
    }
    readers = set(apis)
    if not readers:
        raise OSError(f"files with the suffix {path.suffix!r} are not known")
    if not options and not readers <= _SAFE_HYPERSPY_READERS:
        raise FileError(
            "file format can execute code",
            expected=SUPPORTED_FORMATS,
            received=f"{path}, which HyperSpy opens as {', '.join(sorted(readers))}",
            advice="If you trust its source, load it with hyperspy.api.load and give the signal.",
        )
    if scan_shape is not None and readers == {"QuantumDetector"}:  # else the header's scan shape wins
        options["navigation_shape"] = check_scan_shape(scan_shape)[::-1]
    signals, candidates = _load_signals(path, options)
    if len(candidates) == 1:
        signal = candidates[0]
        chunks = signal.data.chunks[-2:] if signal._lazy else ()
        splits_patterns = any(len(sizes) > 1 for sizes in chunks)
        if splits_patterns and len(readers) == 1 and _takes_chunks(*apis.values()):
            options["chunks"] = ("auto",) * (signal.data.ndim - 2) + (-1, -1)
            (signal,) = _load_signals(path, options)[1]
        return scan_from_signal(signal, scan_shape)
    raise FileError(
        "file holds several signals",
        expected="one scan",
        received=f"{path} with {', '.join(map(repr, signals[:6]))}",
        advice="Load it with hyperspy.api.load, and give one of the signals.",
    )


def _load_signals(path: Path, options: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """All signals in a file, lazy if the reader can, and those that may be scans."""
    import hyperspy.api as hs

    options = {**options, "escape_square_brackets": True}
    try:
        result = hs.load(str(path), lazy=True, **options)
    except NotImplementedError:  # the reader cannot read lazily
        result = hs.load(str(path), **options)
    signals = result if isinstance(result, list) else [result]
    return signals, next(
        (found for n in (4, 3) if (found := [s for s in signals if s.data.ndim == n])), signals
    )


def _takes_chunks(api: str) -> bool:
    return "chunks" in signature(import_module(api).file_reader).parameters


def _hyperspy_load_arguments(path: Path, load: Any) -> tuple[Path, dict[str, Any]]:
    """Path and arguments for HyperSpy's ``load``; they name the reader if the suffix is ambiguous."""
    suffix = path.suffix.lower()
    if suffix == ".raw":
        headers = empad_headers(path)
        path, suffix = (headers[0], ".xml") if len(headers) == 1 else (path, suffix)
    if suffix == ".xml":
        return path, {"file_format" if "file_format" in signature(load).parameters else "reader": "EMPAD"}
    if suffix == ".hdr" and path.with_suffix(".mib").is_file():
        return path.with_suffix(".mib"), {}
    return path, {}


@contextmanager
def create_pattern_file(path: Path, scan: Scan, template: Any, chunk: tuple[int, int]) -> Iterator[Any]:
    """Let HyperSpy write a file with a single value, replace its dataset by one of full size, and yield the dataset."""
    is_signal = hasattr(template, "axes_manager")
    shape = template.data.shape if is_signal else (*scan.scan_shape, *scan.pattern_shape)
    signal = template if is_signal else _make_signal(da.zeros(shape, dtype=PATTERN_DTYPE, chunks=-1), scan)
    # the axes keep their sizes
    signal = signal._deepcopy_with_new_data(np.zeros((1,) * len(shape), PATTERN_DTYPE))
    chunks = (chunk[0] * chunk[1], *shape[1:]) if len(shape) == 3 else (*chunk, *shape[2:])
    options = {"shape": shape, "dtype": PATTERN_DTYPE, "chunks": chunks}
    if path.suffix.lower() == ".zspy":
        import numcodecs
        import zarr

        signal.save(path)
        root = zarr.open_group(str(path), "a")
        ((_, group),) = root["Experiments"].groups()
        del group["data"]
        compressor = numcodecs.Blosc("zstd", 1)  # as HyperSpy compresses
        yield group.create_dataset("data", compressor=compressor, dimension_separator="/", **options)
        zarr.consolidate_metadata(root.store)
        return
    signal.save(path)
    with h5py.File(path, "a") as file:
        (group,) = file["Experiments"].values()
        del group["data"]
        yield group.create_dataset("data", compression="gzip", shuffle=True, **options)


def _make_signal(data: Any, scan: Scan) -> Any:
    from hyperspy.signals import Signal2D

    axes = [{**axis.as_dict(), "navigate": n < 2} for n, axis in enumerate(scan.axes)]
    signal = Signal2D(data, axes=axes)
    signal.metadata.General.title = scan.name
    return signal


def open_pattern_file(path: Path) -> Any:
    """The h5py.Dataset of an .hspy file, or the zarr.Array of a .zspy file, read-only."""
    if path.suffix.lower() == ".hspy":
        (group,) = h5py.File(path, "r")["Experiments"].values()
        return group["data"]
    import zarr

    (group,) = zarr.open(str(path), mode="r")["Experiments"].groups()
    return group[1]["data"]


def save_latents(embedding: Embedding, path: Path) -> None:
    """Write latent maps as a `LatentMaps` signal."""
    from .latent_maps import LatentMaps

    name = str(embedding.provenance.get("applied_to", {}).get("name", ""))
    LatentMaps.from_embedding(embedding, [axis.as_dict() for axis in embedding.axes], name).save(path)
