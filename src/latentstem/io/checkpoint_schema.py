"""What a checkpoint has to hold, and in which types: nothing in there is used before it has been looked at."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["validate_content"]

_LARGEST = 1_000_000  # plain values that a checkpoint may hold
_DEEPEST = 30  # levels of values within values
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


class _Ours(_Strict):
    history: dict[str, list[float]]
    versions: dict[str, str]
    summary: _Summary | None = None
    evidence: dict[str, Any] | None = None


class _Content(_Strict):
    state_dict: dict[str, Any]
    hyper_parameters: _HyperParameters
    latentstem: _Ours


def validate_content(content: dict[str, Any]) -> None:
    """Look at what was read from a checkpoint.

    Raises
    ------
    ValueError
        If something is missing, of another type, or not plain; if values refer to each other so that they are many
        more than the file holds; if a tensor is larger than what is stored of it.
    """
    _check_plain(content)
    _Content.model_validate(content)
    for name, tensor in content["state_dict"].items():
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{name} is no tensor")


def _check_plain(content: dict[str, Any]) -> None:
    waiting: list[tuple[int, Any]] = [(0, content)]
    looked_at = 0
    while waiting:
        depth, value = waiting.pop()
        looked_at += 1
        if looked_at > _LARGEST or depth > _DEEPEST:
            raise ValueError("too many values within values")
        if isinstance(value, torch.Tensor):
            if value.layout is not torch.strided or (
                value.numel() * value.itemsize > value.untyped_storage().nbytes()
            ):
                raise ValueError("a tensor is larger than what is stored of it")
        elif isinstance(value, dict):
            waiting += [(depth + 1, item) for pair in value.items() for item in pair]
        elif isinstance(value, (list, tuple)):
            waiting += [(depth + 1, item) for item in value]
        elif not (value is None or isinstance(value, (bool, int, float, str))):
            raise ValueError(f"a value of the type {type(value).__name__}")
