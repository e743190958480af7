"""What a user of the command line is told when something goes wrong or stops."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from ..errors import LatentSTEMError

__all__ = ["note", "plain_messages", "visible"]

_OPTIONS = {
    "init_from": "--checkpoint",
    "resume_from": "--resume",
    "scan_shape": "--scan",
    "overwrite=True": "--overwrite",
}


def note(text: str) -> None:
    """Tell the user something that is not a result."""
    typer.echo("\n".join(map(visible, text.split("\n"))), err=True)


def visible(text: str) -> str:
    """Text on one line in which nothing acts on the terminal: control characters are written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


@contextmanager
def plain_messages(kept: Callable[[], str] = lambda: "Nothing was written.") -> Iterator[None]:
    """Errors and warnings as text, without tracebacks; exit status 2 after an error, 130 after Ctrl-C.

    Parameters
    ----------
    kept : callable
        Says what is kept when the user stops the command.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of libraries, for their developers
        warnings.showwarning = lambda message, *_, **__: note(f"warning: {message}")
        try:
            yield
        except LatentSTEMError as error:
            note(_in_options(error))
            raise typer.Exit(2) from None
        except OSError as error:
            note(f"error: {error}")
            raise typer.Exit(2) from None
        except (KeyboardInterrupt, SystemExit) as stop:
            # Lightning ends with SystemExit when it is interrupted
            if isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
                raise
            note(f"\nStopped. {kept()}")
            raise typer.Exit(130) from None


def _in_options(error: LatentSTEMError) -> str:
    """The parts of an error on lines of their own, with the names that the command line has for arguments."""
    lines = f"error: {error.what}", f"expected: {error.expected}", f"received: {error.received}", error.advice
    text = "\n  ".join(map(visible, lines))
    text = re.sub(r"scan_shape=\((\w+), (\w+)\)((?:, \(\d+, \d+\))*)", _scan_option, text)
    for argument, option in _OPTIONS.items():
        text = text.replace(argument, option)
    return text


def _scan_option(shapes: re.Match[str]) -> str:
    """``--scan 5 6, 6 5`` of ``scan_shape=(5, 6), (6, 5)``."""
    others = re.sub(r"\((\d+), (\d+)\)", r"\1 \2", shapes[3])
    return f"--scan {shapes[1]} {shapes[2]}{others}"
