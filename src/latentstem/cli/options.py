"""Command-line options for the fields of `TrainingConfig`, so that each is described in one place."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

import typer

from ..config import TrainingConfig

__all__ = ["given", "training_options"]

_SHORT = {"latent_dim": "--latent", "learning_rate": "--lr", "batch_size": "--batch"}
_METAVAR = {"latent_dim": "NUMBER|auto", "crop": "Y0 Y1 X0 X1", "max_time": "DD:HH:MM:SS"}


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command one option for each field of `TrainingConfig`, in place of its ``**keywords``.

    An option that the user leaves out arrives as None, so that presets and checkpoints keep their say.
    """
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    own = [p.replace(kind=p.KEYWORD_ONLY) for p in own]
    command.__signature__ = signature.replace(parameters=[*own, *_options()])  # type: ignore[attr-defined]
    return command


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that the user gave, as values of the fields of `TrainingConfig`."""
    words: dict[Any, Any] = {"true": True, "false": False}
    return {
        name: int(value) if name == "latent_dim" and value.isdecimal() else words.get(value, value)
        for name, value in options.items()
        if value is not None
    }


def _options() -> list[inspect.Parameter]:
    return [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, annotation=_type(name, field.annotation),
            default=_option(name, field.default, field.description or ""),
        )
        for name, field in TrainingConfig.model_fields.items()
    ]  # fmt: skip


def _type(name: str, annotation: Any) -> Any:
    if name == "split_counts":  # on, off or auto
        annotation = Literal["auto", "true", "false"]
    if name == "latent_dim":  # a number or auto
        annotation = str
    return annotation | None


def _option(name: str, default: Any, text: str) -> Any:
    flag = f"--{name}/--no_{name}" if default is False else f"--{name}"
    flags = [flag, _SHORT[name]] if name in _SHORT else [flag]
    if default is not None and default is not False:
        text = (
            f"{text} Default: {default:g}." if isinstance(default, float) else f"{text} Default: {default}."
        )
    return typer.Option(None, *flags, help=text, metavar=_METAVAR.get(name))
