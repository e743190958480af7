"""What a model does with blocks of a scan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from typing import Any

import numpy as np
import torch

from ..errors import DataValueError
from ..nn.autoencoder import Autoencoder
from ..nn.preprocessing import patterns_to_tensor
from ..nn.principal_components import N_COMPARED
from ..nn.scan_scores import ScanScores
from ..scan.scan import Box, PatternSource

__all__ = ["BATCH", "BlockPredictor", "Call", "Run"]

BATCH = 256  # patterns that go through the network together
Call = tuple[str, tuple[Any, ...]]  # a method of `BlockPredictor`, and what it is called with
Run = Callable[[Iterable[Call]], Iterator[np.ndarray]]  # makes such calls


class BlockPredictor:
    """What a model does with blocks of a scan. It is what travels to the workers of a cluster, once to each.

    A network that sees principal components needs the scores of a block's neighbours too, but not their patterns: the
    scores of the whole scan are found first, in one pass over the storage, and the results from them.

    Parameters
    ----------
    autoencoder : Autoencoder
        A trained one.
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

    def __init__(self, autoencoder: Autoencoder, decode: bool, source: PatternSource | None = None) -> None:
        self.autoencoder, self.source = autoencoder, source
        self.scored = autoencoder.network.n_components > 0
        self.halo = autoencoder.principal_components.radius
        detector = autoencoder.preprocessing.detector
        self.shape = detector.pattern_shape if decode else (autoencoder.network.latent_dim,)
        shown = autoencoder.principal_components.count
        self.width = shown + min(shown, N_COMPARED)
        self._decode = decode
        self._reading = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.autoencoder.content(), self._decode, self.source)

    def without_source(self) -> BlockPredictor:
        """The same for blocks that come with their patterns."""
        return BlockPredictor(self.autoencoder, self._decode)

    def scores(self, box: Box, patterns: np.ndarray | None = None) -> np.ndarray:
        """Scores of the patterns in a box, and the variances of their noise, shape (ny, nx, q + v), float32."""
        patterns = self.read(box) if patterns is None else patterns
        autoencoder, flat = self.autoencoder, patterns.reshape(-1, *patterns.shape[2:])
        parts = (patterns_to_tensor(flat[at : at + BATCH]) for at in range(0, len(flat), BATCH))
        found = torch.cat(
            [torch.cat(autoencoder.principal_components(autoencoder.values(part)), 1) for part in parts]
        )
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
        autoencoder = self.autoencoder
        split = autoencoder.network.n_components
        own = torch.from_numpy(np.ascontiguousarray(scores)).flatten(0, 1)
        known = ScanScores(autoencoder.principal_components, own[:, :split], own[:, split:], excluded)
        return self._in_batches(
            inner, excluded, lambda positions: autoencoder.network.encode_scores(known(positions))
        )

    def results_of_patterns(
        self, box: Box, excluded: np.ndarray, patterns: np.ndarray | None = None
    ) -> np.ndarray:
        """Latents or patterns of a block from its patterns alone, for networks that see no scores."""
        if patterns is None:
            patterns = self.read(box)
        flat = patterns.reshape(-1, *patterns.shape[2:])
        whole = (0, patterns.shape[0], 0, patterns.shape[1])
        autoencoder = self.autoencoder
        return self._in_batches(
            whole, excluded, lambda at: autoencoder.encode(autoencoder.values(patterns_to_tensor(flat[at])))
        )

    def read(self, box: Box) -> np.ndarray:
        """The patterns in a box, shape (ny, nx, H, W)."""
        source: Any = self.source
        y0, y1, x0, x1 = box
        positions = np.arange(y0, y1)[:, None] * source.shape[1] + np.arange(x0, x1)
        with self._reading:  # the tasks of a worker share what the source keeps of its last chunks
            patterns = source.read(positions.ravel())
        return patterns.reshape(*positions.shape, *patterns.shape[1:])

    @torch.no_grad()
    def _in_batches(
        self, inner: Box, excluded: np.ndarray, encode: Callable[[np.ndarray], torch.Tensor]
    ) -> np.ndarray:
        y0, y1, x0, x1 = inner
        included = ~excluded[y0:y1, x0:x1]
        out = np.full((*included.shape, *self.shape), np.nan, np.float32)
        rows, columns = np.nonzero(included)
        positions = (rows + y0) * excluded.shape[1] + columns + x0
        for at in range(0, len(positions), BATCH):
            some = slice(at, at + BATCH)
            latents = encode(positions[some])
            found = (self.autoencoder.decode_patterns(latents) if self._decode else latents).numpy()
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


def _rebuild(content: dict[str, Any], decode: bool, source: PatternSource | None) -> BlockPredictor:
    return BlockPredictor(Autoencoder.from_checkpoint_dict(content, "another process"), decode, source)
