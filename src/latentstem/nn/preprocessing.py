"""Detector values to network input, and back.

The fitted statistics are buffers, so they travel in the checkpoint with the weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ArgumentError, DataValueError, MaskError
from ..scan.scan import Scan

__all__ = ["Detector", "Preprocessing"]

_HIGHEST = 60.0  # logarithm of the highest value, in electrons: more is no pattern, and infinite soon
_SAMPLE = 4096  # patterns that the statistics are read from
_SAMPLE_VALUES = 2**26  # detector values of those, at most, but for 16 patterns
_PART_VALUES = 2**23  # detector values that are looked at together


class Detector(nn.Module):
    """Crop, mask and bin detector pixels, and put results back on the detector.

    A bin that holds an excluded pixel is excluded. Binning sums, so that counts stay counts.

    Parameters
    ----------
    pattern_shape : (int, int)
        Detector rows and columns (H, W).
    bin : int
        Binning factor; must divide the cropped pattern.
    crop : (int, int, int, int), optional
        Row start, row stop, column start, column stop.

    Raises
    ------
    ArgumentError
        If the crop leaves the detector, `bin` does not divide it, or less than 8 x 8 pixels would be left.
    """

    used: Tensor

    def __init__(
        self, pattern_shape: tuple[int, int], bin: int = 1, crop: tuple[int, int, int, int] | None = None
    ) -> None:
        super().__init__()
        height, width = pattern_shape
        y0, y1, x0, x1 = crop or (0, height, 0, width)
        if y1 > height or x1 > width:
            raise ArgumentError(
                "crop leaves the detector",
                expected=f"a region inside {height} x {width} pixels",
                received=f"crop={crop}",
                advice="Give (row start, row stop, column start, column stop) in detector pixels.",
            )
        if (y1 - y0) % bin or (x1 - x0) % bin:
            fit = (y0, y1 - (y1 - y0) % bin, x0, x1 - (x1 - x0) % bin)
            raise ArgumentError(
                "bin does not divide the detector",
                expected=f"a divisor of {y1 - y0} and {x1 - x0}",
                received=f"bin={bin}",
                advice=f"Use crop={fit} with it, or another bin.",
            )
        self.shape = ((y1 - y0) // bin, (x1 - x0) // bin)
        if min(self.shape) < 8:
            raise ArgumentError(
                "bin and crop leave too few pixels",
                expected="at least 8 x 8",
                received=f"{self.shape[0]} x {self.shape[1]}",
                advice="Use a smaller bin or a larger crop.",
            )
        self.pattern_shape, self.bin = (height, width), bin
        self.region = (y0, y1, x0, x1)
        self.register_buffer("used", torch.ones(self.shape))

    def set_mask(self, pattern_mask: np.ndarray | None) -> None:
        """Exclude detector pixels where `pattern_mask`, shape (H, W), is True."""
        self.used.fill_(1.0)
        if pattern_mask is None:
            return
        y0, y1, x0, x1 = self.region
        excluded = torch.from_numpy(np.ascontiguousarray(pattern_mask[y0:y1, x0:x1])).float()
        self.used.copy_((self._sum_bins(excluded[None])[0] == 0).float())
        if not self.used.any():
            raise MaskError(
                "the pattern mask leaves no detector pixel",
                expected=f"a bin of {self.bin} x {self.bin} pixels without an excluded one",
                received=f"{int(pattern_mask.sum())} of {pattern_mask.size} pixels excluded",
                advice="Exclude fewer pixels, or use a smaller bin.",
            )

    def forward(self, patterns: Tensor) -> Tensor:
        """Patterns (B, H, W) of any dtype to used pixels (B, h, w) float32; excluded pixels are 0."""
        y0, y1, x0, x1 = self.region
        return torch.where(self.used > 0, self._sum_bins(patterns[:, y0:y1, x0:x1].float()), 0.0)

    def to_detector(self, patterns: Tensor) -> Tensor:
        """Patterns (B, h, w) to the whole detector (B, H, W): bins spread evenly, 0 where nothing was learnt."""
        y0, y1, x0, x1 = self.region
        patterns = torch.where(self.used > 0, patterns, 0.0) / self.bin**2
        fine = patterns.repeat_interleave(self.bin, -2).repeat_interleave(self.bin, -1)
        height, width = self.pattern_shape
        return nn.functional.pad(fine, (x0, width - x1, y0, height - y1))

    def _sum_bins(self, patterns: Tensor) -> Tensor:
        if self.bin == 1:
            return patterns
        return nn.functional.avg_pool2d(patterns[:, None], self.bin, divisor_override=1)[:, 0]


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
    value of one electron: 1 for counts; for other data the mean of the positive values. Every kind gives the same
    network input for data in other units; for units that differ by a power of two, to the last bit.

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
            x = torch.expm1(x.clamp_max(_HIGHEST)) * self.unit
        return x + self.offset

    def fit(self, scan: Scan, positions: np.ndarray, *, counts: bool, seed: int = 0) -> None:
        """Read the statistics from a streamed sample of scan positions.

        Parameters
        ----------
        scan : Scan
            Where the patterns come from.
        positions : ndarray of int
            Flat training positions; at most 4096 of them (of large patterns fewer) are read, spread evenly.
        counts : bool
            Whether the detector values are electron counts.
        seed : int
            Seed of the choice.

        Raises
        ------
        DataValueError
            If the used part of the patterns is constant.
        """
        rng = np.random.default_rng(seed)
        most = min(_SAMPLE, max(16, _SAMPLE_VALUES // (self.shape[0] * self.shape[1])))
        chosen = positions if len(positions) <= most else rng.choice(positions, most, replace=False)
        at_once = max(1, _PART_VALUES // int(np.prod(scan.pattern_shape)))
        seen = _Moments()
        for part in scan.blocks_of(chosen, at_once):
            seen.add(self.detector(patterns_to_tensor(scan.read(part)))[:, self.detector.used > 0].double())
        low, high = seen.low, seen.high
        if not high > low:
            raise DataValueError(
                "the training patterns are constant",
                expected="patterns that differ from pixel to pixel",
                received=f"the value {low.item():g} everywhere",
                advice="Check that the right dataset was loaded, and the masks and the crop.",
            )
        self.fitted_range.copy_(torch.stack([low, high]))
        self.mean_total.copy_(seen.mean * int(self.detector.used.sum()))
        self.offset.fill_(0.0), self.scale.fill_(1.0)
        lowest = low.clamp_max(0)
        self.unit.fill_(1.0 if counts else seen.mean_above_lowest())
        if self.kind in ("sqrt", "log"):
            self.offset.copy_(lowest)
            self.scale.copy_(self(high.float().reshape(1, 1, 1)).reshape(()))
        elif self.kind == "minmax":
            self.offset.copy_(low)
            self.scale.copy_(high - low)
        elif self.kind == "zscore":
            self.offset.copy_(seen.mean)
            self.scale.copy_((seen.squares / (seen.n - 1)).sqrt())
        else:
            exponent = torch.frexp(torch.maximum(high, -low))[1]
            self.scale.copy_(torch.ldexp(torch.ones((), dtype=torch.float32), exponent - 1))

    def load_statistics(self, other: Preprocessing) -> None:
        """Take over the statistics of another fit, if the intensities are alike: weights go with statistics."""
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
    """A tensor of patterns in a dtype that torch can compute with; integers of 32 bits and more become float64."""
    if patterns.dtype == np.uint16:
        patterns = patterns.astype(np.int32)
    elif patterns.dtype.itemsize > 8 or (patterns.dtype.kind in "ui" and patterns.dtype.itemsize >= 4):
        patterns = patterns.astype(np.float64)
    elif not patterns.flags.writeable or not patterns.flags.c_contiguous:
        patterns = patterns.copy()
    return torch.from_numpy(np.ascontiguousarray(patterns))


class _Moments:
    """Statistics of values that come in parts, in double precision."""

    def __init__(self) -> None:
        zero = torch.zeros((), dtype=torch.float64)
        self.n, self.mean, self.squares = 0, zero, zero  # squares: of the deviations from the mean
        self.low, self.high = zero + torch.inf, zero - torch.inf
        self.at_lowest = 0  # values equal to the minimum, if that is not positive, else to 0

    def add(self, values: Tensor) -> None:
        before = self.low.clamp_max(0)
        self.low, self.high = torch.minimum(self.low, values.min()), torch.maximum(self.high, values.max())
        lowest = self.low.clamp_max(0)
        self.at_lowest = int((values == lowest).sum()) + (self.at_lowest if before == lowest else 0)
        n, mean = values.numel(), values.mean()
        difference, total = mean - self.mean, self.n + n
        self.squares = self.squares + (values - mean).square().sum() + difference**2 * (self.n * n / total)
        self.mean, self.n = self.mean + difference * (n / total), total

    def mean_above_lowest(self) -> float:
        """Mean of what exceeds the minimum, or 0 where that is positive, above it."""
        return float((self.mean - self.low.clamp_max(0)) * self.n / (self.n - self.at_lowest))
