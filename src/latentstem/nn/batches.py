"""Batches of patterns and of scores, as passed from reading to network."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["PatternBatch", "ScoreBatch"]


class ScoreBatch(NamedTuple):
    """Scores of patterns and ring sums of their similar neighbours.

    Parameters
    ----------
    scores : Tensor, shape (B, q), float32
        Principal component scores of each pattern; q is 0 if the network takes patterns as input.
    ring_sums : Tensor, shape (B, R, q), float32
        Sums of the scores of similar neighbours, per ring, the nearest first.
    ring_counts : Tensor, shape (B, R), float32
        Number of similar neighbours, per ring.
    """

    scores: Tensor
    ring_sums: Tensor
    ring_counts: Tensor

    @classmethod
    def without_neighbours(cls, scores: Tensor, rings: int) -> ScoreBatch:
        """Scores (B, q) of patterns without neighbours, for a neighbourhood of so many rings."""
        count, n_components = scores.shape
        return cls(scores, scores.new_zeros(count, rings, n_components), scores.new_zeros(count, rings))

    def take(self, selection: slice) -> ScoreBatch:
        """Select some of the patterns."""
        return ScoreBatch(self.scores[selection], self.ring_sums[selection], self.ring_counts[selection])


class PatternBatch(NamedTuple):
    """Patterns of one step.

    Parameters
    ----------
    patterns : Tensor, shape (B, H, W)
        Recorded patterns.
    scores : ScoreBatch
        Scores of the recorded patterns, without thinning.
    """

    patterns: Tensor
    scores: ScoreBatch

    def take(self, selection: slice) -> PatternBatch:
        """Select some of the patterns."""
        return PatternBatch(self.patterns[selection], self.scores.take(selection))
