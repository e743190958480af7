"""How a whole pattern moves: a shift and a 2 x 2 matrix for each pattern, and the resampling with them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

__all__ = ["Motion"]


class Motion(nn.Module):
    r"""Moves patterns by an affine map that depends on their latents.

    Descan shifts a pattern, lattice rotation and strain turn and stretch it. A decoder that moves what it has drawn
    learns one picture for all positions of a crystal, as the spatial transformers of Jaderberg et al. (NeurIPS 2015,
    arXiv:1506.02025). The moved pattern at a pixel p, from the centre of the detector, is the drawn pattern at

    .. math:: p + M(z) \, p + t(z),

    with M and t linear in the latents z and zero at the start. Interpolation is bilinear, since the decoder learns to
    draw sharper by as much.

    Parameters
    ----------
    latent_dim : int
        Number of latents.
    shape : (int, int)
        Rows and columns (h, w) of the patterns.
    """

    pixels: Tensor

    def __init__(self, latent_dim: int, shape: tuple[int, int]) -> None:
        super().__init__()
        self.shape = shape
        #: to pixels of the detector: six numbers, each in pixels at the edge of the pattern
        self.linear = nn.Linear(latent_dim, 6)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        y, x = ((torch.arange(n) + 0.5) * 2 / n - 1 for n in shape)  # from -1 to 1, as `grid_sample` wants it
        pixels = torch.stack([x.expand(shape), y[:, None].expand(shape), torch.ones(shape)], -1)
        self.register_buffer("pixels", pixels.reshape(-1, 3), persistent=False)

    def forward(self, patterns: Tensor, z: Tensor) -> Tensor:
        """Move patterns (B, h, w) as the latents (B, k) say; what comes from outside repeats the edge."""
        return self._move(patterns, self.linear(z))

    @torch.no_grad()
    def initialise(self, patterns: Tensor, z: Tensor) -> None:
        """Start from the shifts of patterns (n, h, w), as far as they are linear in the latents (n, k).

        A pattern is compared with the mean of all: to first order, their difference is the shift times the gradient of
        the mean.
        """
        mean = patterns.mean(0)
        gradients = torch.stack(torch.gradient(mean)[::-1]).flatten(1)  # along x, y
        differences = (patterns - mean).flatten(1)
        shifts = differences @ torch.linalg.pinv(gradients)
        known = torch.cat([z, torch.ones_like(z[:, :1])], 1).double()
        weights = torch.linalg.lstsq(known, shifts.double(), driver="gelsd").solution
        self.linear.weight[[2, 5]] = weights[:-1].T.float()
        self.linear.bias[[2, 5]] = weights[-1].float()

    @torch.no_grad()
    def undo(self, patterns: Tensor, z: Tensor) -> Tensor:
        """Move patterns (n, h, w) back, to first order."""
        parts = zip(patterns.split(128), z.split(128), strict=True)
        return torch.cat([self._move(part, -self.linear(latents)) for part, latents in parts])

    def _move(self, patterns: Tensor, motion: Tensor) -> Tensor:
        h, w = self.shape
        dtype = torch.promote_types(patterns.dtype, torch.float32)  # half precision is too coarse for places
        motion = motion.to(dtype).unflatten(1, (2, 3))
        edge = motion.new_tensor([[2 / w], [2 / h]])
        affine = torch.eye(2, 3, dtype=dtype, device=motion.device) + motion * edge
        places = (self.pixels.to(dtype) @ affine.transpose(1, 2)).unflatten(1, (h, w))
        moved = grid_sample(patterns.to(dtype)[:, None], places, padding_mode="border", align_corners=False)
        return moved[:, 0]
