"""Open 4D-STEM files as calibrated virtual images; the patterns are read when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentstem import Scan, as_scan
from latentstem.scan.series import require_single_scan
from latentstem.scan.virtual_images import virtual_images

from ..model.session import Session
from .latent_layers import show_embedding
from .progress_dialog import run_with_progress
from .scan_layers import show_scale_bar, virtual_image_kwargs

if TYPE_CHECKING:
    from napari.viewer import Viewer

__all__ = ["get_reader", "open_session", "show_session"]

LayerData = tuple[Any, dict[str, Any], str]


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """The reader function for napari; None for ``.npy`` files that are not 4D, which napari reads itself."""
    paths = [path] if isinstance(path, str) else path
    if any(file.endswith(".npy") and not _is_4d(Path(file)) for file in paths):
        return None
    return read


def _is_4d(path: Path) -> bool:
    import numpy as np

    try:
        return np.load(path, mmap_mode="r", allow_pickle=False).ndim == 4
    except (OSError, ValueError):
        return False


def read(path: str | list[str]) -> list[LayerData]:
    """Open files, one scan each, as layer data: virtual images with the `Session` in their metadata.

    Raises
    ------
    LatentSTEMError
        If a file is not a scan; see `latentstem.as_scan`.
    """
    paths = [path] if isinstance(path, str) else path
    return [layer_data(open_session(partial(_open_scan, file), Path(file).stem)) for file in paths]


def _open_scan(path: str) -> Scan:
    return require_single_scan(as_scan(path))


def layer_data(session: Session) -> LayerData:
    """The sum image of a session in the form that readers return; also shows the viewer's scale bar."""
    import napari

    viewer = napari.current_viewer()
    if viewer is not None:
        show_scale_bar(viewer)
    arguments = virtual_image_kwargs(session)
    return arguments.pop("data"), arguments, "image"


def open_session(make_scan: Callable[[], Scan], name: str) -> Session:
    """Open a scan and compute its virtual images, in a thread so that the window stays responsive.

    Parameters
    ----------
    make_scan : callable
        Opens the scan.
    name : str
        Name of the session.
    """

    def steps() -> Iterator[tuple[float, Session]]:
        session = Session(make_scan(), name)
        for fraction, images in virtual_images(session.scan):
            session.images = images
            yield fraction, session

    return run_with_progress(steps(), f"Reading {name} …", "Stop reading")


def show_session(viewer: Viewer, session: Session) -> None:
    """Add the layers of a session: the sum image, and the latents if there are any."""
    viewer.add_image(**virtual_image_kwargs(session))
    if session.embedding is not None:
        show_embedding(viewer, session)
    show_scale_bar(viewer)
