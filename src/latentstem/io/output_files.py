"""Suffixes of the files that results can be written to, and a check of the path before they are computed."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

from ..errors import ArgumentText, FileError
from ..scan.scan import Scan
from .host_table import HOSTS
from .pattern_files import pattern_formats

__all__ = ["check_output", "latent_suffixes", "pattern_suffixes"]


def latent_suffixes() -> dict[str, str]:
    """Suffixes of files of latent maps, and the library that writes each."""
    return {".npz": "numpy", **{suffix: host.library for host in HOSTS for suffix in host.writes}}


def pattern_suffixes() -> dict[str, str]:
    """Suffixes of files of patterns, and the library that writes each."""
    return {suffix: pattern_format.library for suffix, pattern_format in pattern_formats().items()}


def check_output(
    path: Path, formats: dict[str, str], overwrite: bool, inputs: Iterable[str | Path | Scan] = ()
) -> None:
    """Check that a result can be written to this path, before computing it.

    Parameters
    ----------
    path : Path
        Output path.
    formats : dict of str to str
        Suffixes that can be written, and the library that writes each.
    overwrite : bool
        Whether an existing file may be replaced.
    inputs : iterable of str, Path or Scan
        Files and scans that the result is computed from; they are never replaced.

    Raises
    ------
    FileError
        If the suffix is not one of `formats`, the library that writes it is missing, there is no such folder, the file
        exists and `overwrite` is False, or it is one of the inputs.
    """
    library = formats.get(path.suffix.lower())
    problem, advice, needs_overwrite = "", "", False
    if library is None:
        problem, advice = "has another suffix", f"Choose one of {', '.join(formats)}."
    elif find_spec(library) is None:
        problem = f"needs {library}, which is not installed"
        advice = f"`pip install latentstem[{library.lower()}]`, or write another kind of file."
    elif not path.parent.is_dir():
        problem, advice = "is in a folder that does not exist", f"Make the folder {path.parent} first."
    elif needs_overwrite := path.exists() and not overwrite:
        problem = "exists already"
        advice = ArgumentText("Choose another name, or give {overwrite}.", overwrite=True)
    if problem:
        raise FileError(
            "the output cannot be written",
            expected=f"the path of a new file ({', '.join(formats)})",
            received=f"{path}, which {problem}",
            advice=advice,
            argument="overwrite" if needs_overwrite else None,
        )
    if path.exists():
        _refuse_overwriting_input(path, inputs)


def _refuse_overwriting_input(path: Path, inputs: Iterable[str | Path | Scan]) -> None:
    output = path.resolve()
    files = (item.files if isinstance(item, Scan) else [item] for item in inputs)
    for file in (Path(file).resolve() for file in chain.from_iterable(files)):
        is_same = file.exists() and output.samefile(file)  # also through a link
        if is_same or output in file.parents or file in output.parents:
            raise FileError(
                "the output is the input",
                expected="the path of another file than those that are read",
                received=f"{path}, which is read",
                advice="Choose another name; delete the input when the output is written.",
            )
