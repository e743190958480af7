"""The command line: ``latentstem train``, ``embed``, ``reconstruct``, ``info`` and ``demo``."""

from .commands import app

__all__ = ["app"]
