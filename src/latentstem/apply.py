"""A model applied to a scan, block by block: in this process, or on the workers of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm.auto import tqdm

from .context import COMPARED
from .errors import DataValueError
from .preprocessing import as_tensor
from .scan import PatternSource, Scan
from .training.reader import Batch

if TYPE_CHECKING:
    from .model import LatentModel

__all__ = ["Box", "Call", "Run", "Work", "applied", "boxes", "in_memory"]

Box = tuple[
    int, int, int, int
]  # first and last row, first and last column of the scan, the last ones excluded
Call = tuple[str, tuple[Any, ...]]  # a method of `Work`, and what it is called with
Run = Callable[[Iterable[Call]], Iterator[np.ndarray]]

_BATCH = 256  # patterns that go through the network together
_BLOCK_BYTES = 2**23  # of float32 patterns that are held together


class Work:
    """What a model does with blocks of a scan. It is what travels to the workers of a cluster, once to each.

    A network that sees principal components needs the scores of a block's neighbours too, but not their patterns: the
    scores of the whole scan are found first, in one pass over the storage, and the results from them.

    Parameters
    ----------
    model : LatentModel
        The model.
    decode : bool
        Whether the results are patterns rather than latents.
    source : PatternSource, optional
        Where the patterns of a block are read from that comes without them.

    Attributes
    ----------
    scored : bool
        Whether the network sees scores, and not patterns.
    halo : int
        Neighbours of a block whose scores are needed.
    width : int
        Length of what `scores` gives for a pattern, q + v.
    shape : tuple of int
        Of one result: (k,) or (H, W).
    """

    def __init__(self, model: LatentModel, decode: bool, source: PatternSource | None = None) -> None:
        self.model, self.source = model, source
        self.scored = model.module.network.components > 0
        self.halo = model.context if self.scored else 0
        self.shape = model.pattern_shape if decode else (int(model.config.latent_dim),)
        shown = model.module.context.directions.shape[1]
        self.width = shown + min(shown, COMPARED)
        self._function = model.reconstruct_batch if decode else model.module.encode_batch
        self._reading = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Work, (self.model, len(self.shape) == 2, self.source)

    def without_source(self) -> Work:
        """The same for blocks that come with their patterns."""
        return Work(self.model, len(self.shape) == 2)

    def scores(self, box: Box, patterns: np.ndarray | None = None) -> np.ndarray:
        """Scores of the patterns in a box, and the variances of their noise, shape (ny, nx, q + v), float32."""
        patterns = self.read(box) if patterns is None else patterns
        module, flat = self.model.module, patterns.reshape(-1, *patterns.shape[2:])
        parts = (as_tensor(flat[at : at + _BATCH]) for at in range(0, len(flat), _BATCH))
        found = torch.cat([torch.cat(module.context(module.values(part)), 1) for part in parts])
        return found.numpy().reshape(*patterns.shape[:2], -1)

    def results(self, inner: Box, excluded: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Latents or patterns of a block from the scores of the block and of its neighbours.

        Parameters
        ----------
        inner : Box
            Of the arrays, what is wanted.
        excluded : ndarray, shape (my, mx), bool
            Scan positions whose result is NaN, and which are nobody's neighbours.
        scores : ndarray, shape (my, mx, q + v)
            As `scores` gives them.
        """
        split = self.model.module.network.components
        own = torch.from_numpy(np.ascontiguousarray(scores)).flatten(0, 1)
        nothing = np.broadcast_to(np.float32(0), (*excluded.shape, *self.model.pattern_shape))
        reader = self.model.reader(_unread(nothing, excluded), whole=(own[:, :split], own[:, split:]))
        return self._in_batches(inner, excluded, lambda positions: reader(positions, patterns=False))

    def results_of_patterns(
        self, box: Box, excluded: np.ndarray, patterns: np.ndarray | None = None
    ) -> np.ndarray:
        """Latents or patterns of a block from its patterns alone, for networks that see no scores."""
        if patterns is None:
            patterns = self.read(box)
        flat = patterns.reshape(-1, *patterns.shape[2:])
        whole = (0, patterns.shape[0], 0, patterns.shape[1])
        return self._in_batches(whole, excluded, lambda positions: Batch.of(flat[positions]))

    def read(self, box: Box) -> np.ndarray:
        """The patterns in a box, shape (ny, nx, H, W)."""
        if self.source is None:
            raise RuntimeError("this work has no source to read from")
        y0, y1, x0, x1 = box
        positions = np.arange(y0, y1)[:, None] * self.source.shape[1] + np.arange(x0, x1)
        with self._reading:  # the tasks of a worker share what the source keeps of its last chunks
            patterns = self.source.read(positions.ravel())
        return patterns.reshape(*positions.shape, *patterns.shape[1:])

    def _in_batches(
        self, inner: Box, excluded: np.ndarray, batch: Callable[[np.ndarray], Batch]
    ) -> np.ndarray:
        y0, y1, x0, x1 = inner
        included = ~excluded[y0:y1, x0:x1]
        out = np.full((*included.shape, *self.shape), np.nan, np.float32)
        rows, columns = np.nonzero(included)
        positions = (rows + y0) * excluded.shape[1] + columns + x0
        for at in range(0, len(positions), _BATCH):
            some = slice(at, at + _BATCH)
            found = self._function(batch(positions[some])).numpy()
            if not np.isfinite(found).all():
                raise _not_finite(np.isfinite(found.reshape(len(found), -1)).all(1))
            out[rows[some], columns[some]] = found
        return out


