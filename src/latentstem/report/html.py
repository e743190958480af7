"""Pieces of a self-contained HTML page: text, tables and pictures in one file that can be sent by mail."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

__all__ = ["figures", "page", "paragraph", "picture", "sentences", "table"]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
img { max-width: 100%; }
td, th { padding: 0.1rem 1.5rem 0.1rem 0; text-align: left; vertical-align: top; }
th { font-weight: 600; border-bottom: 1px solid #ccc; }
td + td { font-variant-numeric: tabular-nums; }
.strong { font-size: 1.2rem; border-left: 0.3rem solid #36c; padding-left: 1rem; }
"""


def page(title: str, sections: Mapping[str, str]) -> str:
    """A page of sections: heading to HTML, as the other functions here make it."""
    body = "\n".join(f"<h2>{escape(heading)}</h2>\n{content}" for heading, content in sections.items())
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def picture(path: Path, caption: str) -> str:
    """A PNG file, held by the page itself."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    shown = escape(caption, quote=True)
    return f'<img src="data:image/png;base64,{data}" alt="{shown}">\n<p>{shown}</p>'


def paragraph(text: str, *, strong: bool = False) -> str:
    """A paragraph, in large letters where it is what matters most."""
    kind = ' class="strong"' if strong else ""
    return f"<p{kind}>{escape(text)}</p>"


def sentences(lines: Iterable[str]) -> str:
    """A list of sentences."""
    items = "".join(f"<li>{escape(line)}</li>\n" for line in lines)
    return f"<ul>\n{items}</ul>" if items else "<p>none</p>"


def figures(values: Mapping[str, object]) -> str:
    """A table of names and values."""
    return table((), values.items())


def table(headings: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A table; numbers are written with five digits."""
    head = "".join(f"<th>{escape(name)}</th>" for name in headings)
    head = f"<tr>{head}</tr>\n" if head else ""
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_text(value))}</td>" for value in row) + "</tr>\n" for row in rows
    )
    return f"<table>\n{head}{body}</table>"


def _text(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
