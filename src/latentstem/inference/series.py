"""A model applied to each scan of a series, and the results together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import ArgumentError
from ..io.open import as_scan
from ..io.output_files import check_output, pattern_suffixes
from ..scan.series import Series, located_errors, one_value_per_scan
from .embedding import Embedding

__all__ = ["accepts_series", "embedding_of_series"]

Method = TypeVar("Method")


def embedding_of_series(series: Series, embeddings: Sequence[Embedding]) -> Embedding:
    """The latents of each scan as one embedding over the canvas of the series, NaN between the scans."""
    shape = (*series.scan_shape, embeddings[0].latent_dim)
    maps, own = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    for region, embedding in zip(series.regions, embeddings, strict=True):
        region.crop(maps)[:] = embedding.maps
        region.crop(own)[:] = np.nan if embedding.unsmoothed is None else embedding.unsmoothed
    provenance = {**embeddings[0].provenance, "applied_to": series.signature()}
    return Embedding(maps, series.axes[:2], provenance, own)


def accepts_series(method: Method) -> Method:
    """Let a method of one scan take a series too, and give a list of what it gives for each scan.

    Arguments that are of one scan (``scan_shape``, ``scan_mask``, ``out``) are lists then.
    """

    @wraps(method)  # type: ignore[arg-type]
    def every(
        self: Any, data: Any, *, scan_shape: Any = None, scan_mask: Any = None, **arguments: Any
    ) -> Any:
        scan = as_scan(data, scan_shape, scan_mask=scan_mask)
        if not isinstance(scan, Series):
            return method(self, scan, **arguments)  # type: ignore[operator]
        out = one_value_per_scan("out", arguments.pop("out", None), len(scan.scans))
        _check_outputs(out, arguments.get("overwrite", False))
        found = []
        for number, (part, target) in enumerate(zip(scan.scans, out, strict=True)):
            own = {**arguments, "out": target} if target is not None else arguments
            with located_errors(number, len(out), part.name):
                found.append(method(self, part, **own))  # type: ignore[operator]
        return found

    return every  # type: ignore[return-value]


def _check_outputs(out: Sequence[Any], overwrite: bool) -> None:
    """Whether all results can be written, asked before the first one is made."""
    paths = [Path(path) for path in out if path is not None]
    for number, path in enumerate(paths):
        check_output(path, pattern_suffixes(), overwrite)
        if path.resolve() in [other.resolve() for other in paths[:number]]:
            raise ArgumentError(
                "two results cannot go into one file",
                expected="a file for each scan",
                received=f"out with {path} twice",
                advice="Give each scan a name of its own.",
            )
