"""What the user reads about a model."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latentstem import LatentModel

__all__ = ["about", "duration", "summary"]


def summary(model: LatentModel) -> str:
    """What came of training, as rich text: verdict against PCA, advice, figures, criteria, choices."""
    told, parts = model.summary, []
    verdict = (model.evidence or {}).get("verdict")
    if verdict:
        sentence, _, measured = verdict.partition(" (")
        parts.append(f"<p><b>{escape(sentence)}</b> {escape('(' + measured) if measured else ''}</p>")
    parts += [f"<p>{escape(advice)}</p>" for advice in told.advice]
    rows = [(escape(name), f"{value:.5g}") for name, value in told.figures.items()]
    rows += [(escape(name), "yes" if met else "no") for name, met in told.verdicts.items()]
    cells = "".join(f"<tr><td>{name}&nbsp;&nbsp;</td><td>{value}</td></tr>" for name, value in rows)
    parts.append(f"<table>{cells}</table>")
    if told.choices:
        parts.append("<p>Chosen: " + "; ".join(map(escape, told.choices)) + "</p>")
    return "".join(parts)


def about(model: LatentModel) -> str:
    """What a model is, in a few lines of rich text."""
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


def duration(seconds: float) -> str:
    """A time in the largest units that matter."""
    seconds = round(seconds)
    hours, minutes = divmod(seconds // 60, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"
