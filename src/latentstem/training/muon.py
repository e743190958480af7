"""The Muon optimiser: orthogonalised momentum steps for weight matrices, Adam for other parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

__all__ = ["Muon"]

_MOMENTUM = 0.9  # of matrices, in Nesterov's form
_BETAS = 0.9, 0.99  # of Adam
_ADAM_LR_RATIO = 10.0  # learning rate of Adam relative to matrices, whose outputs sum over about 100 inputs
_EPS = 1e-8
# maps singular values in (0, 1] to about 1 in five iterations
_NEWTON_SCHULZ_COEFFICIENTS = 3.4445, -4.7750, 2.0315
_NEWTON_SCHULZ_STEPS = 5


class Muon(torch.optim.Optimizer):
    r"""Muon: momentum orthogonalised by Newton-Schulz iteration for weight matrices; Adam for other parameters.

    .. math:: W \leftarrow (1 - \eta d) W - \eta \sqrt{\max(m, n)} \, U V^T, \quad M = U S V^T

    for the momentum M of an m x n matrix W, the learning rate :math:`\eta` and the weight decay d: the root mean
    square of a step is the learning rate, as it is with Adam. Directions in which gradients are small, such as those of
    faint pixels, are learnt as fast as the others. After Jordan et al., "Muon: an optimizer for hidden layers in neural
    networks" (2024), https://kellerjordan.github.io/posts/muon/, whose polynomial is used, here in powers of the
    smaller Gram matrix and in single precision; ``torch.optim.Muon`` takes neither convolutions nor vectors. Other
    parameters (biases, per-pixel and per-component values) use Adam with ten times the learning rate (Yang et al.,
    arXiv:2203.03466, on scaling of learning rates with fan-in).

    Parameters
    ----------
    matrices : iterable of Tensor
        Weights with two or more axes; all axes after the first are flattened.
    other_weights : iterable of Tensor
        All other parameters, without weight decay.
    lr : float
        Learning rate of the matrices.
    weight_decay : float
        Weight decay of the matrices.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        other_weights: Iterable[Tensor],
        lr: float,
        weight_decay: float,
    ) -> None:
        adam_lr = _ADAM_LR_RATIO * lr
        groups = [
            {"params": list(matrices), "lr": lr, "weight_decay": weight_decay, "matrices": True},
            {"params": list(other_weights), "lr": adam_lr, "weight_decay": 0.0, "matrices": False},
        ]
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; returns the loss of `closure`, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group, change in zip(self.param_groups, (self._muon_step, self._adam_step), strict=True):
            weights = [weight for weight in group["params"] if weight.grad is not None]
            change(weights, [weight.grad for weight in weights], group["lr"], group["weight_decay"])
        return loss

    def _muon_step(self, weights: list[Tensor], gradients: list[Tensor], lr: float, decay: float) -> None:
        updates = []
        for weight, gradient in zip(weights, gradients, strict=True):
            momentum = self._state(weight, "momentum").lerp_(gradient, 1 - _MOMENTUM)
            updates.append(gradient.lerp(momentum, _MOMENTUM).flatten(1))
        for weight, change in zip(weights, _orthogonalise(updates), strict=True):
            weight.mul_(1 - lr * decay).sub_(change.reshape(weight.shape), alpha=lr)

    def _adam_step(self, weights: list[Tensor], gradients: list[Tensor], lr: float, decay: float) -> None:
        means, squares, steps = (
            [self._state(weight, name) for weight in weights] for name in ("mean", "square", "steps")
        )
        first, second = _BETAS
        adam(
            weights, gradients, means, squares, [], steps, foreach=True, amsgrad=False, maximize=False,
            beta1=first, beta2=second, lr=lr, weight_decay=decay, eps=_EPS,
        )  # fmt: skip

    def _state(self, weight: Tensor, name: str) -> Tensor:
        state = self.state[weight]
        if name not in state:
            state[name] = torch.zeros(()) if name == "steps" else torch.zeros_like(weight)
        value: Tensor = state[name]
        return value


def _orthogonalise(matrices: list[Tensor]) -> Iterator[Tensor]:
    """Orthogonalise matrices (m, n): set their singular values to about sqrt(max(m, n)).

    Singular values below a thousandth of the norm stay smaller, and matrices with a norm below 1e-10 stay near zero.
    Gram matrices of equal size are processed as one batch.
    """
    tall_matrices = [matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T for matrix in matrices]
    grams = [matrix.T @ matrix for matrix in tall_matrices]
    factors: dict[int, Tensor] = {}
    for size in {len(gram) for gram in grams}:
        indices = [i for i, gram in enumerate(grams) if len(gram) == size]
        scales = [len(tall_matrices[i]) ** 0.5 for i in indices]
        inverse_roots = _newton_schulz_factor(torch.stack([grams[i] for i in indices]))
        factors |= {i: scale * root for i, scale, root in zip(indices, scales, inverse_roots, strict=True)}
    results = (matrix @ factors[i] for i, matrix in enumerate(tall_matrices))
    return (new if new.shape == old.shape else new.T for new, old in zip(results, matrices, strict=True))


def _newton_schulz_factor(grams: Tensor) -> Tensor:
    """Factors (b, n, n) that bring singular values near 1, from Gram matrices (b, n, n)."""
    squared_norms = grams.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] + _EPS**2
    identity = torch.eye(grams.shape[1], dtype=grams.dtype, device=grams.device)
    gram, product = grams / squared_norms, identity / squared_norms.sqrt()
    a, b, c = _NEWTON_SCHULZ_COEFFICIENTS
    for i in range(_NEWTON_SCHULZ_STEPS):
        factor = torch.baddbmm(a * identity + b * gram, gram, gram, alpha=c)
        product = product @ factor
        if i < _NEWTON_SCHULZ_STEPS - 1:
            gram = factor @ gram @ factor
    return product
