"""Latent maps during training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..model.session import Session
from .latent_layers import latent_layer_kwargs, set_latent_contrast, show_embedding
from .scan_layers import layer_of, restore_active_layer
from .sessions import sessions_of

if TYPE_CHECKING:
    from napari.viewer import Viewer

__all__ = ["LiveLatents"]


class LiveLatents:
    """Shows the latents of the model in training in the layer of latent maps, until training ends."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = sessions_of(viewer).viewer
        self.session: Session | None = None  # the scan whose live latents are shown
        self._removed_by_user = False
        self._viewer.dims.events.current_step.connect(self._set_contrast)

    def close(self) -> None:
        """Disconnect from the viewer."""
        self.clear()
        self._viewer.dims.events.current_step.disconnect(self._set_contrast)

    def clear(self) -> None:
        """Show the session's own latents again; without any, remove the layer."""
        session, self.session, self._removed_by_user = self.session, None, False
        layer = None if session is None else layer_of(self._viewer, session, "latents")
        if session is None or layer is None:
            return
        if session.embedding is None:
            self._viewer.layers.remove(layer)
        else:
            show_embedding(self._viewer, session)

    def show(self, session: Session, maps: np.ndarray) -> None:
        """Add or update the layer; do not add it again after the user has removed it.

        Parameters
        ----------
        session : Session
            The scan in training.
        maps : ndarray, shape (Ny, Nx, k), float32
            Current latents; NaN where unknown.
        """
        layer = layer_of(self._viewer, session, "latents")
        self._removed_by_user = self._removed_by_user or (self.session is session and layer is None)
        self.session = session
        if session.closed or self._removed_by_user:
            return
        if layer is not None:
            layer.data = np.moveaxis(maps, -1, 0)
        else:
            active, was_2d = self._viewer.layers.selection.active, self._viewer.dims.ndim < 3
            self._viewer.add_image(**latent_layer_kwargs(session, maps))
            if was_2d:
                self._viewer.dims.set_current_step(0, 0)
            restore_active_layer(self._viewer, active)
        self._set_contrast()

    def _set_contrast(self, event: Any = None) -> None:
        if self.session is not None:
            set_latent_contrast(self._viewer, self.session)
