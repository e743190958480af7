"""Errors that say what was expected, what was received and what to do.

Every error is a `ValueError` or a `TypeError`, so code that catches those keeps working; `StorageError` is an
`OSError` too.
"""

from __future__ import annotations

import re


class LatentSTEMError(Exception):
    """Base of all errors raised on purpose.

    Parameters
    ----------
    what : str
        What went wrong, in one clause.
    expected, received, advice : str
        What was expected, what came instead, and what the user can do.
    """

    def __init__(self, what: str, *, expected: str, received: str, advice: str) -> None:
        self.what, self.expected, self.received, self.advice = what, expected, received, advice
        super().__init__(f"{what}: expected {expected}; received {received}. {advice}")

    def __reduce__(self) -> tuple[object, ...]:  # keyword-only arguments do not survive default pickling
        return _rebuild, (type(self), self.what, self.expected, self.received, self.advice)


def _rebuild(
    kind: type[LatentSTEMError], what: str, expected: str, received: str, advice: str
) -> LatentSTEMError:
    return kind(what, expected=expected, received=received, advice=advice)


class ArgumentError(LatentSTEMError, ValueError):
    """An argument has a value that cannot be used."""


class UnsupportedDataError(LatentSTEMError, TypeError):
    """An object or file of a kind that is not read."""


class ScanDimensionError(LatentSTEMError, ValueError):
    """The data has not two scan dimensions followed by two diffraction dimensions."""


class ScanShapeError(LatentSTEMError, ValueError):
    """`scan_shape` does not fit the number of diffraction patterns."""


class PatternShapeError(LatentSTEMError, ValueError):
    """The diffraction patterns are too small, or not of the shape a model was made for."""


class DataTypeError(LatentSTEMError, TypeError):
    """The data has a dtype that diffraction patterns cannot have."""


class DataValueError(LatentSTEMError, ValueError):
    """The data holds values that cannot be used: NaN, infinity, or one constant."""


class MaskError(LatentSTEMError, ValueError):
    """A mask has the wrong shape or leaves nothing to work on."""


class FileError(LatentSTEMError, ValueError):
    """A file is missing, damaged, or does not hold a scan."""


class CheckpointError(LatentSTEMError, ValueError):
    """A checkpoint is damaged, of another format, or cannot be used for what was asked."""


class ModelMismatchError(LatentSTEMError, ValueError):
    """A model is applied to data it was not made for."""


class StorageError(LatentSTEMError, OSError, ValueError):
    """A file cannot be written: the disk is full, or the folder is read-only, gone or no folder."""


class ClusterError(LatentSTEMError, ValueError):
    """The workers of a cluster cannot do what they were asked."""


class TrainingError(LatentSTEMError, ValueError):
    """Training cannot go on (for example, the loss is NaN)."""


def format_exception(error: BaseException) -> str:
    """What another library says in an error, on one line, as a part of ours."""
    if hasattr(error, "error_count"):  # of pydantic
        first = error.errors(include_url=False)[0]  # type: ignore[attr-defined]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"[:200]
    text = re.sub(r"<[^<>]*\bat 0x[0-9a-fA-F]+>", "an object", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__
