"""Latents and reconstructions as files for those who work in py4DSTEM, HyperSpy or numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentstem.errors import ArgumentError
from latentstem.io.output_files import LATENT_FILES, PATTERN_FILES, check_output, save_latents

from .layers import KIND, latents_of
from .state import KEY, Session

__all__ = ["LATENT_FILES", "PATTERN_FILES", "export_latents", "export_reconstructions", "write_latents"]


def write_latents(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write the layer of latent maps, for napari's File > Save Selected Layers.

    Parameters
    ----------
    path : str
        ``.npz``, ``.hspy``, ``.zspy`` or ``.h5`` (py4DSTEM).
    data, attributes
        The layer, as napari gives it to writers.

    Returns
    -------
    list of str
        What was written.

    Raises
    ------
    RuntimeError
        If the layer holds no latents, or they cannot be written there; says what to do.
    """
    metadata = attributes.get("metadata") or {}
    session = metadata.get(KEY)
    try:
        if not isinstance(session, Session) or metadata.get(KIND) != "latents":
            raise ArgumentError(
                "no latents to write",
                expected="the layer with the latent maps of a scan",
                received=repr(attributes.get("name", "a layer")),
                advice="Select the layer whose name ends in 'latents'; other images are saved as .tif.",
            )
        return [str(export_latents(session, path))]
    except ValueError as error:  # napari takes it for "another plugin may write this", and does not show it
        raise RuntimeError(str(error)) from error


def export_latents(session: Session, path: str | Path) -> Path:
    """Write the latent maps of a session with the scan's calibration; the suffix tells the kind of file."""
    path = Path(path)
    check_output(path, LATENT_FILES, True, [session.scan])
    save_latents(latents_of(session), path)
    return path


def export_reconstructions(session: Session, path: str | Path) -> Path:
    """Write the reconstructed, denoised patterns of a session's scan; the suffix tells the kind of file."""
    path, scan, model = Path(path), session.scan, session.model
    check_output(path, PATTERN_FILES, True, [session.scan])
    if model is None:
        raise ArgumentError(
            "nothing to reconstruct with",
            expected="a scan with a model",
            received=f"{session.name!r}, which has none yet",
            advice="Train a model, or load one for this scan.",
        )
    model.reconstruct(scan, out=path, overwrite=True)
    return path
