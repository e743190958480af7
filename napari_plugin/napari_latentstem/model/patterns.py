"""Recorded patterns, reconstructions and residuals at a scan position, or averaged over groups of positions."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from latentstem.report.examples import residual
from latentstem.scan.scan import Scan

if TYPE_CHECKING:
    from latentstem import LatentModel

__all__ = ["Patterns", "mean_patterns", "mean_patterns_of_groupings", "patterns_at"]

_BATCH = 64  # patterns read and reconstructed together
_YIELD_SECONDS = 0.1  # least time between two results


@dataclass(frozen=True, eq=False)
class Patterns:
    """Mean diffraction patterns of groups of scan positions; a single position is a group of one.

    Parameters
    ----------
    recorded : ndarray, shape (groups, H, W), float32
        Recorded patterns; NaN for groups of which no pattern has been read yet.
    reconstruction : ndarray, shape (groups, H, W), float32, or None
        Reconstructed patterns (0 at excluded detector pixels); None without a model.
    n, size : ndarray of int, shape (groups,)
        Number of patterns averaged so far, and number of positions in each group.
    counts : bool
        Whether the model treats the values as electron counts.
    """

    recorded: np.ndarray
    reconstruction: np.ndarray | None
    n: np.ndarray
    size: np.ndarray
    counts: bool = False

    @cached_property
    def residual(self) -> np.ndarray | None:
        """Recorded pattern minus reconstruction, shape (groups, H, W); NaN at excluded pixels.

        For counts, in standard deviations of the counting noise of the mean, see `residual`; else in the data's units.
        """
        if self.reconstruction is None:
            return None
        if self.counts:
            n = np.maximum(self.n, 1)[:, None, None]
            return residual(n * self.recorded.astype(np.float64), n * self.reconstruction)
        return np.where(self.reconstruction == 0, np.nan, self.recorded - self.reconstruction)


def patterns_at(scan: Scan, position: tuple[int, int], model: LatentModel | None = None) -> Patterns:
    """The pattern at one scan position, and its reconstruction, equal to that of `LatentModel.reconstruct`.

    Parameters
    ----------
    scan : Scan
        Only this pattern and the neighbours that the model needs are read.
    position : (int, int)
        Scan row and column.
    model : LatentModel, optional
        Positions excluded by the scan's mask have no reconstruction.

    Raises
    ------
    ModelMismatchError
        If the model was trained on patterns of another shape.
    """
    group = np.zeros(scan.scan_shape, np.int64)
    group[position] = 1
    if scan.scan_mask is not None and scan.scan_mask[position]:
        model, scan = None, replace(scan, scan_mask=None)
    return next(mean_patterns(scan, group, model))


def mean_patterns(scan: Scan, groups: np.ndarray, model: LatentModel | None = None) -> Iterator[Patterns]:
    """Mean patterns of groups of scan positions, refined while the scan is read.

    Storage blocks are read in a fixed random order, so that early means represent the whole group. Excluded positions
    do not count.

    Parameters
    ----------
    scan : Scan
        Scan to read.
    groups : ndarray of int or bool, shape (Ny, Nx)
        Number of the group of each position, from 1; 0 for no group.
    model : LatentModel, optional
        Model that reconstructs them.

    Yields
    ------
    Patterns
        The first after one batch, then ten a second; the last is over all positions. Nothing if all groups are empty.

    Raises
    ------
    ModelMismatchError
        If the model was trained on patterns of another shape.
    """
    if model is not None and model.pattern_shape != scan.pattern_shape:
        model.open_matching_scan(scan, None, None)  # raises
    if model is not None:
        from latentstem.inference.reconstruction import reconstruct_positions  # imports torch
    group_numbers = np.asarray(groups).ravel().astype(np.int64)
    if scan.scan_mask is not None:
        group_numbers = np.where(scan.scan_mask.ravel(), 0, group_numbers)
    size = np.bincount(group_numbers, minlength=2)[1:]
    blocks = [members for block in scan.blocks(_BATCH) if len(members := block[group_numbers[block] > 0])]
    recorded_sums = np.zeros((len(size), *scan.pattern_shape))
    reconstructed_sums = None if model is None else np.zeros_like(recorded_sums)
    n = np.zeros_like(size)
    order = np.random.default_rng(0).permutation(len(blocks))
    batches = [blocks[i][start : start + _BATCH] for i in order for start in range(0, len(blocks[i]), _BATCH)]
    yielded = -math.inf
    for index, positions in enumerate(batches):
        group_indices = group_numbers[positions] - 1
        n += np.bincount(group_indices, minlength=len(size))
        if model is None or reconstructed_sums is None:
            _add_to_groups(recorded_sums, group_indices, scan.read(positions))
        else:
            batch_recorded, batch_reconstructed = reconstruct_positions(model.autoencoder, scan, positions)
            _add_to_groups(recorded_sums, group_indices, batch_recorded)
            _add_to_groups(reconstructed_sums, group_indices, batch_reconstructed)
        if index < len(batches) - 1 and time.monotonic() < yielded + _YIELD_SECONDS:
            continue
        yielded = time.monotonic()
        counts = model is not None and model.config.reconstruction == "poisson"
        yield Patterns(
            _divide(recorded_sums, n),
            None if reconstructed_sums is None else _divide(reconstructed_sums, n),
            n.copy(),
            size,
            counts,
        )


def mean_patterns_of_groupings(scan: Scan, groupings: list[np.ndarray]) -> Iterator[Patterns]:
    """Recorded mean patterns of several sets of groups, which may overlap.

    Parameters
    ----------
    scan : Scan
        Scan to read.
    groupings : list of ndarray of int or bool, shape (Ny, Nx)
        Group numbers, as for `mean_patterns`; read one after the other.

    Yields
    ------
    Patterns
        Groups of all groupings so far.
    """
    empty = np.zeros(0, np.int64)
    previous = latest = Patterns(np.zeros((0, *scan.pattern_shape), np.float32), None, empty, empty)
    for groups in groupings:
        for means in mean_patterns(scan, groups):
            pairs = (previous.recorded, means.recorded), (previous.n, means.n), (previous.size, means.size)
            recorded, n, size = (np.concatenate(pair) for pair in pairs)
            latest = Patterns(recorded, None, n, size)
            yield latest
        previous = latest


def _add_to_groups(sums: np.ndarray, group_indices: np.ndarray, patterns: np.ndarray) -> None:
    """Add patterns (n, H, W) to the sums of their groups."""
    for group in np.unique(group_indices):
        sums[group] += patterns[group_indices == group].sum(0, dtype=np.float64)


def _divide(sums: np.ndarray, n: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (sums / n[:, None, None]).astype(np.float32)
