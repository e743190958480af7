"""Latent maps as they form during training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latentstem import Embedding

from .layers import latent_layer, layer_of, robust_limits, show_embedding
from .state import KEY, Session, sessions_of

if TYPE_CHECKING:
    from napari.viewer import Viewer

__all__ = ["FormingMaps"]


class FormingMaps:
    """Shows unfinished latents in the layer of the finished ones, until training is over.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Where it is shown.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = sessions_of(viewer).viewer
        self.session: Session | None = None  # whose maps are forming
        self._unwanted = False
        self._viewer.dims.events.current_step.connect(self._set_contrast)

    def close(self) -> None:
        """Let go of the viewer."""
        self.clear()
        self._viewer.dims.events.current_step.disconnect(self._set_contrast)

    def clear(self) -> None:
        """Show the finished latents again; where there are none, the layer goes."""
        session, self.session, self._unwanted = self.session, None, False
        layer = None if session is None else layer_of(self._viewer, session, "latents")
        if layer is None:
            return
        if session.embedding is None:
            self._viewer.layers.remove(layer)
        else:
            show_embedding(self._viewer, session)

    def show(self, session: Session, maps: np.ndarray) -> None:
        """Add the layer, or update it; not again once the user has removed it.

        Parameters
        ----------
        session : Session
            What is trained on.
        maps : ndarray, shape (Ny, Nx, k), float32
            Latents so far; NaN where they are unknown.
        """
        layer = layer_of(self._viewer, session, "latents")
        self._unwanted = self._unwanted or (self.session is session and layer is None)
        self.session = session
        if session.closed or self._unwanted:
            return
        if layer is not None:
            layer.data = np.moveaxis(maps, -1, 0)
        else:
            forming = Session(session.scan, session.name, embedding=Embedding(maps, session.scan.axes[:2]))
            arguments = latent_layer(forming)
            arguments["metadata"][KEY] = session
            selected, flat = self._viewer.layers.selection.active, self._viewer.dims.ndim < 3
            self._viewer.add_image(**arguments)
            if flat:
                self._viewer.dims.set_current_step(0, 0)
            if selected is not None:
                self._viewer.layers.selection.active = selected
        self._set_contrast()

    def _set_contrast(self, event: Any = None) -> None:
        """Each latent has a range of its own."""
        layer = None if self.session is None else layer_of(self._viewer, self.session, "latents")
        if layer is not None:
            dims = self._viewer.dims
            shown = min(int(dims.current_step[dims.ndim - 3]), len(layer.data) - 1)
            layer.contrast_limits = robust_limits(layer.data[shown])
