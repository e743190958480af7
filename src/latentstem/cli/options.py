"""Command-line options for the fields of `TrainingConfig`, so that each is described in one place."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

import typer

from ..config import TrainingConfig

__all__ = ["explicit_options", "training_options"]

_SHORT = {"latent_dim": "--latent", "learning_rate": "--lr", "batch_size": "--batch"}
_METAVAR = {"latent_dim": "NUMBER|auto", "crop": "Y0 Y1 X0 X1", "max_time": "DD:HH:MM:SS"}
_ANNOTATIONS: dict[str, Any] = {"latent_dim": str, "split_counts": Literal["auto", "true", "false"]}


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command one option for each field of `TrainingConfig`, in place of its ``**keywords``.

    Options that the user does not give are None, so that presets and checkpoints supply their values.
    """
    signature = inspect.signature(command, eval_str=True)
    parameters = [
        p.replace(kind=p.KEYWORD_ONLY) for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD
    ]
    command.__signature__ = signature.replace(parameters=[*parameters, *_options()])  # type: ignore[attr-defined]
    return command


def explicit_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options that the user gave, as values of the fields of `TrainingConfig`."""
    booleans: dict[Any, Any] = {"true": True, "false": False}
    return {
        name: int(value) if name == "latent_dim" and value.isdecimal() else booleans.get(value, value)
        for name, value in options.items()
        if value is not None
    }


def _options() -> list[inspect.Parameter]:
    fields = TrainingConfig.model_fields
    annotations: dict[str, Any] = {name: field.annotation for name, field in fields.items()} | _ANNOTATIONS
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=annotations[name] | None,
            default=_option(name, field.default, field.description or ""),
        )
        for name, field in fields.items()
    ]


def _option(name: str, default: Any, text: str) -> Any:
    flag = f"--{name}/--no_{name}" if default is False else f"--{name}"
    flags = [flag, _SHORT[name]] if name in _SHORT else [flag]
    if default is not None and default is not False:
        text += f" Default: {f'{default:g}' if isinstance(default, float) else default}."
    return typer.Option(None, *flags, help=text, metavar=_METAVAR.get(name))
