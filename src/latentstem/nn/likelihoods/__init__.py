"""Likelihoods: the reconstruction terms of the objective. Each is a class that extends `Likelihood`, in a file here."""

from __future__ import annotations

from ...util.registry import named_classes
from ..preprocessing import Preprocessing
from .base import Likelihood

__all__ = ["Likelihood", "build_likelihood"]


def build_likelihood(name: str, preprocessing: Preprocessing) -> Likelihood:
    """Create the likelihood of that name."""
    return named_classes(__name__, Likelihood)[name](preprocessing)
