"""The optimiser of the default network: steps that are alike in all directions of a weight matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

__all__ = ["Muon"]

_MOMENTUM = 0.9  # of matrices, in Nesterov's form
_BETAS = 0.9, 0.99  # of Adam, for the rest
_FASTER = 10.0  # than matrices, which sum over a hundred inputs, the rest is trained
_EPS = 1e-8
_QUINTIC = 3.4445, -4.7750, 2.0315  # takes singular values in (0, 1] to about 1 when it is applied five times
_TIMES = 5


class Muon(torch.optim.Optimizer):
    r"""Momentum with its singular values made alike, for weight matrices; Adam for the rest.

    .. math:: W \leftarrow (1 - \eta d) W - \eta \sqrt{\max(m, n)} \, U V^T, \quad M = U S V^T

    for the momentum M of an m x n matrix W, the learning rate :math:`\eta` and the weight decay d: the root mean
    square of a step is the learning rate, as it is with Adam. Directions in which gradients are small, such as those of
    faint pixels, are learnt as fast as the others. After Jordan et al., "Muon: an optimizer for hidden layers in neural
    networks" (2024), https://kellerjordan.github.io/posts/muon/, whose polynomial is used, here in powers of the
    smaller Gram matrix and in single precision; ``torch.optim.Muon`` takes neither convolutions nor vectors. The rest,
    biases and what is learnt for each pixel or component, has ten times the rate (Yang et al., arXiv:2203.03466, on
    how rates go with a layer's inputs).

    Parameters
    ----------
    matrices : iterable of Tensor
        Weights of two axes or more; those after the first are taken together.
    others : iterable of Tensor
        All the rest, which does not decay.
    lr : float
        Learning rate of the matrices.
    weight_decay : float
        Of the matrices.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        others: Iterable[Tensor],
        lr: float,
        weight_decay: float,
    ) -> None:
        groups = [
            {"params": list(matrices), "lr": lr, "weight_decay": weight_decay, "matrices": True},
            {"params": list(others), "lr": _FASTER * lr, "weight_decay": 0.0, "matrices": False},
        ]
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what the closure does, which computes the gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group, change in zip(
            self.param_groups, (self._change_matrices, self._change_others), strict=True
        ):
            weights = [weight for weight in group["params"] if weight.grad is not None]
            change(weights, [weight.grad for weight in weights], group["lr"], group["weight_decay"])
        return loss

    def _change_matrices(
        self, weights: list[Tensor], gradients: list[Tensor], lr: float, decay: float
    ) -> None:
        ahead = []
        for weight, gradient in zip(weights, gradients, strict=True):
            momentum = self._kept(weight, "momentum").lerp_(gradient, 1 - _MOMENTUM)
            ahead.append(gradient.lerp(momentum, _MOMENTUM).flatten(1))
        for weight, change in zip(weights, _made_alike(ahead), strict=True):
            weight.mul_(1 - lr * decay).sub_(change.reshape(weight.shape), alpha=lr)

    def _change_others(self, weights: list[Tensor], gradients: list[Tensor], lr: float, decay: float) -> None:
        means, squares, steps = (
            [self._kept(weight, name) for weight in weights] for name in ("mean", "square", "steps")
        )
        first, second = _BETAS
        adam(
            weights, gradients, means, squares, [], steps, foreach=True, amsgrad=False, maximize=False,
            beta1=first, beta2=second, lr=lr, weight_decay=decay, eps=_EPS,
        )  # fmt: skip

    def _kept(self, weight: Tensor, name: str) -> Tensor:
        state = self.state[weight]
        if name not in state:
            state[name] = torch.zeros(()) if name == "steps" else torch.zeros_like(weight)
        kept: Tensor = state[name]
        return kept


def _made_alike(matrices: list[Tensor]) -> Iterator[Tensor]:
    """Matrices (m, n) with all singular values near sqrt(max(m, n)), but for those below a thousandth of the norm.

    One of a norm below 1e-10 stays near zero. Gram matrices of the same size are raised to powers together.
    """
    tall = [matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T for matrix in matrices]
    grams = [matrix.T @ matrix for matrix in tall]
    factors: dict[int, Tensor] = {}
    for size in {len(gram) for gram in grams}:
        which = [i for i, gram in enumerate(grams) if len(gram) == size]
        roots = [len(tall[i]) ** 0.5 for i in which]
        powers = _inverse_root(torch.stack([grams[i] for i in which]))
        factors |= {i: root * power for i, root, power in zip(which, roots, powers, strict=True)}
    found = (matrix @ factors[i] for i, matrix in enumerate(tall))
    return (new if new.shape == old.shape else new.T for new, old in zip(found, matrices, strict=True))


def _inverse_root(grams: Tensor) -> Tensor:
    """The factors (b, n, n) that make singular values near 1, from Gram matrices (b, n, n)."""
    squares = grams.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] + _EPS**2
    one = torch.eye(grams.shape[1], dtype=grams.dtype, device=grams.device)
    powers, product = grams / squares, one / squares.sqrt()
    a, b, c = _QUINTIC
    for last in range(1 - _TIMES, 1):
        factor = torch.baddbmm(a * one + b * powers, powers, powers, alpha=c)
        product = product @ factor
        if last:
            powers = factor @ powers @ factor
    return product
