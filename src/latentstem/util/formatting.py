"""Times as text."""

from __future__ import annotations

__all__ = ["readable_duration"]


def readable_duration(seconds: float) -> str:
    """A duration with about two significant digits: ``1.5 s``, ``40 s``, ``12 min``, ``2.5 h``."""
    if seconds < 100:
        return f"{max(seconds, 0.1):.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
