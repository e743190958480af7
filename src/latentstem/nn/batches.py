"""What is passed between reading, network and training: patterns, and their scores with those of their neighbours."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["PatternBatch", "ScoreBatch"]


class ScoreBatch(NamedTuple):
    """Scores of patterns and of their similar neighbours on the scan.

    Parameters
    ----------
    scores : Tensor, shape (B, q), float32
        Of each pattern in the principal components; q is 0 where the network sees the patterns themselves.
    ring_sums : Tensor, shape (B, R, q), float32
        Sums of the scores of the similar neighbours on each ring, the nearest first.
    ring_counts : Tensor, shape (B, R), float32
        How many similar neighbours there are on each ring.
    """

    scores: Tensor
    ring_sums: Tensor
    ring_counts: Tensor

    @classmethod
    def without_neighbours(cls, scores: Tensor, rings: int) -> ScoreBatch:
        """Scores (B, q) of patterns of which no neighbour is known, on so many rings."""
        count, components = scores.shape
        return cls(scores, scores.new_zeros(count, rings, components), scores.new_zeros(count, rings))

    def take(self, chosen: slice) -> ScoreBatch:
        """The scores of some of the patterns."""
        return ScoreBatch(self.scores[chosen], self.ring_sums[chosen], self.ring_counts[chosen])


class PatternBatch(NamedTuple):
    """Patterns of one step.

    Parameters
    ----------
    patterns : Tensor, shape (B, H, W)
        As recorded.
    scores : ScoreBatch
        Theirs, without thinning.
    """

    patterns: Tensor
    scores: ScoreBatch

    def take(self, chosen: slice) -> PatternBatch:
        """Some of the patterns."""
        return PatternBatch(self.patterns[chosen], self.scores.take(chosen))
