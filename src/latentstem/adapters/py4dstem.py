"""py4DSTEM datacubes: how they become a `Scan`, and the methods they get.

The axes of a datacube are Rx, Ry, Qx, Qy in this order; its x is the first axis, the scan row.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from emdfile import Array, Metadata

from ..errors import ArgumentError, UnsupportedDataError
from ..names import names_checked, training_names
from ..scan import Axis, Scan
from .arrays import default_axes, source_of
from .pattern_files import lazy_patterns, open_patterns
from .units import plain_units
from .validate import check_open

if TYPE_CHECKING:
    from pathlib import Path

    from ..embedding import Embedding
    from ..model import LatentModel

__all__ = ["embed", "latents_array", "reconstruct", "scan_of_datacube", "train_autoencoder", "with_data"]

_PROVENANCE = "latentstem"  # name of the metadata that tells our nodes from others


def scan_of_datacube(datacube: Any, scan_shape: tuple[int, int] | None = None) -> Scan:
    """View a py4DSTEM ``DataCube`` as a `Scan`.

    Parameters
    ----------
    datacube : DataCube
        Its data may be an array in memory, a memory map, an h5py dataset or a dask array.
    scan_shape : (int, int), optional
        Scan rows and columns (Rx, Ry) where the datacube holds one row of patterns.

    Returns
    -------
    Scan

    Raises
    ------
    UnsupportedDataError
        If `datacube` is another object of py4DSTEM.
    """
    from py4DSTEM.datacube.datacube import DataCube

    if not isinstance(datacube, DataCube):
        raise UnsupportedDataError(
            "not a datacube",
            expected="a py4DSTEM DataCube",
            received=f"{type(datacube).__module__}.{type(datacube).__qualname__}",
            advice="Give a datacube from its tree, or make one with py4DSTEM.DataCube(array).",
        )
    check_open(datacube.data)
    source = source_of(datacube.data, scan_shape)
    calibration = datacube.calibration
    r_size, r_units = calibration.get_R_pixel_size(), calibration.get_R_pixel_units()
    q_size, q_units = calibration.get_Q_pixel_size(), calibration.get_Q_pixel_units()
    rx, ry, qx, qy = default_axes(source.shape)
    if source.shape == datacube.data.shape:
        rx, ry = _calibrated("Rx", rx, r_size, r_units), _calibrated("Ry", ry, r_size, r_units)
    qx, qy = _calibrated("Qx", qx, q_size, q_units), _calibrated("Qy", qy, q_size, q_units)
    return Scan(source, (rx, ry, qx, qy), name=datacube.name, host="py4dstem")


@names_checked(training_names)
def train_autoencoder(
    datacube: Any,
    *,
    scan_shape: tuple[int, int] | None = None,
    scan_mask: Any = None,
    pattern_mask: Any = None,
    **training_arguments: Any,
) -> LatentModel:
    """Train an autoencoder on the diffraction patterns of this datacube.

    Parameters
    ----------
    scan_shape : (int, int), optional
        Scan rows and columns (Rx, Ry) where the datacube holds one row of patterns.
    scan_mask : array of bool, shape (Rx, Ry), optional
        True excludes the scan position.
    pattern_mask : array of bool, shape (Qx, Qy), optional
        True excludes the detector pixel.
    **training_arguments
        As for :func:`latentstem.train_autoencoder`: ``preset``, ``latent_dim``, ``epochs``, ``max_time``,
        ``output_dir`` ...

    Returns
    -------
    LatentModel
        For ``datacube.embed`` and ``datacube.reconstruct``. The datacube itself is not changed.
    """
    from ..training.fit import train_autoencoder as train

    masks = {"scan_mask": scan_mask, "pattern_mask": pattern_mask}
    return train(datacube, scan_shape=scan_shape, **masks, **training_arguments)


@names_checked()
def embed(
    datacube: Any,
    model: Any,
    *,
    name: str = "latents",
    scan_shape: tuple[int, int] | None = None,
    scan_mask: Any = None,
    smooth: int | None = None,
    client: Any = None,
    progress: bool = False,
) -> Array:
    """Latent maps of this datacube, stored on its tree under `name` and returned.

    Parameters
    ----------
    model : LatentModel or path
        A trained model, or its checkpoint.
    name : str
        Name of the node; latents that are there from before are replaced.
    scan_shape : (int, int), optional
        Scan rows and columns (Rx, Ry) where the datacube holds one row of patterns.
    scan_mask : array of bool, shape (Rx, Ry), optional
        True excludes the scan position; its latents are NaN.
    smooth : int, optional
        Radius, in scan positions, over which latents are smoothed where neighbours are alike; by default that of the
        context the model was trained with. 0: each position's own latents.
    client : distributed.Client, optional
        Whose workers do it.
    progress : bool
        Show a progress bar.

    Returns
    -------
    emdfile.Array, shape (k, Rx, Ry), float32
        Calibrated like the scan; ``metadata["latentstem"]`` says which model made it. It is saved with the
        datacube and can be read without LatentSTEM.

    Raises
    ------
    ArgumentError
        If the datacube's tree has something else under `name`.
    """
    from ..model import embed as embed_data

    _check_name(datacube, name)
    how = {"smooth": smooth, "client": client, "progress": progress}
    embedding = embed_data(datacube, model, scan_shape=scan_shape, scan_mask=scan_mask, **how)
    same_scan = embedding.maps.shape[:2] == datacube.Rshape
    units = datacube.calibration.get_R_pixel_units() if same_scan else "pixels"
    latents = latents_array(embedding, name, units)
    datacube.attach(latents)
    return latents


@names_checked()
def reconstruct(
    datacube: Any,
    model: Any,
    *,
    scan_shape: tuple[int, int] | None = None,
    scan_mask: Any = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    client: Any = None,
    progress: bool = False,
) -> Any:
    """The datacube as the model sees it: denoised, in the datacube's own units.

    Parameters
    ----------
    model : LatentModel or path
        A trained model, or its checkpoint.
    scan_shape : (int, int), optional
        Scan rows and columns (Rx, Ry) where the datacube holds one row of patterns.
    scan_mask : array of bool, shape (Rx, Ry), optional
        True excludes the scan position; its pattern is NaN.
    out : path, optional
        File to write block by block, never whole in memory: ``.h5`` for py4DSTEM, or ``.npy``, ``.npz``, ``.hspy``,
        ``.zspy``.
    overwrite : bool
        Replace a file that is there. The file that this datacube is read from is never replaced.
    client : distributed.Client, optional
        Whose workers do it.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DataCube
        float32, of this datacube's shape, with a copy of its calibration. Its data are in memory; with `out`, they stay
        in the file: a read-only memory map of ``.h5``, ``.npy`` and ``.npz``, an h5py dataset of ``.hspy``, a dask
        array of ``.zspy``.
    """
    from ..model import as_model
    from ..reconstruction import reconstruct as reconstruct_scan
    from ..reconstruction import write

    model = as_model(model)
    scan = model.fitting_scan(datacube, scan_shape, scan_mask)
    if out is None:
        data = reconstruct_scan(model, scan, client=client, progress=progress)
    else:
        how = {"overwrite": overwrite, "client": client, "progress": progress}
        path = write(model, scan, out, **how, like=datacube)
        data = lazy_patterns(path) if path.suffix.lower() == ".zspy" else open_patterns(path)
    return with_data(datacube, data.reshape(datacube.data.shape) if isinstance(data, np.ndarray) else data)


def with_data(datacube: Any, data: Any) -> Any:
    """A datacube of these data, with the name and a copy of the calibration of another."""
    from py4DSTEM.datacube.datacube import DataCube

    calibration = datacube.calibration.copy()
    calibration._params = copy.deepcopy(calibration._params)  # copy() shares the arrays
    return DataCube(data, name=datacube.name, calibration=calibration)


def latents_array(embedding: Embedding, name: str, units: str) -> Array:
    """Latent maps as a node of a tree.

    Parameters
    ----------
    embedding : Embedding
        Maps of shape (Rx, Ry, k).
    name : str
        Name of the node.
    units : str
        Units of the scan axes, as py4DSTEM writes them.

    Returns
    -------
    emdfile.Array, shape (k, Rx, Ry), float32
    """
    latents = Array(
        np.ascontiguousarray(np.moveaxis(embedding.maps, -1, 0)),
        name=name,
        dims=[
            np.arange(embedding.latent_dim),
            *(np.arange(axis.size) * axis.scale for axis in embedding.axes),
        ],
        dim_names=["latent", "Rx", "Ry"],
        dim_units=["", units, units],
    )
    latents.metadata = Metadata(_PROVENANCE, {"provenance": json.dumps(embedding.provenance)})
    return latents


def _calibrated(name: str, axis: Axis, size: Any, units: Any) -> Axis:
    return replace(axis, name=name, scale=1.0 if size is None else float(size), units=plain_units(units))


def _check_name(datacube: Any, name: str) -> None:
    """Whether latents may be stored under this name: it is free, or latents are there already."""
    named = isinstance(name, str) and bool(name) and "/" not in name
    present = datacube.tree(name) if named and name in datacube.treekeys else None
    if not named or (present is not None and _PROVENANCE not in present.metadata):
        what = "no name of a node" if present is None else f"a {type(present).__name__} that is there already"
        raise ArgumentError(
            "name of the latents",
            expected="a name that is free on the datacube's tree, without slashes",
            received=f"{name!r}, {what}",
            advice="Choose another name, for example datacube.embed(model, name='latents').",
        )
