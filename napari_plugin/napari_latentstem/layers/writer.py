"""Write latents and reconstructions to files of numpy, HyperSpy or py4DSTEM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentstem.errors import ArgumentError
from latentstem.hosts.latent_files import save_latents
from latentstem.io.output_files import check_output, latent_suffixes, pattern_suffixes

from ..model.session import Session
from .latent_layers import latents_of
from .scan_layers import KIND_KEY
from .sessions import SESSION_KEY

__all__ = ["export_latents", "export_reconstructions", "write_latents"]


def write_latents(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write the layer of latent maps, for napari's File > Save Selected Layers.

    Parameters
    ----------
    path : str
        ``.npz``, ``.hspy``, ``.zspy`` or ``.h5`` (py4DSTEM).
    data, attributes
        Data and attributes of the layer.

    Returns
    -------
    list of str
        Path of the file.

    Raises
    ------
    RuntimeError
        If the layer holds no latents, or the file cannot be written. (napari takes a ValueError to mean that another
        writer may be tried, and does not show it.)
    """
    metadata = attributes.get("metadata") or {}
    session = metadata.get(SESSION_KEY)
    try:
        if not isinstance(session, Session) or metadata.get(KIND_KEY) != "latents":
            raise ArgumentError(
                "no latents to write",
                expected="the layer with the latent maps of a scan",
                received=repr(attributes.get("name", "a layer")),
                advice="Select the layer whose name ends in 'latents'; other images are saved as .tif.",
            )
        return [str(export_latents(session, path))]
    except ValueError as error:
        raise RuntimeError(str(error)) from error


def export_latents(session: Session, path: str | Path) -> Path:
    """Write the latent maps of a session with the scan's calibration, in the format of the suffix."""
    path = Path(path)
    check_output(path, latent_suffixes(), True, [session.scan])
    save_latents(latents_of(session), path)
    return path


def export_reconstructions(session: Session, path: str | Path) -> Path:
    """Write the reconstructed patterns of a session, in the format of the suffix."""
    path, scan, model = Path(path), session.scan, session.model
    check_output(path, pattern_suffixes(), True, [session.scan])
    if model is None:
        raise ArgumentError(
            "no model to reconstruct with",
            expected="a scan with a model",
            received=f"{session.name!r}, which has none yet",
            advice="Train a model, or load one for this scan.",
        )
    model.reconstruct(scan, out=path, overwrite=True)
    return path
