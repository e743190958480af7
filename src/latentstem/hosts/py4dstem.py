"""The methods ``train_autoencoder``, ``embed`` and ``reconstruct`` of py4DSTEM's datacubes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError
from ..functions import as_model, training_argument_names
from ..functions import embed as embed_data
from ..functions import train_autoencoder as train
from ..io.pattern_files import lazy_patterns, open_patterns
from ..util.argument_checks import reject_unknown_kwargs
from .py4dstem_datacubes import METADATA_NAME, datacube_like, latents_node, scan_from_datacube
from .py4dstem_files import create_pattern_file, open_pattern_file, save_latents, scan_from_file

if TYPE_CHECKING:
    from pathlib import Path

    from emdfile import Array

    from ..inference.model import LatentModel

__all__ = [
    "create_pattern_file",
    "embed",
    "open_pattern_file",
    "reconstruct",
    "save_latents",
    "scan_from_file",
    "scan_from_object",
    "train_autoencoder",
]

scan_from_object = scan_from_datacube


@reject_unknown_kwargs(training_argument_names)
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
    masks = {"scan_mask": scan_mask, "pattern_mask": pattern_mask}
    return train(datacube, scan_shape=scan_shape, **masks, **training_arguments)


@reject_unknown_kwargs()
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
    """Latent maps of this datacube, which are also stored in its tree.

    Parameters
    ----------
    model : LatentModel or path
        A trained model, or its checkpoint.
    name : str
        Name of their node in the tree; latents that have this name already are replaced.
    scan_shape, scan_mask
        As for ``datacube.train_autoencoder``. Latents of excluded scan positions are NaN.
    smooth, client, progress
        See :meth:`latentstem.LatentModel.embed`.

    Returns
    -------
    emdfile.Array, shape (k, Rx, Ry), float32
        Calibrated like the scan; ``metadata["latentstem"]`` holds the provenance. Saved with the datacube, readable
        without LatentSTEM.

    Raises
    ------
    ArgumentError
        If `name` is not a valid name, or another node of the tree has it.
    """
    _check_node_name(datacube, name)
    options = {"smooth": smooth, "client": client, "progress": progress}
    embedding = embed_data(datacube, model, scan_shape=scan_shape, scan_mask=scan_mask, **options)
    same_scan = embedding.maps.shape[:2] == datacube.Rshape
    units = datacube.calibration.get_R_pixel_units() if same_scan else "pixels"
    latents = latents_node(embedding, name, units)
    datacube.attach(latents)
    return latents


@reject_unknown_kwargs()
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
    """Reconstruct the patterns with the model: denoised, in the datacube's units.

    Parameters
    ----------
    model : LatentModel or path
        A trained model, or its checkpoint.
    scan_shape, scan_mask
        As for ``datacube.train_autoencoder``. Patterns at excluded scan positions are NaN.
    out, overwrite, client, progress
        See :meth:`latentstem.LatentModel.reconstruct`.

    Returns
    -------
    DataCube
        float32, of this datacube's shape, with a copy of its calibration. Its data are in memory; with `out`, they stay
        in the file: a read-only memory map of ``.h5``, ``.npy`` and ``.npz``, an h5py dataset of ``.hspy``, a dask
        array of ``.zspy``.
    """
    from ..inference.reconstruction import reconstruct as reconstruct_scan
    from ..inference.reconstruction import write_reconstruction

    model = as_model(model)
    scan = model.open_matching_scan(datacube, scan_shape, scan_mask)
    if out is None:
        data = reconstruct_scan(model.autoencoder, scan, client=client, progress=progress)
    else:
        options = {"overwrite": overwrite, "client": client, "progress": progress}
        path = write_reconstruction(model.autoencoder, scan, out, **options, template=datacube)
        data = lazy_patterns(path) if path.suffix.lower() == ".zspy" else open_patterns(path)
    if isinstance(data, np.ndarray):
        data = data.reshape(datacube.data.shape)
    return datacube_like(datacube, data)


def _check_node_name(datacube: Any, name: str) -> None:
    """Check that the node name is free or holds latents."""
    reason = ""
    if not isinstance(name, str) or not name or "/" in name:
        reason = "not a valid node name"
    elif name in datacube.treekeys and METADATA_NAME not in datacube.tree(name).metadata:
        reason = f"which is already a {type(datacube.tree(name)).__name__}"
    if reason:
        raise ArgumentError(
            "name of the latents",
            expected="a name that is free in the datacube's tree, without slashes",
            received=f"{name!r}, {reason}",
            advice="Choose another name, for example datacube.embed(model, name='latents').",
        )
