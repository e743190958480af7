"""Scans in files that ``torch.save`` has written."""

from __future__ import annotations

import zipfile
from pathlib import Path

from ..errors import FileError, format_exception
from ..scan.scan import Scan
from .file_format import FileFormat, ScanShape, find_scan_array
from .series import scan_from_array

__all__ = ["TORCH"]


def _read(path: Path, scan_shape: ScanShape) -> Scan:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:
        raise FileError(
            "tensor file cannot be read",
            expected="a tensor, or a dict with one tensor, saved with torch.save",
            received=f"{path} ({format_exception(error)})",
            advice="Files with other pickled objects are refused; save the tensor alone: "
            "torch.save(tensor, path).",
        ) from error
    tensors = content if isinstance(content, dict) else {"tensor": content}
    tensors = {str(key): value for key, value in tensors.items() if isinstance(value, torch.Tensor)}
    tensor = tensors[find_scan_array(tensors, lambda name: tuple(tensors[name].shape), path)]
    if (
        tensor.layout is torch.strided
        and tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes()
    ):
        raise FileError(
            "the tensor is expanded",
            expected="one stored value for each detector pixel of each pattern",
            received=f"{path} with a tensor of shape {tuple(tensor.shape)}, expanded from fewer values",
            advice="Save it whole: torch.save(tensor.contiguous(), path).",
        )
    return scan_from_array(tensor, scan_shape)


TORCH = FileFormat((".pt", ".pth"), _read)
