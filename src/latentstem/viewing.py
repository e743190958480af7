"""napari with data and models that are in Python already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .inference.model import LatentModel

__all__ = ["view"]


def view(
    data: Any,
    model: LatentModel | str | Path | None = None,
    *,
    scan_shape: tuple[int, int] | None = None,
    scan_mask: Any = None,
) -> Any:
    """Open napari with a scan, its latent maps where there is a model, and the LatentSTEM panel.

    Parameters
    ----------
    data : DataCube, Signal2D, array or path
        Anything `as_scan` reads. Nothing of it is copied.
    model : LatentModel or path, optional
        A trained model, or its checkpoint. The latents of the scan are computed before the window opens.
    scan_shape, scan_mask
        See `as_scan`.

    Returns
    -------
    napari.Viewer
        In a script, ``napari.run()`` comes next and returns when the window is closed.

    Raises
    ------
    ImportError
        Where napari is not installed.
    LatentSTEMError
        See `as_scan` and `LatentModel.embed`.

    Examples
    --------
    >>> viewer = latentstem.view("scan.h5", "ae.ckpt")  # doctest: +SKIP
    >>> napari.run()  # doctest: +SKIP
    """
    try:
        import napari

        from napari_latentstem.reader import open_session, show_session
    except ModuleNotFoundError as error:
        raise ImportError(
            f"latentstem.view needs napari, and {error.name} is not installed. `pip install latentstem[napari]`."
        ) from error
    from .io.open import as_scan
    from .scan.series import require_single_scan

    scan = require_single_scan(as_scan(data, scan_shape, scan_mask=scan_mask))
    embedding = None
    if model is not None:
        from .inference.model import LatentModel, load

        model = model if isinstance(model, LatentModel) else load(model)
        embedding = model.embed(scan, progress=True)
    viewer = napari.Viewer()
    session = open_session(lambda: scan, scan.name)
    session.model, session.embedding = model, embedding
    show_session(viewer, session)
    viewer.window.add_plugin_dock_widget("latentstem", "LatentSTEM")
    return viewer
