"""The tables of ``latentstem info``, for data files and checkpoints."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..scan.scan import Axis, Scan
from ..util.formatting import format_bytes
from .messages import escape_control_characters

__all__ = ["show_data", "show_model"]


def show_data(scan: Scan) -> None:
    """Shape, dtype, range, axes, size and quality of a scan, after one pass over it."""
    from ..scan.quality import measure_quality

    quality = measure_quality(scan)
    properties = {
        "file": scan.metadata.get("path", scan.name),
        "scan": _describe_scan_shape(scan.signature()),
        "patterns": "{} x {} pixels".format(*scan.pattern_shape),
        "dtype": str(scan.dtype),
        "range": f"{quality.minimum:g} to {quality.maximum:g}",
        "size": format_bytes(scan.nbytes),
    }
    console = Console()
    console.print(_key_value_table("Data", properties))
    console.print(_axes_table(scan.axes))
    for line in quality.lines():
        console.print(_text(line), soft_wrap=True)


def show_model(path: Path) -> None:
    """Configuration, preprocessing, training scan, last values of the history, and versions of a checkpoint."""
    from ..inference.model import load

    model = load(path)
    description, scan = model.describe(), model.scan_signature
    trained_on = {
        "name": scan.get("name"),
        "scan": _describe_scan_shape(scan),
        "patterns": "{} x {} pixels".format(*scan["pattern_shape"]),
        "dtype": scan.get("dtype"),
    }
    console = Console()
    console.print(_key_value_table("Model", {"file": path, "format version": description["format_version"]}))
    console.print(_key_value_table("Configuration", description["config"]))
    console.print(_key_value_table("Preprocessing", description["preprocessing"]))
    console.print(_key_value_table("Trained on", trained_on))
    console.print(_axes_table(Axis(**axis) for axis in scan.get("axes", ())))
    console.print(
        _key_value_table("Last values", {name: f"{v[-1]:.5g}" for name, v in model.history.items() if v})
    )
    console.print(_key_value_table("Versions", description["versions"]))


def _describe_scan_shape(signature: dict[str, Any]) -> str:
    """Scan rows and columns; those of each scan of a series."""
    scans = signature.get("scans") or [signature]
    return ", ".join("{} x {}".format(*scan["scan_shape"]) for scan in scans) + " positions"


def _key_value_table(title: str, values: dict[str, Any]) -> Table:
    table = _table(title, show_header=False)
    for name, value in values.items():
        table.add_row(_text(name), _text("-" if value is None else value))
    return table


def _axes_table(axes: Iterable[Axis]) -> Table:
    table = _table("Axes")
    for heading in ("axis", "size", "scale", "offset", "units"):
        table.add_column(heading)
    for axis in axes:
        numbers = (str(axis.size), f"{axis.scale:.6g}", f"{axis.offset:.6g}")
        table.add_row(_text(axis.name), *numbers, _text(axis.units or "uncalibrated"))
    return table


def _text(value: object) -> Text:
    return Text(escape_control_characters(str(value)))


def _table(title: str, **options: Any) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, **options)
