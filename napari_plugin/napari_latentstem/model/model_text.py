"""Rich text about a model."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latentstem import LatentModel

__all__ = ["describe_model", "training_summary"]


def training_summary(model: LatentModel) -> str:
    """Result of training: comparison with PCA and NMF, advice, metrics, criteria, automatic choices."""
    summary, parts = model.summary, []
    verdict = (model.evidence or {}).get("verdict")
    if verdict:
        parts.append(f"<p><b>{escape(verdict)}</b></p>")
    parts += [f"<p>{escape(advice)}</p>" for advice in summary.advice]
    rows = [(escape(name), f"{value:.5g}") for name, value in summary.figures.items()]
    rows += [(escape(name), "yes" if met else "no") for name, met in summary.verdicts.items()]
    cells = "".join(f"<tr><td>{name}&nbsp;&nbsp;</td><td>{value}</td></tr>" for name, value in rows)
    parts.append(f"<table>{cells}</table>")
    if summary.choices:
        parts.append("<p>Chosen: " + "; ".join(map(escape, summary.choices)) + "</p>")
    return "".join(parts)


def describe_model(model: LatentModel) -> str:
    """Properties of a model, in a few lines."""
    config, scan = model.config, model.scan_signature
    height, width = model.pattern_shape
    lines = [
        f"<b>{config.latent_dim} latents</b> of patterns of {height} × {width} pixels",
        f"network {config.network}, objective {config.reconstruction}",
    ]
    if scan:
        rows, columns = scan["scan_shape"]
        lines.append(f"trained on {escape(str(scan['name']))}, {rows} × {columns} positions")
    losses = model.history.get("val/loss")
    if losses:
        lines.append(f"validation loss {min(losses):.5g} after {len(losses)} validations")
    return "<br>".join(lines)
