"""A model applied to a scan, block by block: in this process, or on the workers of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ..scan.scan import Box, Scan
from .block_predictor import BATCH, BlockPredictor, Call, Run
from .cluster import on_workers

__all__ = ["applied", "boxes", "in_memory"]


_BLOCK_BYTES = 2**23  # of float32 patterns that are held together


def applied(
    work: BlockPredictor,
    scan: Scan,
    *,
    tile: tuple[int, int] | None = None,
    client: Any = None,
    progress: bool = False,
) -> Generator[tuple[Box, np.ndarray], None, None]:
    """Boxes of a scan that together fill it, in order, and what the model makes of each.

    Parameters
    ----------
    work : BlockPredictor
        What is done; its source is the scan's.
    scan : Scan
        With its masks.
    tile : (int, int), optional
        Scan rows and columns that boxes should consist of, as they are stored together where the results go.
    client : distributed.Client, optional
        Whose workers do it; see `latentstem.inference.cluster`.
    progress : bool
        Show a progress bar.
    """
    excluded = np.zeros(scan.scan_shape, bool) if scan.scan_mask is None else scan.scan_mask
    what = "reconstructing" if len(work.shape) == 2 else "embedding"
    with _runner(work, client) as (run, reads):
        pattern_bytes = max(4, scan.dtype.itemsize) * int(np.prod(scan.pattern_shape))
        most = int(np.clip(_BLOCK_BYTES // pattern_bytes, 1, BATCH))
        stored, wanted = scan.source.chunks, tile or scan.source.chunks
        if not work.scored:
            order = sorted(boxes(scan.scan_shape, wanted, most), key=_along(stored)) if tile else None
            order = order or boxes(scan.scan_shape, wanted, most)
            yield from _shown(
                order,
                run(("results_of_patterns", (box, excluded[_cut(box)], *reads(box))) for box in order),
                what if progress else "",
            )
            return
        order = boxes(scan.scan_shape, stored, most)
        scores = np.empty((*scan.scan_shape, work.width), np.float32)
        found = run(("scores", (box, *reads(box))) for box in order)
        for box, some in _shown(order, found, "reading" if progress else ""):
            scores[_cut(box)] = some
        order = boxes(scan.scan_shape, wanted, most)
        around = ((box, *_with_halo(box, work.halo, scan.scan_shape)) for box in order)
        results = run(
            ("results", (inner, excluded[_cut(outer)], scores[_cut(outer)])) for _, outer, inner in around
        )
        yield from _shown(order, results, what if progress else "")


def in_memory(work: BlockPredictor, scan: Scan, *, client: Any = None, progress: bool = False) -> np.ndarray:
    """What the model makes of a whole scan, shape (Ny, Nx, ...), float32; see `applied`."""
    found = np.empty((*scan.scan_shape, *work.shape), np.float32)
    with closing(applied(work, scan, client=client, progress=progress)) as blocks:
        for box, values in blocks:
            found[_cut(box)] = values
    return found


def boxes(scan_shape: tuple[int, int], tile: tuple[int, int], most: int) -> list[Box]:
    """A scan in boxes of at most `most` patterns, of whole tiles where such fit, one row of tiles after the other."""
    (ny, nx), (rows, columns) = scan_shape, tile
    if (rows, columns) == (1, 1):
        rows, columns = max(1, most // nx), min(nx, most)
    elif rows * columns <= most:
        columns = min(most // (rows * columns) * columns, nx)
    found = []
    for top in range(0, ny, rows):
        bottom = min(top + rows, ny)
        for left in range(0, nx, columns):
            right = min(left + columns, nx)
            width = min(right - left, most)
            height = max(1, most // width)
            found += [
                (y, min(y + height, bottom), x, min(x + width, right))
                for y in range(top, bottom, height)
                for x in range(left, right, width)
            ]
    return found


def _along(stored: tuple[int, int]) -> Callable[[Box], tuple[int, ...]]:
    """Sorts boxes by the storage chunk that they begin in."""
    return lambda box: (box[0] // stored[0], box[2] // stored[1], *box)


def _cut(box: Box) -> tuple[slice, slice]:
    return slice(*box[:2]), slice(*box[2:])


def _with_halo(box: Box, halo: int, scan_shape: tuple[int, int]) -> tuple[Box, Box]:
    """The box and its neighbours on the scan, and where in that the box is."""
    y0, y1, x0, x1 = box
    top, left = max(0, y0 - halo), max(0, x0 - halo)
    outer = top, min(scan_shape[0], y1 + halo), left, min(scan_shape[1], x1 + halo)
    return outer, (y0 - top, y1 - top, x0 - left, x1 - left)


def _shown(order: list[Box], found: Iterable[np.ndarray], what: str) -> Iterator[tuple[Box, np.ndarray]]:
    total = sum((box[1] - box[0]) * (box[3] - box[2]) for box in order)
    with tqdm(total=total, disable=not what, unit="pattern", desc=what) as bar:
        for box, values in zip(order, found, strict=True):
            yield box, values
            bar.update((box[1] - box[0]) * (box[3] - box[2]))


def _runner(
    work: BlockPredictor, client: Any
) -> AbstractContextManager[tuple[Run, Callable[[Box], tuple[np.ndarray, ...]]]]:
    """What makes calls of the work, and what has to be read here for them."""
    if client is None:
        return _here(work)
    return on_workers(work, client)


@contextmanager
def _here(work: BlockPredictor) -> Iterator[tuple[Run, Callable[[Box], tuple[np.ndarray, ...]]]]:
    def run(calls: Iterable[Call]) -> Iterator[np.ndarray]:
        for method, arguments in calls:
            yield getattr(work, method)(*arguments)

    yield run, lambda box: ()
