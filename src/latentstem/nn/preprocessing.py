"""Detector values to network input, and back.

The fitted statistics are buffers, so they travel in the checkpoint with the weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import DataValueError
from .detector import Detector

__all__ = ["Preprocessing", "patterns_to_tensor"]

_MAX_LOG = 60.0  # clip value of the log transform: avoids overflow


class Preprocessing(nn.Module):
    """Invertible map from detector values to network input.

    ====== ============================================== =================================
    kind   network input                                  fitted
    ====== ============================================== =================================
    minmax (c - offset) / scale                           minimum and range
    sqrt   2 sqrt((c - offset) / unit + 3/8) / scale      minimum, if negative; maximum
    log    log(1 + (c - offset) / unit) / scale           minimum, if negative; maximum
    zscore (c - offset) / scale                           mean and standard deviation
    none   c / scale                                      power of two at or below the largest magnitude
    ====== ============================================== =================================

    `sqrt` is the variance-stabilising transform of Anscombe (Biometrika 35, 246, 1948). `unit` is the detector
    value of one electron: 1 for counts; for other data the mean of the positive values. The network input does not
    depend on the units of the data (bit for bit if units differ by a power of two).

    Parameters
    ----------
    kind : {"minmax", "sqrt", "log", "zscore", "none"}
        The map.
    detector : Detector
        Crop, mask and bin.
    """

    offset: Tensor
    scale: Tensor
    unit: Tensor
    fitted_range: Tensor
    mean_total: Tensor

    def __init__(self, kind: str, detector: Detector) -> None:
        super().__init__()
        self.kind, self.detector = kind, detector
        for name, value in (("offset", 0.0), ("scale", 1.0), ("unit", 1.0), ("mean_total", 1.0)):
            self.register_buffer(name, torch.tensor(value))
        self.register_buffer("fitted_range", torch.tensor([0.0, 1.0]))

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w): rows and columns of the network input."""
        return self.detector.shape

    @property
    def mean_value(self) -> Tensor:
        """Mean detector value of a used pixel."""
        return self.mean_total / self.detector.used.sum()

    @property
    def linear(self) -> bool:
        """Whether the map is linear."""
        return self.kind not in ("sqrt", "log")

    def forward(self, values: Tensor) -> Tensor:
        """Detector values (B, h, w), as `Detector` gives them, to network input of the same shape."""
        values = values - self.offset
        if self.kind == "sqrt":
            return 2 * torch.sqrt((values / self.unit).clamp_min(0) + 0.375) / self.scale
        if self.kind == "log":
            return torch.log1p((values / self.unit).clamp_min(0)) / self.scale
        return values / self.scale

    def inverse(self, x: Tensor) -> Tensor:
        """Network input (B, h, w) back to detector values."""
        x = x * self.scale
        if self.kind == "sqrt":
            x = ((x / 2).clamp_min(0).square() - 0.375) * self.unit
        elif self.kind == "log":
            x = torch.expm1(x.clamp_max(_MAX_LOG)) * self.unit
        return x + self.offset

    def fit(self, batches: Iterable[Tensor], *, counts: bool) -> None:
        """Fit the statistics to a sample of patterns.

        Parameters
        ----------
        batches : iterable of Tensor, shape (B, h, w)
            Detector values of the sample.
        counts : bool
            Whether the detector values are electron counts.

        Raises
        ------
        DataValueError
            If the used part of the patterns is constant.
        """
        moments = _Moments()
        for values in batches:
            moments.add(values[:, self.detector.used > 0].double())
        low, high = moments.minimum, moments.maximum
        if not high > low:
            raise DataValueError(
                "the training patterns are constant",
                expected="patterns that differ from pixel to pixel",
                received=f"the value {low.item():g} everywhere",
                advice="Check that the right dataset was loaded, and the masks and the crop.",
            )
        self.fitted_range.copy_(torch.stack([low, high]))
        self.mean_total.copy_(moments.mean * int(self.detector.used.sum()))
        self.offset.fill_(0.0), self.scale.fill_(1.0)
        lowest = low.clamp_max(0)
        self.unit.fill_(1.0 if counts else moments.mean_above_lowest())
        if self.kind in ("sqrt", "log"):
            self.offset.copy_(lowest)
            self.scale.copy_(self(high.float().reshape(1, 1, 1)).reshape(()))
        elif self.kind == "minmax":
            self.offset.copy_(low)
            self.scale.copy_(high - low)
        elif self.kind == "zscore":
            self.offset.copy_(moments.mean)
            self.scale.copy_((moments.sum_of_squared_deviations / (moments.n - 1)).sqrt())
        else:
            exponent = torch.frexp(torch.maximum(high, -low))[1]
            self.scale.copy_(torch.ldexp(torch.ones((), dtype=torch.float32), exponent - 1))

    def load_statistics(self, other: Preprocessing) -> None:
        """Copy the fitted statistics of `other`, if mean intensities agree within a factor of ten.

        For fine-tuning: the weights of a checkpoint were trained with its statistics.
        """
        if 0.1 < float(self.mean_total / other.mean_total) < 10:
            for name in ("offset", "scale", "unit", "fitted_range"):
                getattr(self, name).copy_(getattr(other, name))

    def describe(self) -> dict[str, Any]:
        """The map and its statistics as plain values."""
        return {
            "kind": self.kind,
            "bin": self.detector.bin,
            "region": list(self.detector.region),
            "excluded_pixels": int((self.detector.used == 0).sum()),
            **{name: getattr(self, name).item() for name in ("offset", "scale", "unit")},
        }


def patterns_to_tensor(patterns: np.ndarray) -> Tensor:
    """Patterns as a tensor, in a dtype that torch can compute with; integers of 32 bits and more become float64."""
    if patterns.dtype == np.uint16:
        patterns = patterns.astype(np.int32)
    elif patterns.dtype.itemsize > 8 or (patterns.dtype.kind in "ui" and patterns.dtype.itemsize >= 4):
        patterns = patterns.astype(np.float64)
    elif not patterns.flags.writeable or not patterns.flags.c_contiguous:
        patterns = patterns.copy()
    return torch.from_numpy(np.ascontiguousarray(patterns))


class _Moments:
    """Running moments in double precision."""

    def __init__(self) -> None:
        zero = torch.zeros((), dtype=torch.float64)
        self.n, self.mean, self.sum_of_squared_deviations = 0, zero, zero
        self.minimum, self.maximum = zero + torch.inf, zero - torch.inf
        self.n_at_lowest = 0  # number of values equal to min(0, minimum)

    def add(self, values: Tensor) -> None:
        before = self.minimum.clamp_max(0)
        self.minimum = torch.minimum(self.minimum, values.min())
        self.maximum = torch.maximum(self.maximum, values.max())
        lowest = self.minimum.clamp_max(0)
        self.n_at_lowest = int((values == lowest).sum()) + (self.n_at_lowest if before == lowest else 0)
        n, mean = values.numel(), values.mean()
        difference, total = mean - self.mean, self.n + n
        self.sum_of_squared_deviations = (
            self.sum_of_squared_deviations
            + (values - mean).square().sum()
            + difference**2 * (self.n * n / total)
        )
        self.mean, self.n = self.mean + difference * (n / total), total

    def mean_above_lowest(self) -> float:
        """Mean of the values above min(0, minimum), measured from there."""
        return float((self.mean - self.minimum.clamp_max(0)) * self.n / (self.n - self.n_at_lowest))
