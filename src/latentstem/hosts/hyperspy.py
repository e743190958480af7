"""The methods ``train_autoencoder``, ``embed`` and ``reconstruct`` of HyperSpy's signals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError
from ..functions import as_model, training_argument_names
from ..functions import embed as embed_data
from ..functions import train_autoencoder as train
from ..io.host_table import host_that_writes
from ..io.pattern_files import lazy_patterns
from ..scan.series import located_errors, one_value_per_scan
from ..util.argument_checks import reject_unknown_kwargs
from .hyperspy_files import create_pattern_file, open_pattern_file, save_latents, scan_from_file
from .hyperspy_signals import get_title, is_series_signal, scan_from_signal, split_series

if TYPE_CHECKING:
    from pathlib import Path

    from ..inference.model import LatentModel
    from .latent_maps import LatentMaps

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

scan_from_object = scan_from_signal

#: names of the masks in `latentstem.train_autoencoder`, and here as HyperSpy calls them
_ARGUMENT_ALIASES = {"scan_mask": "navigation_mask", "pattern_mask": "signal_mask"}


@reject_unknown_kwargs(training_argument_names, _ARGUMENT_ALIASES)
def train_autoencoder(
    signal: Any,
    *,
    scan_shape: tuple[int, int] | None = None,
    navigation_mask: Any = None,
    signal_mask: Any = None,
    **training_arguments: Any,
) -> LatentModel:
    """Train an autoencoder on the diffraction patterns of this signal.

    Parameters
    ----------
    scan_shape : (int, int), optional
        Scan rows and columns (Ny, Nx) of a signal with one navigation axis.
    navigation_mask : array of bool, shape (Ny, Nx), or signal of that shape, optional
        True excludes the scan position. Axis order as in ``signal.data``; for a series (three navigation axes),
        shape (T, Ny, Nx).
    signal_mask : array of bool, shape (H, W), or signal of that shape, optional
        True excludes the detector pixel.
    **training_arguments
        As for :func:`latentstem.train_autoencoder`: ``preset``, ``latent_dim``, ``epochs``, ``max_time``,
        ``output_dir`` ...

    Returns
    -------
    LatentModel
        For ``signal.embed`` and ``signal.reconstruct``. The signal itself is not changed.
    """
    return train(
        signal,
        scan_shape=scan_shape,
        scan_mask=_mask_array(navigation_mask),
        pattern_mask=_mask_array(signal_mask),
        **training_arguments,
    )


@reject_unknown_kwargs(aliases=_ARGUMENT_ALIASES)
def embed(
    signal: Any,
    model: Any,
    *,
    scan_shape: tuple[int, int] | None = None,
    navigation_mask: Any = None,
    smooth: int | None = None,
    client: Any = None,
    progress: bool = False,
) -> LatentMaps:
    """Latent maps of this signal.

    Parameters
    ----------
    model : LatentModel or path
        A trained model, or its checkpoint.
    scan_shape, navigation_mask
        As for ``signal.train_autoencoder``. Latents of excluded scan positions are NaN.
    smooth, client, progress
        See :meth:`latentstem.LatentModel.embed`.

    Returns
    -------
    LatentMaps
        Latents on the navigation axis, the scan axes as signal axes. In memory, also for a lazy signal. For a series
        (three navigation axes), the slowest navigation axis becomes the second navigation axis.
    """
    from .latent_maps import LatentMaps

    mask = _mask_array(navigation_mask)
    options = {"smooth": smooth, "client": client, "progress": progress}
    embedding = embed_data(signal, model, scan_shape=scan_shape, scan_mask=mask, **options)
    axes = [axis.get_axis_dictionary() for axis in signal.axes_manager.navigation_axes[::-1]]
    if len(axes) == 1:  # a stack of patterns
        axes = [axis.as_dict() for axis in embedding.axes]
    return LatentMaps.from_embedding(embedding, axes, get_title(signal))


@reject_unknown_kwargs(aliases=_ARGUMENT_ALIASES)
def reconstruct(
    signal: Any,
    model: Any,
    *,
    scan_shape: tuple[int, int] | None = None,
    navigation_mask: Any = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    client: Any = None,
    progress: bool = False,
) -> Any:
    """Reconstruct the patterns with the model: denoised, in the signal's units.

    Parameters
    ----------
    model : LatentModel or path
        A trained model, or its checkpoint.
    scan_shape, navigation_mask
        As for ``signal.train_autoencoder``. Patterns at excluded scan positions are NaN.
    out, overwrite, client, progress
        See :meth:`latentstem.LatentModel.reconstruct`. Only ``.zspy`` and ``.hspy`` keep the metadata. Without `out`, a
        lazy signal gives a lazy signal, which the active dask scheduler computes.

    Returns
    -------
    signal of the same class
        Same shape, axes and metadata, float32; lazy if this signal is, and then computed block by block. With `out`,
        the lazy signal in that file.
    """
    from ..inference.blockwise import reconstruct_dask
    from ..inference.reconstruction import reconstruct as reconstruct_scan
    from ..inference.reconstruction import write_reconstruction

    mask, model = _mask_array(navigation_mask), as_model(model)
    if is_series_signal(signal):
        if out is not None:
            raise ArgumentError(
                "out cannot be given for a series",
                expected="the signal of one scan, where out is given",
                received=repr(signal),
                advice="Reconstruct one scan after the other: signal.inav[:, :, i].reconstruct(model, out=...).",
            )
        data = _reconstruct_series(signal, model, mask, client, progress)
        return signal._deepcopy_with_new_data(data)
    scan = model.open_matching_scan(signal, scan_shape, mask)
    if out is not None:
        options = {"overwrite": overwrite, "client": client, "progress": progress}
        path = write_reconstruction(model.autoencoder, scan, out, **options, template=signal)
        return _open_result(path, signal)
    if signal._lazy and client is None:
        data = reconstruct_dask(model.autoencoder, signal.data.reshape(scan.source.shape), scan.excluded)
    else:
        data = reconstruct_scan(model.autoencoder, scan, client=client, progress=progress)
    return signal._deepcopy_with_new_data(data.reshape(signal.data.shape))


def _mask_array(mask: Any) -> Any:
    """Convert a mask (array, signal or lazy signal, or a list of them) to arrays."""
    if mask is None:
        return None
    if isinstance(mask, (list, tuple)) and any(hasattr(m, "shape") or m is None for m in mask):
        return [_mask_array(m) for m in mask]  # one for each scan of a series
    return np.asarray(mask.data if hasattr(mask, "axes_manager") else mask)


def _open_result(path: Path, template: Any) -> Any:
    """Open a file of reconstructions as a lazy signal; formats without metadata take it from `template`."""
    host = host_that_writes(path.suffix.lower())
    if host is not None and host.library == "hyperspy":
        from hyperspy.io import load

        return load(str(path), lazy=True, escape_square_brackets=True)  # else the name is a glob pattern
    signal = template._deepcopy_with_new_data(lazy_patterns(path).reshape(template.data.shape))
    return signal if signal._lazy else signal.as_lazy()


def _reconstruct_series(signal: Any, model: Any, mask: Any, client: Any, progress: bool) -> Any:
    """Reconstructions of all scans of a series, as an array of the signal's shape; lazy if the signal is."""
    scans, masks = split_series(signal), one_value_per_scan("navigation_mask", mask, len(signal.data))
    lazy = signal._lazy and client is None
    results: Any = [] if lazy else np.empty(signal.data.shape, np.float32)
    for scan_index, (scan, mask) in enumerate(zip(scans, masks, strict=True)):
        with located_errors(scan_index, len(scans)):
            data = reconstruct(scan, model, navigation_mask=mask, client=client, progress=progress).data
        if lazy:
            results.append(data)
        else:
            results[scan_index] = data
    if lazy:
        import dask.array as da

        return da.stack(results)
    return results
