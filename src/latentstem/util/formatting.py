"""Sizes and durations as text."""

from __future__ import annotations

__all__ = ["format_bytes", "format_duration"]


def format_bytes(nbytes: float) -> str:
    """A number of bytes with its unit: ``8.6 GB``."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if nbytes >= size:
            return f"{nbytes / size:.{1 if nbytes < 99.95 * size else 0}f} {unit}"
    return f"{nbytes / 1e3:.0f} kB"


def format_duration(seconds: float) -> str:
    """A duration with about two significant digits: ``1.5 s``, ``40 s``, ``12 min``, ``2.5 h``."""
    if seconds < 100:
        return f"{max(seconds, 0.1):.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
