"""Self-contained HTML pages: pictures are part of the page, which needs no other file and no network."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..util.whole_file import atomic_write

__all__ = ["write_page"]


def write_page(path: str | Path, template: str, **values: Any) -> None:
    """Write a page from one of the ``templates``; text in `values` is escaped.

    Raises
    ------
    StorageError
        If the page cannot be written.
    """
    text = _environment.get_template(template).render(values)
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def _png_uri(path: Path) -> str:
    """A PNG file as an address that contains it."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _number(value: object) -> str:
    """Any value as text, floating-point numbers with five digits."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _finite(rows: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    return [(name, value) for name, value in rows if math.isfinite(value)]


_environment = Environment(
    loader=PackageLoader("latentstem.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
_environment.filters |= {"finite": _finite, "number": _number, "png_uri": _png_uri}
