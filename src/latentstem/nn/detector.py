"""Crop, mask and binning of the detector."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ArgumentError, MaskError

__all__ = ["Detector"]


class Detector(nn.Module):
    """Crop, mask and bin detector pixels, and put results back on the detector.

    A bin that contains an excluded pixel is excluded. Binning sums, so that counts stay counts.

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
        If the crop reaches outside the detector, `bin` does not divide it, or less than 8 x 8 pixels would be left.
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
                "crop reaches outside the detector",
                expected=f"a region inside {height} x {width} pixels",
                received=f"crop={crop}",
                advice="Give (row start, row stop, column start, column stop) in detector pixels.",
            )
        if (y1 - y0) % bin or (x1 - x0) % bin:
            fitting_crop = (y0, y1 - (y1 - y0) % bin, x0, x1 - (x1 - x0) % bin)
            raise ArgumentError(
                "bin does not divide the detector",
                expected=f"a divisor of {y1 - y0} and {x1 - x0}",
                received=f"bin={bin}",
                advice=f"Use crop={fitting_crop} with it, or another bin.",
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
        """Crop, mask and bin patterns (B, H, W) of any dtype to (B, h, w), float32; excluded pixels are 0."""
        y0, y1, x0, x1 = self.region
        return torch.where(self.used > 0, self._sum_bins(patterns[:, y0:y1, x0:x1].float()), 0.0)

    def to_detector(self, patterns: Tensor) -> Tensor:
        """Put patterns (B, h, w) back on the whole detector (B, H, W).

        The value of a bin is divided evenly among its pixels. Excluded pixels and those outside the crop are 0.
        """
        y0, y1, x0, x1 = self.region
        patterns = torch.where(self.used > 0, patterns, 0.0) / self.bin**2
        unbinned = patterns.repeat_interleave(self.bin, -2).repeat_interleave(self.bin, -1)
        height, width = self.pattern_shape
        return nn.functional.pad(unbinned, (x0, width - x1, y0, height - y1))

    def _sum_bins(self, patterns: Tensor) -> Tensor:
        if self.bin == 1:
            return patterns
        return nn.functional.avg_pool2d(patterns[:, None], self.bin, divisor_override=1)[:, 0]
