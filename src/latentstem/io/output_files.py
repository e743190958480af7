"""Results as files: of numpy, HyperSpy or py4DSTEM, by the suffix."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentText, FileError
from ..scan.scan import Axis, Scan
from .host_table import HOSTS
from .source_files import source_files

__all__ = [
    "check_output",
    "latent_suffixes",
    "pattern_suffixes",
    "with_stored_axes",
]


def latent_suffixes() -> dict[str, str]:
    """Suffixes of files of latent maps, and the library that writes each."""
    return {".npz": "numpy", **{suffix: host.library for host in HOSTS for suffix in host.writes}}


def pattern_suffixes() -> dict[str, str]:
    """Suffixes of files of patterns, and the library that writes each."""
    return {".npy": "numpy", **latent_suffixes()}


def check_output(path: Path, kinds: dict[str, str], overwrite: bool, inputs: Sequence[Any] = ()) -> None:
    """Whether a result can be written to this path, asked before the work is done.

    Parameters
    ----------
    path : Path
        Where to.
    kinds : dict of str to str
        Suffixes that can be written, and the library that writes each.
    overwrite : bool
        Whether a file that is there may be replaced.
    inputs : sequence of Path, Scan, Signal2D, DataCube or array
        What is read; files of that are never replaced.

    Raises
    ------
    FileError
        If the suffix is not one of `kinds`, the library that writes it is missing, there is no such folder, there is
        a file already and `overwrite` is False, or the output is an input.
    """
    library = kinds.get(path.suffix.lower())
    problem, advice = "", ""
    if library is None:
        problem, advice = "has another suffix", f"Choose one of {', '.join(kinds)}."
    elif find_spec(library) is None:
        problem = f"needs {library}, which is not installed"
        advice = f"`pip install latentstem[{library.lower()}]`, or write another kind of file."
    elif not path.parent.is_dir():
        problem, advice = "is in a folder that does not exist", f"Make the folder {path.parent} first."
    elif path.exists() and not overwrite:
        problem = "exists already"
        advice = ArgumentText("Choose another name, or give {overwrite}.", overwrite=True)
    if problem:
        raise FileError(
            "the output cannot be written",
            expected=f"the path of a new file ({', '.join(kinds)})",
            received=f"{path}, which {problem}",
            advice=advice,
        )
    if path.exists():
        _refuse_input(path, inputs)


def _refuse_input(path: Path, inputs: Sequence[Any]) -> None:
    output = path.resolve()
    for file in (Path(file).resolve() for file in source_files(list(inputs))):
        same = file.exists() and output.samefile(file)  # also by another name
        if same or output in file.parents or file in output.parents:
            raise FileError(
                "the output is the input",
                expected="the path of another file than those that are read",
                received=f"{path}, which is read",
                advice="Choose another name; delete the input when the output is there.",
            )


def with_stored_axes(scan: Scan, arrays: Mapping[str, np.ndarray]) -> Scan:
    """The scan with the axes that reconstructions have in ``.npz``, if there are such among its arrays."""
    stored = arrays["axes"] if "axes" in arrays else np.zeros(())
    if stored.ndim or stored.dtype.kind != "U":
        return scan
    y, x, ky, kx = (Axis(**axis) for axis in json.loads(str(stored)))
    same = (y.size, x.size, ky.size, kx.size) == scan.source.shape
    return replace(scan, axes=(y, x, ky, kx)) if same else scan
