"""Errors that say what was expected, what was received and what to do.

Every error is a `ValueError` or a `TypeError`, so code that catches those keeps working; `StorageError` is an
`OSError` too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any


class ArgumentText(str):
    """Part of an error that names arguments, written as in Python; `with_spelling` writes them otherwise, as options.

    Parameters
    ----------
    template : str
        The text, with names of arguments in braces.
    **arguments
        Value of each argument: a tuple, a list of tuples to choose from, or another value; None for the name alone.
    """

    template: str
    arguments: dict[str, Any]

    def __new__(cls, template: str, **arguments: Any) -> ArgumentText:  # noqa: D102
        text = super().__new__(cls, _fill(template, arguments, _python_spelling))
        text.template, text.arguments = template, arguments
        return text

    def with_spelling(self, spelling: Callable[[str, Any], str]) -> str:
        """The text with each argument as `spelling` writes its name and value."""
        return _fill(self.template, self.arguments, spelling)

    def __reduce__(self) -> tuple[object, ...]:
        return partial(ArgumentText, self.template, **self.arguments), ()


def _fill(template: str, arguments: dict[str, Any], spelling: Callable[[str, Any], str]) -> str:
    return template.format(**{name: spelling(name, value) for name, value in arguments.items()})


def _python_spelling(name: str, value: Any) -> str:
    if value is None:
        return name
    if isinstance(value, (tuple, list)):
        shapes = value if isinstance(value, list) else [value]
        return f"{name}=" + ", ".join(f"({', '.join(map(str, shape))})" for shape in shapes)
    return f"{name}={value!r}"


class LatentSTEMError(Exception):
    """Base class of all LatentSTEM errors.

    Parameters
    ----------
    what : str
        What went wrong, in one clause.
    expected, received, advice : str
        What was expected, what was received, and what to do. Each of the four may be an `ArgumentText`.
    **data
        Values for code that handles the error, kept as attributes of these names: ``argument``, or what a subclass has.

    Attributes
    ----------
    argument : str or None
        Name of the argument that is wrong, where it is one.
    """

    argument: str | None = None

    def __init__(self, what: str, *, expected: str, received: str, advice: str, **data: Any) -> None:
        self.what, self.expected, self.received, self.advice = what, expected, received, advice
        vars(self).update(data)
        super().__init__(f"{what}: expected {expected}; received {received}. {advice}")

    def with_fields(self, **fields: Any) -> LatentSTEMError:
        """A copy of the error with other values of these parameters or data."""
        return type(self)(**{**vars(self), **fields})

    def __reduce__(self) -> tuple[object, ...]:  # keyword-only arguments do not survive default pickling
        return partial(type(self), **vars(self)), ()


class ArgumentError(LatentSTEMError, ValueError):
    """An argument has a value that cannot be used."""


class UnsupportedDataError(LatentSTEMError, TypeError):
    """Objects or files of this type are not supported."""


class ScanDimensionError(LatentSTEMError, ValueError):
    """The data does not have two scan axes followed by two diffraction axes."""


class ScanShapeError(LatentSTEMError, ValueError):
    """`scan_shape` does not fit the number of diffraction patterns.

    Attributes
    ----------
    candidates : tuple of (int, int)
        Scan shapes (Ny, Nx) that fit the data, the closest to the request first; without a request, the closest to a
        square. Empty where the shape of the data leaves none.
    hint : str
        A sentence on what may be wrong with the number of patterns (flyback frames); empty where there is none.
    """

    candidates: tuple[tuple[int, int], ...] = ()
    hint: str = ""


class PatternShapeError(LatentSTEMError, ValueError):
    """The diffraction patterns are too small, or not of the shape that a model was trained on."""


class DataTypeError(LatentSTEMError, TypeError):
    """The data has a dtype that diffraction patterns cannot have."""


class DataValueError(LatentSTEMError, ValueError):
    """The data contain values that cannot be used: NaN, infinity, or one constant."""


class MaskError(LatentSTEMError, ValueError):
    """A mask has the wrong shape or leaves nothing to work on."""


class FileError(LatentSTEMError, ValueError):
    """A file is missing, damaged, or does not contain a scan."""


class CheckpointError(LatentSTEMError, ValueError):
    """A checkpoint is damaged, of another format, or does not fit the request."""


class ModelMismatchError(LatentSTEMError, ValueError):
    """A model is applied to data that it was not trained for."""


class StorageError(LatentSTEMError, OSError, ValueError):
    """A file cannot be written: the disk is full, or the folder is read-only, missing or a file."""


class ClusterError(LatentSTEMError, ValueError):
    """A task failed on the cluster's workers."""


class TrainingError(LatentSTEMError, ValueError):
    """Training cannot go on (for example, the loss is NaN)."""


def format_exception(error: BaseException) -> str:
    """An exception of another library as one line, to be part of a message."""
    if hasattr(error, "error_count"):  # a ValidationError of pydantic
        first = error.errors(include_url=False)[0]  # type: ignore[attr-defined]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"[:200]
    text = re.sub(r"<[^<>]*\bat 0x[0-9a-fA-F]+>", "an object", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__
