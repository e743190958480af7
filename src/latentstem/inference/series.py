"""Apply a model to each scan of a series, and merge the results."""

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
    maps, unsmoothed = (np.full(shape, np.nan, np.float32) for _ in range(2))
    for region, embedding in zip(series.regions, embeddings, strict=True):
        region.crop(maps)[:] = embedding.maps
        region.crop(unsmoothed)[:] = np.nan if embedding.unsmoothed is None else embedding.unsmoothed
    provenance = {**embeddings[0].provenance, "applied_to": series.signature()}
    return Embedding(maps, series.axes[:2], provenance, unsmoothed)


def accepts_series(method: Method) -> Method:
    """Let a method that takes one scan also take a series; it then returns a list with one result per scan.

    For a series, ``scan_shape``, ``scan_mask`` and ``out`` are lists.
    """

    @wraps(method)  # type: ignore[arg-type]
    def wrapper(
        self: Any, data: Any, *, scan_shape: Any = None, scan_mask: Any = None, **arguments: Any
    ) -> Any:
        scan = as_scan(data, scan_shape, scan_mask=scan_mask)
        if not isinstance(scan, Series):
            return method(self, scan, **arguments)  # type: ignore[operator]
        out = one_value_per_scan("out", arguments.pop("out", None), len(scan.scans))
        _check_output_files(out, arguments.get("overwrite", False))
        results = []
        for i, (part, path) in enumerate(zip(scan.scans, out, strict=True)):
            scan_arguments = {**arguments, "out": path} if path is not None else arguments
            with located_errors(i, len(out), part.name):
                results.append(method(self, part, **scan_arguments))  # type: ignore[operator]
        return results

    return wrapper  # type: ignore[return-value]


def _check_output_files(out: Sequence[Any], overwrite: bool) -> None:
    """Check that all results can be written, before computing the first."""
    paths = [Path(path) for path in out if path is not None]
    for i, path in enumerate(paths):
        check_output(path, pattern_suffixes(), overwrite)
        if path.resolve() in [earlier.resolve() for earlier in paths[:i]]:
            raise ArgumentError(
                "two results cannot go into one file",
                expected="a file for each scan",
                received=f"out with {path} twice",
                advice="Give each scan another file name.",
            )
