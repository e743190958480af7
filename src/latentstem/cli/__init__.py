"""The command line: ``latentstem train``, ``embed``, ``reconstruct``, ``report``, ``info`` and ``demo``."""

from .main import app

__all__ = ["app"]