def _not_finite(fine: np.ndarray) -> DataValueError:
    return DataValueError(
        "NaN or infinite values",
        expected="finite values in the range of single precision, at every scan position that is not excluded",
        received=f"{np.count_nonzero(~fine)} of {len(fine)} patterns for which the model gives no finite result",
        advice="Exclude them with scan_mask = ~np.isfinite(data).all(axis=(2, 3)), or replace them.",
    )


def applied(
    work: Work,
    scan: Scan,
    *,
    tile: tuple[int, int] | None = None,
    client: Any = None,
    progress: bool = False,
) -> Generator[tuple[Box, np.ndarray], None, None]:
    """Boxes of a scan that together fill it, in order, and what the model makes of each.

    Parameters
    ----------
    work : Work
        What is done; its source is the scan's.
    scan : Scan
        With its masks.
    tile : (int, int), optional
        Scan rows and columns that boxes should consist of, as they are stored together where the results go.
    client : distributed.Client, optional
        Whose workers do it; see `latentstem.adapters.cluster`.
    progress : bool
        Show a progress bar.
    """
    excluded = np.zeros(scan.scan_shape, bool) if scan.scan_mask is None else scan.scan_mask
    what = "reconstructing" if len(work.shape) == 2 else "embedding"
    with _runner(work, client) as (run, reads):
        pattern_bytes = max(4, scan.dtype.itemsize) * int(np.prod(scan.pattern_shape))
        most = int(np.clip(_BLOCK_BYTES // pattern_bytes, 1, _BATCH))
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


def in_memory(work: Work, scan: Scan, *, client: Any = None, progress: bool = False) -> np.ndarray:
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
    work: Work, client: Any
) -> AbstractContextManager[tuple[Run, Callable[[Box], tuple[np.ndarray, ...]]]]:
    """What makes calls of the work, and what has to be read here for them."""
    if client is None:
        return _here(work)
    from .adapters.cluster import on_workers

    return on_workers(work, client)


@contextmanager
def _here(work: Work) -> Iterator[tuple[Run, Callable[[Box], tuple[np.ndarray, ...]]]]:
    def run(calls: Iterable[Call]) -> Iterator[np.ndarray]:
        for method, arguments in calls:
            yield getattr(work, method)(*arguments)

    yield run, lambda box: ()


def _unread(patterns: np.ndarray, excluded: np.ndarray) -> Scan:
    """A scan of this shape whose patterns nobody looks at."""
    from .adapters.arrays import MemorySource, default_axes

    source = MemorySource(patterns)
    return Scan(source, default_axes(source.shape), None if excluded.all() else excluded)
