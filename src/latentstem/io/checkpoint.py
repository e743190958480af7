"""Reading and writing of checkpoints: Lightning's ``.ckpt`` with tensors and plain values only."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError, format_exception
from ..util.paths import local_path
from ..util.whole_file import atomic_write
from .checkpoint_schema import validate_content

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
    if (
        not isinstance(metadata.get("format_version"), int)
        or not 1 <= metadata["format_version"] <= FORMAT_VERSION
    ):
        raise CheckpointError(
            "the checkpoint is of another format",
            expected=f"format version {FORMAT_VERSION} or older",
            received=f"{metadata.get('format_version')!r} in '{path}'",
            advice="Upgrade latentstem to read it.",
        )
    try:
        validate_content(content)
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
