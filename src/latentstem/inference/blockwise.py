"""Apply a model to a scan block by block, in this process or on a dask cluster, or to a lazy array, as dask tasks.

Each way has the same two steps of `BlockPredictor`: scores of each block, then results from the scores of a block and its
halo.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any
from uuid import uuid4

import numpy as np
from tqdm.auto import tqdm

from ..nn.autoencoder import Autoencoder
from ..scan.scan import Block, Scan
from .block_predictor import BATCH_SIZE, BlockPredictor
from .cluster import TaskRunner, cluster_executor

__all__ = ["predict", "predict_blocks", "reconstruct_dask", "split_into_blocks"]

_MAX_BLOCK_BYTES = 2**23  # of the patterns of a block, as float32


def predict_blocks(
    predictor: BlockPredictor,
    scan: Scan,
    *,
    chunk: tuple[int, int] | None = None,
    client: Any = None,
    progress: bool = False,
) -> Generator[tuple[Block, np.ndarray], None, None]:
    """Yield the blocks of a scan with the model's results; together they fill the scan.

    Parameters
    ----------
    predictor : BlockPredictor
        Its source is the scan's.
    chunk : (int, int), optional
        Scan rows and columns of one storage chunk of the output file; (1, 1) gives blocks in the order of the scan.
        Without it, blocks come in the order of the input.
    client : distributed.Client, optional
        Compute on the workers of this cluster; see `latentstem.inference.cluster`.
    """
    excluded = scan.excluded
    description = "reconstructing" if len(predictor.result_shape) == 2 else "embedding"
    pattern_bytes = max(4, scan.dtype.itemsize) * int(np.prod(scan.pattern_shape))
    max_patterns = int(np.clip(_MAX_BLOCK_BYTES // pattern_bytes, 1, BATCH_SIZE))
    input_chunk = scan.source.chunks
    input_blocks = split_into_blocks(scan.scan_shape, input_chunk, max_patterns)
    blocks = split_into_blocks(scan.scan_shape, chunk or input_chunk, max_patterns)
    with _executor(predictor, client) as run_tasks:
        if not predictor.uses_scores:
            if chunk not in (None, (1, 1)):
                # in the order of the input, so that its chunks are read about once
                cy, cx = input_chunk
                blocks = sorted(
                    blocks,
                    key=lambda b: (b.rows.start // cy, b.columns.start // cx, b.rows.start, b.columns.start),
                )
            results = run_tasks(("predict_from_patterns", (block, excluded[block])) for block in blocks)
            yield from _with_progress_bar(blocks, results, description if progress else "")
            return
        halo, (ny, nx) = predictor.halo, scan.scan_shape
        scores = np.zeros((ny + 2 * halo, nx + 2 * halo, predictor.score_length), np.float32)
        inner = scores[halo : halo + ny, halo : halo + nx]
        excluded = np.pad(excluded, halo, constant_values=True)
        results = run_tasks(("compute_scores", (block,)) for block in input_blocks)
        for block, result in _with_progress_bar(input_blocks, results, "reading" if progress else ""):
            inner[block] = result
        with_halo = (Block(*(slice(s.start, s.stop + 2 * halo) for s in block)) for block in blocks)
        results = run_tasks(("predict_from_scores", (scores[block], excluded[block])) for block in with_halo)
        yield from _with_progress_bar(blocks, results, description if progress else "")


def predict(
    predictor: BlockPredictor, scan: Scan, *, client: Any = None, progress: bool = False
) -> np.ndarray:
    """Results for a whole scan, shape (Ny, Nx, ...), float32; see `predict_blocks`."""
    results = np.empty((*scan.scan_shape, *predictor.result_shape), np.float32)
    with closing(predict_blocks(predictor, scan, client=client, progress=progress)) as blocks:
        for block, values in blocks:
            results[block] = values
    return results


def reconstruct_dask(autoencoder: Autoencoder, patterns: Any, excluded: np.ndarray) -> Any:
    """Lazy reconstruction of a lazy scan, computed block by block by any dask scheduler.

    The halo of a block has scores, not patterns. The model is in dask's task graph once.

    Patterns and result are dask arrays of shape (Ny, Nx, H, W), the result float32 and NaN at excluded scan positions.
    """
    import dask.array as da
    from dask.array.overlap import overlap
    from dask.delayed import delayed

    predictor = BlockPredictor(autoencoder, decode=True)
    arguments = {
        "predictor": delayed(predictor, name=f"latentstem-predictor-{uuid4().hex}", traverse=False),
        "dtype": np.float32,
    }
    patterns = patterns.rechunk(("auto", "auto", -1, -1))
    mask = da.from_array(excluded, chunks=patterns.chunks[:2])
    if not predictor.uses_scores:
        meta = np.empty((0,) * 4, np.float32)
        return da.map_blocks(_predict_patterns, patterns, mask[..., None, None], **arguments, meta=meta)
    scores = patterns.map_blocks(
        _score_block, **arguments, drop_axis=[2, 3], new_axis=[2],
        chunks=(*patterns.chunks[:2], predictor.score_length), meta=np.empty((0,) * 3, np.float32),
    )  # fmt: skip
    halo = predictor.halo
    scores = overlap(scores, {0: halo, 1: halo, 2: 0}, 0)
    mask = overlap(mask, halo, True)
    rows, columns = (tuple(size - 2 * halo for size in sizes) for sizes in scores.chunks[:2])
    return da.map_blocks(
        _predict_scores, scores, mask[..., None], **arguments, drop_axis=[2], new_axis=[2, 3],
        chunks=(rows, columns, *predictor.result_shape), meta=np.empty((0,) * 4, np.float32),
    )  # fmt: skip


def _predict_patterns(patterns: np.ndarray, mask: np.ndarray, predictor: BlockPredictor) -> np.ndarray:
    return predictor.predict_from_patterns(patterns, mask[..., 0, 0])


def _score_block(patterns: np.ndarray, predictor: BlockPredictor) -> np.ndarray:
    return predictor.compute_scores(patterns)


def _predict_scores(scores: np.ndarray, mask: np.ndarray, predictor: BlockPredictor) -> np.ndarray:
    return predictor.predict_from_scores(scores, mask[..., 0])


def split_into_blocks(scan_shape: tuple[int, int], chunk: tuple[int, int], max_patterns: int) -> list[Block]:
    """Split a scan into blocks of at most `max_patterns`.

    Blocks consist of whole chunks if these are small enough, and come in row-major order of chunks.
    """
    (ny, nx), (rows, columns) = scan_shape, chunk
    if (rows, columns) == (1, 1):
        rows, columns = max(1, max_patterns // nx), min(nx, max_patterns)
    elif rows * columns <= max_patterns:
        columns = min(max_patterns // (rows * columns) * columns, nx)
    blocks = []
    for top in range(0, ny, rows):
        bottom = min(top + rows, ny)
        for left in range(0, nx, columns):
            right = min(left + columns, nx)
            width = min(right - left, max_patterns)
            height = max(1, max_patterns // width)
            blocks += [
                Block(slice(y, min(y + height, bottom)), slice(x, min(x + width, right)))
                for y in range(top, bottom, height)
                for x in range(left, right, width)
            ]
    return blocks


def _with_progress_bar(
    blocks: list[Block], results: Iterable[np.ndarray], description: str
) -> Iterator[tuple[Block, np.ndarray]]:
    total = sum(block.size for block in blocks)
    with tqdm(total=total, disable=not description, unit="pattern", desc=description) as bar:
        for block, values in zip(blocks, results, strict=True):
            yield block, values
            bar.update(block.size)


def _executor(predictor: BlockPredictor, client: Any) -> AbstractContextManager[TaskRunner]:
    """A context with a function that runs methods of the predictor, here or on the workers."""
    if client is not None:
        return cluster_executor(predictor, client)
    return nullcontext(lambda tasks: (getattr(predictor, method)(*arguments) for method, arguments in tasks))
