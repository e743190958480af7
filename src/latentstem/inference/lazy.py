"""Reconstruction of dask arrays, as dask arrays."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import numpy as np

from ..nn.autoencoder import Autoencoder
from .block_predictor import BlockPredictor

__all__ = ["reconstruct_lazily"]


def reconstruct_lazily(autoencoder: Autoencoder, patterns: Any, excluded: np.ndarray) -> Any:
    """Reconstructions of a lazy scan, block by block when they are computed, with any scheduler.

    A block needs the scores of its neighbours, not their patterns. The model is in the graph once.

    Parameters
    ----------
    autoencoder : Autoencoder
        Fits the scan.
    patterns : dask array, shape (Ny, Nx, H, W)
    excluded : ndarray, shape (Ny, Nx), bool
        Scan positions whose result is NaN, and which are nobody's neighbours.

    Returns
    -------
    dask array, shape (Ny, Nx, H, W), float32
    """
    import dask.array as da
    from dask.array.overlap import overlap
    from dask.delayed import delayed

    held = BlockPredictor(autoencoder, decode=True)
    work = delayed(held, name=f"latentstem-work-{uuid4().hex}", traverse=False)
    patterns = patterns.rechunk(("auto", "auto", -1, -1))
    masks = da.from_array(excluded, chunks=patterns.chunks[:2])
    if not held.scored:
        return da.map_blocks(
            _of_patterns, patterns, masks[..., None, None], work=work, dtype=np.float32, meta=_empty(4)
        )
    scores = patterns.map_blocks(
        _scores, work=work, drop_axis=[2, 3], new_axis=[2], chunks=(*patterns.chunks[:2], held.width),
        dtype=np.float32, meta=_empty(3),
    )  # fmt: skip
    halo = {0: held.halo, 1: held.halo}
    scores = overlap(scores, {**halo, 2: 0}, "none")
    masks = overlap(masks, halo, "none").rechunk(scores.chunks[:2])
    rows, columns = (
        tuple(size - sum(_sides(n, len(sizes), held.halo)) for n, size in enumerate(sizes))
        for sizes in scores.chunks[:2]
    )
    return da.map_blocks(
        _results, scores, masks[..., None], work=work, count=scores.numblocks, drop_axis=[2], new_axis=[2, 3],
        chunks=(rows, columns, *held.shape), dtype=np.float32, meta=_empty(4),
    )  # fmt: skip


def _empty(dimensions: int) -> np.ndarray:
    return np.empty((0,) * dimensions, np.float32)


def _sides(number: int, count: int, halo: int) -> tuple[int, int]:
    """Width of the halo before and after a block, for there is none at the edges of the scan."""
    return halo * (number > 0), halo * (number < count - 1)


def _of_patterns(patterns: np.ndarray, excluded: np.ndarray, work: BlockPredictor) -> np.ndarray:
    ny, nx = patterns.shape[:2]
    return work.results_of_patterns((0, ny, 0, nx), excluded[..., 0, 0], patterns)


def _scores(patterns: np.ndarray, work: BlockPredictor) -> np.ndarray:
    return work.scores((0, 0, 0, 0), patterns)


def _results(
    scores: np.ndarray,
    excluded: np.ndarray,
    work: BlockPredictor,
    count: tuple[int, ...],
    block_id: tuple[int, ...] = (),
) -> np.ndarray:
    (top, bottom), (left, right) = (
        _sides(n, of, work.halo) for n, of in zip(block_id[:2], count[:2], strict=True)
    )
    ny, nx = excluded.shape[:2]
    return work.results((top, ny - bottom, left, nx - right), excluded[..., 0], scores)
