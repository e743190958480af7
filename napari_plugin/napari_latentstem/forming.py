"""Latent maps as they form during training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latentstem import Embedding

from .layers import KIND, latent_layer, layer_of, robust_limits
from .state import KEY, Session, sessions_of

if TYPE_CHECKING:
    from napari.viewer import Viewer

__all__ = ["FormingMaps"]

_KIND = "forming"


class FormingMaps:
    """A layer beside the finished latents of a session, which goes when training is over.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Where it is shown.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = sessions_of(viewer).viewer
        self._session: Session | None = None
        self._unwanted = False
        self._viewer.dims.events.current_step.connect(self._set_contrast)

    def close(self) -> None:
        """Let go of the viewer."""
        self.clear()
        self._viewer.dims.events.current_step.disconnect(self._set_contrast)

    def clear(self) -> None:
        """Take the layer away."""
        session, self._session, self._unwanted = self._session, None, False
        layer = None if session is None else layer_of(self._viewer, session, _KIND)
        if layer is not None:
            self._viewer.layers.remove(layer)

    def show(self, session: Session, maps: np.ndarray) -> None:
        """Add the layer, or update it; not again once the user has removed it.

        Parameters
        ----------
        session : Session
            What is trained on.
        maps : ndarray, shape (Ny, Nx, k), float32
            Latents so far; NaN where they are unknown.
        """
        layer = layer_of(self._viewer, session, _KIND)
        self._unwanted = self._unwanted or (self._session is session and layer is None)
        self._session = session
        if session.closed or self._unwanted:
            return
        forming = Session(session.scan, session.name, embedding=Embedding(maps, session.scan.axes[:2]))
        arguments = latent_layer(forming)
        if layer is not None:
            layer.data = arguments["data"]
        else:
            selected = self._viewer.layers.selection.active
            arguments["name"] = f"{session.name} latents in training"
            arguments["metadata"] = {KEY: session, KIND: _KIND}
            flat = self._viewer.dims.ndim < 3
            self._viewer.add_image(**arguments)
            if flat:
                self._viewer.dims.set_current_step(0, 0)
            if selected is not None:
                self._viewer.layers.selection.active = selected
        self._set_contrast()

    def _set_contrast(self, event: Any = None) -> None:
        """Each latent has a range of its own."""
        layer = None if self._session is None else layer_of(self._viewer, self._session, _KIND)
        if layer is not None:
            shown = min(int(self._viewer.dims.current_step[self._viewer.dims.ndim - 3]), len(layer.data) - 1)
            layer.contrast_limits = robust_limits(layer.data[shown])
