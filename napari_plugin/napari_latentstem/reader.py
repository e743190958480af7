"""Files that hold a 4D-STEM scan, as calibrated virtual images; the patterns stay where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentstem.scan.scan.series import require_single_scan
from latentstem.scan.scan.virtual_images import virtual_images

from latentstem import Scan, as_scan
from latentstem.errors import FileError

from .layers import show_embedding, show_scale_bar, virtual_image_layer
from .state import Session
from .waiting import wait_for

if TYPE_CHECKING:
    from napari.viewer import Viewer

__all__ = ["get_reader", "open_session", "show_session"]

LayerData = tuple[Any, dict[str, Any], str]


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """What reads this path, for napari; None for arrays that cannot be a scan, which napari reads itself."""
    paths = [path] if isinstance(path, str) else path
    if any(file.endswith(".npy") and not _may_be_a_scan(Path(file)) for file in paths):
        return None
    return read


def _may_be_a_scan(path: Path) -> bool:
    import numpy as np

    try:
        return np.load(path, mmap_mode="r", allow_pickle=False).ndim == 4
    except (OSError, ValueError):
        return False


def read(path: str | list[str]) -> list[LayerData]:
    """The scans in some files as layer data: a virtual image each, whose metadata hold the `Session`.

    Raises
    ------
    LatentSTEMError
        If a file does not hold a scan; see `latentstem.as_scan`.
    """
    paths = [path] if isinstance(path, str) else path
    return [
        layer_data(open_session(lambda file=file: require_single_scan(as_scan(file)), Path(file).stem))
        for file in paths
    ]


def layer_data(session: Session) -> LayerData:
    """The sum image of a session, as readers and samples return it; the viewer's scale bar is switched on."""
    import napari

    viewer = napari.current_viewer()
    if viewer is not None:
        show_scale_bar(viewer)
    arguments = virtual_image_layer(session)
    return arguments.pop("data"), arguments, "image"


def open_session(make_scan: Callable[[], Scan], name: str) -> Session:
    """A session with its virtual images, worked out in another thread while the window lives on.

    Parameters
    ----------
    make_scan : callable
        Opens or makes the scan.
    name : str
        Name of its layers.
    """

    def steps() -> Iterator[tuple[float, Session]]:
        session = Session(make_scan(), name)
        for share, images in virtual_images(session.scan):
            session.images = images
            yield share, session

    session = wait_for(steps(), f"Reading {name} …", "Show what is there")
    if session is None:
        raise FileError(
            "nothing was read",
            expected="a scan with at least one pattern",
            received=name,
            advice="Open it again.",
        )
    return session


def show_session(viewer: Viewer, session: Session) -> None:
    """Add the layers of a session that has been opened: a virtual image, and the latents if there are some."""
    viewer.add_image(**virtual_image_layer(session))
    if session.embedding is not None:
        show_embedding(viewer, session)
    show_scale_bar(viewer)
