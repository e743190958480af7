"""Validation of paths given by the user."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ..errors import FileError, LatentSTEMError

__all__ = ["local_path"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # two letters at least, because a drive of Windows has one
_MAX_NAME_BYTES = 255  # bytes in the name of a file


def local_path(path: Any, error_class: type[LatentSTEMError] = FileError) -> Path:
    """A local path, which need not exist; raise an error of this class if it is no path, or a URL.

    Nothing is ever fetched from the network.
    """
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise error_class(
            "not a path",
            expected="the path of a file or folder, as text or a pathlib.Path",
            received=f"{type(path).__module__}.{type(path).__qualname__}",
            advice="Give the path as text.",
        )
    if _URL.match(text):
        raise error_class(
            "a URL instead of a path",
            expected="a local file or folder: nothing is read from or written to the network",
            received=repr(text),
            advice="Download it, and give the path of the copy; write to a folder, and upload that.",
        )
    if (
        not text
        or "\0" in text
        or max(map(len, map(os.fsencode, Path(text).parts)), default=0) > _MAX_NAME_BYTES
    ):
        raise error_class(
            "invalid path",
            expected=f"a name, each part of it of at most {_MAX_NAME_BYTES} bytes, without null characters",
            received=repr(text if len(text) < 80 else f"{text[:80]}..."),
            advice="Choose a name of letters and digits; '.' is the working directory.",
        )
    return Path(text)
