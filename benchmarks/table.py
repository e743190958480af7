"""The results as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .scores import best_baseline

_INTRODUCTION = """\
# Benchmarks

Made by `python -m benchmarks`. Scans are simulated, so the truth is known; it is used for judging only.
Their seeds (100 and up) and geometries are in `benchmarks/scans.py`, and nothing in the package was tuned
on them.
"""


_EARLIER = " (measured on 2026-11-27, before the decoder moved patterns)"


def written(results: dict[str, Any]) -> str:
    """The page of all parts that there are results of."""
    sections = [_INTRODUCTION]
    for name, make in _SECTIONS.items():
        if name in results:
            about = results[name]["machine"]
            sections.append(make(results[name]["values"]))
            sections.append("*" + ", ".join(f"{key} {value}" for key, value in about.items()) + "*\n")
    return "\n".join(sections)


def _quality(values: dict[str, Any]) -> str:
    text = (
        "## Quality\n\n"
        "Efficiency: the Cramer-Rao floor of single patterns over the squared error in square-root space; 1 "
        "is the limit without neighbouring positions. HyperSpy's `decomposition` has the number of "
        "components that is best by the true efficiency, and for ARI and R2 the best of three numbers; NMF "
        "with Poisson weights is more than most users try. `x` is the efficiency over that of the best of "
        "the four. PSNR of a decomposition is the best of all numbers of components. `brightest`: by how many "
        "percent the brightest percent of all values is too bright. Grains are found in standardised latents, and "
        "in latents as they are. Latent maps of the autoencoder are smoothed where neighbours are alike, as "
        "`embed` does by default (`smooth=0`: not); for "
        "the decompositions, maps that are smoothed by the same function are shown, too.\n"
    )
    headings = (
        "method", "size", "efficiency", "x", "interior", "boundaries", "defects", "PSNR / dB",
        "brightest / %", "grain ARI", "as they are", "R2 strain", "R2 thickness", "seconds",
    )  # fmt: skip
    for name, rows in values.items():
        best = best_baseline(rows)
        lines = []
        for method, of in rows.items():
            efficiency = of["efficiency"]
            lines.append((
                method, of["size"], _short(efficiency["all"]), f"{efficiency['all'] / best:.2f}",
                *(_short(efficiency.get(part)) for part in ("interior", "boundary", "defect")),
                f"{of['psnr']:.1f}", f"{100 * of['brightest']:+.1f}" if "brightest" in of else "",
                *_of_latents(of), f"{of['seconds']:.1f}",
            ))  # fmt: skip
            lines += [
                (f"{method}, {how}", of["size"], *[""] * 7, *_of_latents(other), "")
                for how, other in of.get("also", {}).items()
            ]
        is_earlier = not all("brightest" in of for of in rows.values())
        text += f"\n### {name}{_EARLIER if is_earlier else ''}\n\n" + _table(headings, lines)
    return text


def _limits(values: dict[str, Any]) -> str:
    rows = [
        (name, positions, *(_short(value) for value in of.values()))
        for name, windows in values.items()
        for positions, of in windows.items()
    ]
    return (
        "## What R2 the counts allow\n\nThe R2 that estimates from so many positions with the same parameters reach at best, "
        "for parameters that are normal with the covariances that they have within their grain (bound of van Trees). The "
        "network looks at 5 x 5 positions. Fields that are smooth over the scan are not normal, so that a probe that is "
        "trained on them may pass this.\n\n"
    ) + _table(("scan", "positions", "strain", "thickness"), rows)


def _passing(values: dict[str, Any]) -> str:
    rows = [
        (name, _short(of["best baseline"]), "never" if of["seconds"] is None else f"{of['seconds']:.1f}")
        for name, of in values.items()
    ]
    return (
        "## Seconds until the efficiency passes that of the best baseline\n\nFrom the call of "
        "`train_autoencoder`; the time that looking takes is left out. Of the running mean of the weights, which is "
        "what training keeps.\n\n"
    ) + _table(("scan", "best baseline", "seconds"), rows)


def _speed(values: dict[str, Any]) -> str:
    return "## Speed\n\n" + _table(("", ""), [(name, f"{value:,.4g}") for name, value in values.items()])


def _growth(values: dict[str, Any]) -> str:
    text = "## Growth\n\nTraining on 30,000 patterns, and embedding the whole scan.\n"
    for what, sides in values.items():
        names = list(next(iter(sides.values())))
        rows = [(f"{side} x {side}", *(f"{of[name]:,.4g}" for name in names)) for side, of in sides.items()]
        text += "\n" + _table((what, *names), rows)
    return text


def _seeds(values: dict[str, Any]) -> str:
    rows = [
        (seed, _short(of["efficiency"]["all"]), f"{of['psnr']:.1f}", _short(of["ari"]), *_probe(of))
        for seed, of in enumerate(values["scores"])
    ]  # fmt: skip
    agreement = values["agreement"]
    return (
        "## Three seeds\n\n"
        + _table(("seed", "efficiency", "PSNR / dB", "grain ARI", "R2 strain", "R2 thickness"), rows)
        + f"\nLatents of two seeds: mean |correlation| after one-to-one matching {agreement['matched']:.3f}; "
        f"variance of one that is linear in the other {agreement['linear']:.3f}.\n"
    )


def _longer(values: dict[str, Any]) -> str:
    rows = [
        (name, f"{times} x", _short(of["efficiency"]["all"]), f"{of['seconds']:.0f}")
        for name, runs in values.items()
        for times, of in runs.items()
    ]
    return "## Training longer than needed\n\n" + _table(
        ("scan", "default number of patterns", "efficiency", "seconds"), rows
    )


def _labelled(values: dict[str, Any]) -> str:
    if "missing" in values:
        return f"## A labelled scan by another simulator\n\nNot found: {values['missing']}\n"
    rows = [(name, *(f"{value:.3f}" for value in of.values())) for name, of in values["ari"].items()]
    return (
        "## A labelled scan by another simulator\n\n`orient4d-scan32`: 32 x 32 positions, 6 grains, 300 "
        "electrons a pattern; adjusted Rand index of a full-covariance Gaussian mixture with 6 "
        "components.\n\n"
    ) + _table(("", "grain ARI, standardised", "as they are"), rows)


def _processes(values: dict[str, Any]) -> str:
    names = ("patterns/s", "seconds", "validation loss", "efficiency")
    rows = [
        (number, seed, *(f"{of[name]:,.4g}" for name in names))
        for number, runs in values.items()
        for seed, of in enumerate(runs)
    ]
    return (
        "## One process against two\n\nThe same cores and the same batch. Patterns per second of the steps alone; "
        "seconds of the whole run.\n\n"
    ) + _table(("processes", "seed", *names), rows)


def _formats(values: dict[str, Any]) -> str:
    names = list(dict.fromkeys(name for of in values.values() for name in of))
    rows = [
        (kind, *(f"{of[name]:,.4g}" if name in of else "" for name in names)) for kind, of in values.items()
    ]
    return (
        "## Formats\n\nPatterns per second that arrive, where no file is read into memory (warm disk cache), and seconds "
        "of a training of four passes; with `cache_dir`, when the copy is made and when it is there.\n\n"
    ) + _table(("format", *names), rows)


def _loading(values: dict[str, Any]) -> str:
    rows = [
        (pixels, *(f"{rate:,.4g}" for rate in of.values()), f"{of['arrive'] / of['are trained on']:.3g}")
        for pixels, of in values.items()
    ]
    return (
        "## Loading against computing\n\nPatterns per second that arrive from a memory map in one process, and that "
        "steps of training on the device take.\n\n"
    ) + _table(("pixels", "arrive", "are trained on", "ratio"), rows)


def _memory(values: dict[str, Any]) -> str:
    names = ("import", "train", "and embed", "and reconstruct")
    rows = [
        (
            kind,
            size,
            *(f"{of[name] / 1e9:.2f}" for name in names),
            f"{of['seconds']:.0f}" if "seconds" in of else "",
        )
        for kind, sizes in values.items()
        for size, of in sizes.items()
    ]
    return (
        "## Memory\n\nPeak resident memory in GB so far, of a fresh process that trains on a file (256 x 256 pixels, "
        "as if it did not fit into memory), embeds it, and writes its reconstruction to a file.\n\n"
    ) + _table(("file", "GB", *names, "seconds"), rows)


def _workers(values: dict[str, Any]) -> str:
    rates = [(name, *(f"{rate:,.4g}" for rate in of.values())) for name, of in values["rates"].items()]
    files = [
        (suffix, f"{of['patterns/s']:,.4g}", f"{(of['peak'] - of['import']) / 1e9:.2f}")
        for suffix, of in values["files"].items()
    ]
    return (
        "## Workers\n\nPatterns per second from a memory-mapped file, in one process and on a dask LocalCluster; "
        "reconstructions are written to a .npy file.\n\n"
        + _table(("", "embed", "reconstruct"), rates)
        + f"\nReconstructions of {values['result / GB']:.2f} GB written to each kind of file, in a fresh process: patterns "
        "per second, and peak resident memory in GB above that of the imports.\n\n"
        + _table(("file", "patterns/s", "memory"), files)
    )


_SECTIONS: dict[str, Callable[[Any], str]] = {
    "quality": _quality,
    "limits": _limits,
    "passing": _passing,
    "speed": _speed,
    "growth": _growth,
    "seeds": _seeds,
    "longer": _longer,
    "labelled": _labelled,
    "processes": _processes,
    "formats": _formats,
    "loading": _loading,
    "memory": _memory,
    "workers": _workers,
}


def _of_latents(of: dict[str, Any]) -> list[str]:
    return [_short(of["ari"]), _short(of["ari as they are"]), *_probe(of)]


def _probe(of: dict[str, Any]) -> list[str]:
    return [_short(of["r2"].get(name)) for name in ("strain", "thickness")]


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)
