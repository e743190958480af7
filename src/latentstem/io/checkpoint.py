"""Reading and writing of checkpoints: Lightning's ``.ckpt`` with tensors and plain values only."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from ..errors import CheckpointError, format_exception
from ..util.paths import local_path
from ..util.whole_file import atomic_write

__all__ = ["FORMAT_VERSION", "corrupt_checkpoint_error", "read_checkpoint", "write_checkpoint"]

#: version of the checkpoint format; a newer one is refused
FORMAT_VERSION = 3
_ADVICE = (
    "Give a file written by LatentModel.save or by training: ae.ckpt, checkpoints/best.ckpt or last.ckpt."
)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint; nothing in it is executed.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, not a latentstem checkpoint, or of a newer format.
    """
    path = local_path(path, CheckpointError)
    if not path.is_file():
        raise CheckpointError(
            "no such checkpoint", expected="the path of a .ckpt file", received=f"'{path}'", advice=_ADVICE
        )
    try:
        _verify_checksums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load can raise any exception for damaged files
        raise CheckpointError(
            "the checkpoint cannot be read",
            expected="tensors and plain values only",
            received=f"'{path}' ({format_exception(error)})",
            advice="The file is damaged, is not a checkpoint, or holds objects that would run code. "
            + _ADVICE,
        ) from None
    metadata = content.get("latentstem") if isinstance(content, dict) else None
    if not isinstance(metadata, dict) or not {"state_dict", "hyper_parameters"} <= content.keys():
        raise CheckpointError(
            "not a latentstem checkpoint",
            expected="a checkpoint with a latentstem format version",
            received=f"'{path}', which has none",
            advice=_ADVICE,
        )
    version = metadata.get("format_version")
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        raise CheckpointError(
            "the checkpoint is of another format",
            expected=f"format version {FORMAT_VERSION} or older",
            received=f"{version!r} in '{path}'",
            advice="Upgrade latentstem to read it.",
        )
    try:
        _validate_content(content)
    except ValueError as error:
        raise corrupt_checkpoint_error(path, error) from None
    return content


def corrupt_checkpoint_error(path: str | Path, error: Exception) -> CheckpointError:
    """Error for a checkpoint whose parts do not match."""
    return CheckpointError(
        "the checkpoint is incomplete or altered",
        expected="hyper-parameters, weights and history that belong together",
        received=f"'{path}' ({format_exception(error)})",
        advice="Take another copy of the file, or train again.",
    )


def _verify_checksums(path: Path) -> None:
    """Verify the CRC checksums of the zip entries, which torch.load does not do."""
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("its zip entries are compressed; those of a checkpoint are not")
        damaged = archive.testzip()
    if damaged:
        raise ValueError(f"checksum mismatch in {damaged}")


def write_checkpoint(content: dict[str, Any], path: str | Path) -> Path:
    """Write a checkpoint atomically."""
    path, buffer = Path(path), BytesIO()
    torch.save(content, buffer)  # to a buffer first: torch.save hides the system's disk-full error
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())
    return path


# ---- schema of a checkpoint, which is validated as a whole before it is used ----

_MAX_VALUES = 1_000_000  # plain values and tensors in a checkpoint
_MAX_DEPTH = 30  # of nested dicts and lists
_Shape = Annotated[list[Annotated[int, Field(ge=1, le=2**28)]], Field(min_length=2, max_length=2)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _Axis(_Strict):
    model_config = ConfigDict(extra="forbid")
    name: str
    size: int
    scale: float = Field(allow_inf_nan=False)
    offset: float = Field(allow_inf_nan=False)
    units: str


class _Scan(_Strict):
    name: str = "scan"
    scan_shape: _Shape
    pattern_shape: _Shape
    dtype: str
    axes: Annotated[list[_Axis], Field(min_length=4, max_length=4)]


class _HyperParameters(_Strict):
    model_config = ConfigDict(extra="forbid")
    config: dict[str, Any]
    pattern_shape: _Shape
    scan: _Scan | Annotated[dict[str, Any], Field(max_length=0)] = Field(default_factory=dict)
    choices: list[str] = Field(default_factory=list)


class _Summary(_Strict):
    model_config = ConfigDict(extra="forbid")
    figures: dict[str, float]
    verdicts: dict[str, bool]
    advice: list[str]
    choices: list[str]


class _Metadata(_Strict):
    history: dict[str, list[float]]
    versions: dict[str, str]
    summary: _Summary | None = None
    evidence: dict[str, Any] | None = None


class _Checkpoint(_Strict):
    state_dict: dict[str, Any]
    hyper_parameters: _HyperParameters
    latentstem: _Metadata


def _validate_content(content: dict[str, Any]) -> None:
    """Raise a ValueError for content that is not that of a checkpoint.

    That is: if something is missing, of another type, or not a plain value; if shared references make it much larger
    than the file; if a tensor is larger than its storage.
    """
    _check_plain_values(content)
    _Checkpoint.model_validate(content)
    for name, tensor in content["state_dict"].items():
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{name} is not a tensor")


def _check_plain_values(content: dict[str, Any]) -> None:
    stack: list[tuple[int, Any]] = [(0, content)]
    n_checked = 0
    while stack:
        depth, value = stack.pop()
        n_checked += 1
        if n_checked > _MAX_VALUES or depth > _MAX_DEPTH:
            raise ValueError("too many or too deeply nested values")
        if isinstance(value, torch.Tensor):
            if value.layout is not torch.strided or (
                value.numel() * value.itemsize > value.untyped_storage().nbytes()
            ):
                raise ValueError("a tensor is larger than its storage")
        elif isinstance(value, dict):
            stack += [(depth + 1, item) for pair in value.items() for item in pair]
        elif isinstance(value, (list, tuple)):
            stack += [(depth + 1, item) for item in value]
        elif not (value is None or isinstance(value, (bool, int, float, str))):
            raise ValueError(f"a value of the type {type(value).__name__}")
