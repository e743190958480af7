"""Open napari with data and a model from Python."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentstem import as_scan
from latentstem.scan.series import require_single_scan

if TYPE_CHECKING:
    from latentstem import LatentModel

__all__ = ["view"]


def view(
    data: Any,
    model: LatentModel | str | Path | None = None,
    *,
    scan_shape: tuple[int, int] | None = None,
    scan_mask: Any = None,
) -> Any:
    """Open napari with a scan, its latent maps if a model is given, and the LatentSTEM panel.

    Parameters
    ----------
    data : DataCube, Signal2D, array or path
        Any data `as_scan` supports; not copied.
    model : LatentModel or path, optional
        Trained model or its checkpoint. The latents are computed before the window opens.
    scan_shape, scan_mask
        See `as_scan`.

    Returns
    -------
    napari.Viewer
        In a script, call ``napari.run()`` next; it returns when the window is closed.

    Raises
    ------
    ImportError
        If napari is not installed.
    LatentSTEMError
        See `as_scan` and `LatentModel.embed`.

    Examples
    --------
    >>> viewer = latentstem.view("scan.h5", "ae.ckpt")  # doctest: +SKIP
    >>> napari.run()  # doctest: +SKIP
    """
    try:
        import napari

        from .layers.reader import open_session, show_session
    except ModuleNotFoundError as error:
        raise ImportError(
            f"latentstem.view needs napari, and {error.name} is not installed. `pip install latentstem[napari]`."
        ) from error
    scan = require_single_scan(as_scan(data, scan_shape, scan_mask=scan_mask))
    embedding = None
    if model is not None:
        from latentstem import LatentModel, load  # imports torch

        model = model if isinstance(model, LatentModel) else load(model)
        embedding = model.embed(scan, progress=True)
    viewer = napari.Viewer()
    session = open_session(lambda: scan, scan.name)
    session.model, session.embedding = model, embedding
    show_session(viewer, session)
    viewer.window.add_plugin_dock_widget("latentstem", "LatentSTEM")
    return viewer
