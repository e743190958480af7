"""py4DSTEM datacubes as scans, and latent maps as arrays of emdfile.

The axes of a datacube are Rx, Ry, Qx, Qy in this order; its x is the first axis, the scan row.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from emdfile import Array, Metadata

from ..errors import UnsupportedDataError
from ..io.arrays import as_pattern_source
from ..io.integrity import check_file_open
from ..io.units import normalise_units
from ..scan.scan import Axis, Scan, default_axes

if TYPE_CHECKING:
    from ..inference.embedding import Embedding

__all__ = ["METADATA_NAME", "datacube_like", "latents_node", "scan_from_datacube"]

METADATA_NAME = "latentstem"  # name of the metadata that mark a node of latent maps


def scan_from_datacube(datacube: Any, scan_shape: tuple[int, int] | None = None) -> Scan:
    """View a py4DSTEM ``DataCube`` as a `Scan`.

    Parameters
    ----------
    datacube : DataCube
        Its data may be an array in memory, a memory map, an h5py dataset or a dask array. Another object of py4DSTEM is an
        `UnsupportedDataError`.
    scan_shape : (int, int), optional
        Scan rows and columns (Rx, Ry) where the datacube holds one row of patterns.
    """
    from py4DSTEM.datacube.datacube import DataCube

    if not isinstance(datacube, DataCube):
        raise UnsupportedDataError(
            "not a datacube",
            expected="a py4DSTEM DataCube",
            received=f"{type(datacube).__module__}.{type(datacube).__qualname__}",
            advice="Give a datacube from its tree, or make one with py4DSTEM.DataCube(array).",
        )
    check_file_open(datacube.data)
    source = as_pattern_source(datacube.data, scan_shape)
    calibration = datacube.calibration
    scan_step = calibration.get_R_pixel_size(), calibration.get_R_pixel_units()
    pixel = calibration.get_Q_pixel_size(), calibration.get_Q_pixel_units()
    rx, ry, qx, qy = default_axes(source.shape)
    if source.shape == datacube.data.shape:
        rx, ry = _calibrated_axis("Rx", rx, *scan_step), _calibrated_axis("Ry", ry, *scan_step)
    axes = (rx, ry, _calibrated_axis("Qx", qx, *pixel), _calibrated_axis("Qy", qy, *pixel))
    return Scan(source, axes, name=datacube.name)


def datacube_like(datacube: Any, data: Any) -> Any:
    """A datacube of `data` with the name and a copy of the calibration of `datacube`."""
    from py4DSTEM.datacube.datacube import DataCube

    calibration = datacube.calibration.copy()
    calibration._params = copy.deepcopy(calibration._params)  # copy() shares the arrays
    return DataCube(data, name=datacube.name, calibration=calibration)


def latents_node(embedding: Embedding, name: str, units: str) -> Array:
    """Latent maps as a node of a tree, shape (k, Rx, Ry), float32; `units` of the scan axes as py4DSTEM writes them."""
    latents = Array(
        np.ascontiguousarray(np.moveaxis(embedding.maps, -1, 0)),
        name=name,
        dims=[np.arange(embedding.latent_dim), *(np.arange(a.size) * a.scale for a in embedding.axes)],
        dim_names=["latent", "Rx", "Ry"],
        dim_units=["", units, units],
    )
    latents.metadata = Metadata(METADATA_NAME, {"provenance": json.dumps(embedding.provenance)})
    return latents


def _calibrated_axis(name: str, axis: Axis, size: Any, units: Any) -> Axis:
    return replace(axis, name=name, scale=1.0 if size is None else float(size), units=normalise_units(units))
