"""Sample data: a simulated scan."""

from __future__ import annotations

from latentstem import as_scan, simulate

from .reader import LayerData, layer_data, open_session

__all__ = ["polycrystal"]


def polycrystal() -> list[LayerData]:
    """A polycrystal of 12 grains and two phases: 64 x 64 positions, 64 x 64 pixels, 500 electrons per pattern."""
    return [layer_data(open_session(lambda: as_scan(simulate()), "simulated scan"))]
