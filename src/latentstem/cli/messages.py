"""Error and interrupt messages of the command line."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer

from ..errors import ArgumentText, LatentSTEMError

__all__ = ["echo_stderr", "escape_control_characters", "friendly_errors"]

#: options whose names differ from those of the arguments
_OPTIONS = {"init_from": "--checkpoint", "resume_from": "--resume", "scan_shape": "--scan"}


def echo_stderr(text: str) -> None:
    """Print a message to stderr."""
    typer.echo("\n".join(map(escape_control_characters, text.split("\n"))), err=True)


def escape_control_characters(text: str) -> str:
    """Escape control characters, so that file contents cannot control the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


@contextmanager
def friendly_errors(interrupted: Callable[[], str] = lambda: "Nothing was written.") -> Iterator[None]:
    """Errors and warnings as text, without tracebacks; exit status 2 after an error, 130 after Ctrl-C.

    Parameters
    ----------
    interrupted : callable
        Gives the message about the files that are there when the user stops the command.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # meant for the developers of libraries
        warnings.showwarning = lambda message, *_, **__: echo_stderr(f"warning: {message}")
        try:
            yield
        except LatentSTEMError as error:
            texts = (error.what, error.expected, error.received, error.advice)
            what, expected, received, advice = map(escape_control_characters, map(_with_options, texts))
            typer.echo(f"error: {what}\n  expected: {expected}\n  received: {received}\n  {advice}", err=True)
            raise typer.Exit(2) from None
        except OSError as error:
            echo_stderr(f"error: {error}")
            raise typer.Exit(2) from None
        except (KeyboardInterrupt, SystemExit) as stop:
            # Lightning ends with SystemExit when it is interrupted
            if isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
                raise
            echo_stderr(f"\nStopped. {interrupted()}")
            raise typer.Exit(130) from None


def _with_options(text: str) -> str:
    return text.with_spelling(_option) if isinstance(text, ArgumentText) else text


def _option(argument: str, value: Any) -> str:
    """An argument as an option: ``--scan 5 6``; of several values: ``--scan 5 6, 6 5``."""
    option = _OPTIONS.get(argument, f"--{argument}")
    if value is None or value is True:
        return option
    values = value if isinstance(value, list) else [value]
    words = (" ".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in values)
    return f"{option} {', '.join(words)}"
