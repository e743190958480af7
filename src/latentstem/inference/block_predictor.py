"""What a model computes for one block of a scan."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
import torch

from ..errors import DataValueError
from ..nn.autoencoder import Autoencoder
from ..nn.preprocessing import patterns_to_tensor
from ..nn.principal_components import N_COMPARED
from ..nn.scan_scores import ScanScores
from ..scan.scan import Block, PatternSource

__all__ = ["BATCH_SIZE", "BlockPredictor"]

BATCH_SIZE = 256  # patterns that go through the network together


class BlockPredictor:
    """Predicts latents or reconstructions of blocks. Sent once to each worker of a cluster.

    A network that uses principal components needs the scores of a block's neighbours, but not their patterns. So the
    scores of the whole scan are computed first, in one pass over the data, and the predictions from the scores.

    The patterns of a block are given as an array (ny, nx, H, W), or as a `Block` of `source`. Results have shape
    (ny, nx, ...), float32.

    Parameters
    ----------
    autoencoder : Autoencoder
        A trained autoencoder.
    decode : bool
        Whether to predict reconstructions rather than latents.
    source : PatternSource, optional
        Patterns of the scan, to be read block by block.

    Attributes
    ----------
    uses_scores : bool
        Whether the network uses scores, rather than patterns.
    halo : int
        Width of the halo, in scan positions.
    score_length : int
        Length of the output of `compute_scores` per pattern: q scores and v variances.
    result_shape : tuple of int
        Shape of one result: (k,) or (H, W).
    """

    def __init__(self, autoencoder: Autoencoder, decode: bool, source: PatternSource | None = None) -> None:
        self.autoencoder, self.source, self._decode = autoencoder, source, decode
        self.uses_scores = autoencoder.network.n_components > 0
        self.halo = autoencoder.principal_components.radius
        detector = autoencoder.preprocessing.detector
        self.result_shape = detector.pattern_shape if decode else (autoencoder.network.latent_dim,)
        n_components = autoencoder.principal_components.count
        self.score_length = n_components + min(n_components, N_COMPARED)
        self._lock = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.autoencoder.content(), self._decode, self.source)

    def without_source(self) -> BlockPredictor:
        """The same predictor for blocks that are given as arrays."""
        return BlockPredictor(self.autoencoder, self._decode)

    def read_block(self, block: Block) -> np.ndarray:
        """Read the patterns of a block, shape (ny, nx, H, W)."""
        source: Any = self.source
        positions = np.arange(source.shape[0] * source.shape[1]).reshape(source.shape[:2])[block]
        with self._lock:  # tasks of one worker share the source's chunk cache
            patterns = source.read(positions.ravel())
        return patterns.reshape(*positions.shape, *patterns.shape[1:])

    def compute_scores(self, patterns: np.ndarray | Block) -> np.ndarray:
        """Scores of patterns, and the variances of their noise, shape (ny, nx, q + v), float32."""
        patterns = self._as_array(patterns)
        autoencoder, flat = self.autoencoder, patterns.reshape(-1, *patterns.shape[2:])
        scores = []
        for start in range(0, len(flat), BATCH_SIZE):
            values = autoencoder.values(patterns_to_tensor(flat[start : start + BATCH_SIZE]))
            scores.append(torch.cat(autoencoder.principal_components(values), 1))
        return torch.cat(scores).numpy().reshape(*patterns.shape[:2], -1)

    def predict_from_scores(self, scores: np.ndarray, excluded: np.ndarray) -> np.ndarray:
        """Latents or reconstructions of a block from the scores of the block and of its halo.

        Parameters
        ----------
        scores : ndarray, shape (ny + 2 halo, nx + 2 halo, q + v)
            Output of `compute_scores`.
        excluded : ndarray, shape (ny + 2 halo, nx + 2 halo), bool
            Positions whose result is NaN and which are not used as neighbours, among them those outside the scan.
        """
        network, components = self.autoencoder.network, self.autoencoder.principal_components
        flat = torch.from_numpy(np.ascontiguousarray(scores)).flatten(0, 1)
        block_scores, variances = flat[:, : network.n_components], flat[:, network.n_components :]
        all_scores = ScanScores(components, block_scores, variances, excluded)
        return self._predict_batches(excluded, self.halo, lambda i: network.encode_scores(all_scores(i)))

    def predict_from_patterns(self, patterns: np.ndarray | Block, excluded: np.ndarray) -> np.ndarray:
        """Latents or reconstructions of a block from its patterns, for networks that do not use scores.

        The result is NaN at `excluded` positions (ny, nx).
        """
        patterns = self._as_array(patterns)
        autoencoder, flat = self.autoencoder, patterns.reshape(-1, *patterns.shape[2:])
        return self._predict_batches(
            excluded, 0, lambda i: autoencoder.encode(autoencoder.values(patterns_to_tensor(flat[i])))
        )

    def _as_array(self, patterns: np.ndarray | Block) -> np.ndarray:
        return self.read_block(patterns) if isinstance(patterns, Block) else patterns

    @torch.no_grad()
    def _predict_batches(
        self, excluded: np.ndarray, halo: int, encode: Callable[[np.ndarray], torch.Tensor]
    ) -> np.ndarray:
        ny, nx = excluded.shape
        inner = Block(slice(halo, ny - halo), slice(halo, nx - halo))
        rows, columns = np.nonzero(~excluded[inner])
        positions = (rows + halo) * nx + columns + halo
        results = np.full((ny - 2 * halo, nx - 2 * halo, *self.result_shape), np.nan, np.float32)
        for start in range(0, len(positions), BATCH_SIZE):
            batch = slice(start, start + BATCH_SIZE)
            latents = encode(positions[batch])
            result = (self.autoencoder.decode_patterns(latents) if self._decode else latents).numpy()
            is_finite = np.isfinite(result.reshape(len(result), -1)).all(1)
            if not is_finite.all():
                raise DataValueError(
                    "NaN or infinite values",
                    expected="finite values in the range of single precision, at every scan position that is not excluded",
                    received=f"{np.count_nonzero(~is_finite)} of {len(is_finite)} patterns for which the model gives no "
                    "finite result",
                    advice="Exclude them with scan_mask = ~np.isfinite(data).all(axis=(2, 3)), or replace them.",
                )
            results[rows[batch], columns[batch]] = result
        return results


def _rebuild(content: dict[str, Any], decode: bool, source: PatternSource | None) -> BlockPredictor:
    return BlockPredictor(Autoencoder.from_checkpoint_dict(content, "another process"), decode, source)
