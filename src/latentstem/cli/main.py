"""The application and its commands. Slow imports are inside the commands, so that ``latentstem --help`` is fast."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from .apply import embed, reconstruct
from .show import demo, info, report
from .train import train

__all__ = ["app"]

app = typer.Typer(
    help="Autoencoders on 4D-STEM data: latent maps and denoised diffraction patterns.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _command in (train, embed, reconstruct, report, info, demo):
    app.command()(_command)


def _show_version(version: bool) -> None:
    if version:
        typer.echo(f"latentstem {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit."),
    ] = False,
) -> None:
    pass
