"""What the user gives as a path, looked at before anything else touches it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ..errors import FileError, LatentSTEMError

__all__ = ["local_path"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # a drive of Windows has one letter
_LONGEST = 255  # bytes in the name of a file


def local_path(path: Any, error: type[LatentSTEMError] = FileError) -> Path:
    """A path on this machine, whether or not there is anything.

    Parameters
    ----------
    path : str or PathLike
        What was given. Nothing is ever fetched from the network.
    error : type
        Which error is raised.

    Raises
    ------
    LatentSTEMError
        If it is no path, or an address of something elsewhere.
    """
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise error(
            "not a path",
            expected="the path of a file or folder, as text or a pathlib.Path",
            received=f"{type(path).__module__}.{type(path).__qualname__}",
            advice="Give the path as text.",
        )
    if _URL.match(text):
        raise error(
            "an address is no path",
            expected="a file or folder on this machine: nothing is fetched from elsewhere, or written there",
            received=repr(text),
            advice="Download it, and give the path of the copy; write to a folder, and upload that.",
        )
    if not text or "\0" in text or max(map(len, map(os.fsencode, Path(text).parts)), default=0) > _LONGEST:
        raise error(
            "no path that this system can have",
            expected=f"a name, each part of it of at most {_LONGEST} bytes, without null characters",
            received=repr(text if len(text) < 80 else f"{text[:80]}..."),
            advice="Choose a name of letters and digits; '.' is the working directory.",
        )
    return Path(text)
