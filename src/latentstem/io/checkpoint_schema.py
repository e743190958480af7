"""Schema of a checkpoint, which is validated as a whole before it is used."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["validate_content"]

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


def validate_content(content: dict[str, Any]) -> None:
    """Validate the content of a checkpoint.

    Raises
    ------
    ValueError
        If something is missing, of another type, or not a plain value; if shared references make it much larger than
        the file; if a tensor is larger than its storage.
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
