"""Random numbers without PyTorch's global generator, which belongs to the user and to every thread at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

__all__ = ["random_init", "randomised_svd"]

_DRAWING = {
    *(Tensor.normal_, Tensor.uniform_, torch.rand, torch.randn),
    *(init.kaiming_normal_, init.kaiming_uniform_, init.normal_, init.uniform_),
}


class random_init(TorchFunctionMode):
    """Initial weights of what is built inside come from a generator of its own, in this thread.

    Parameters
    ----------
    seed : int
        The weights are those after ``torch.manual_seed(seed)``.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _DRAWING and kwargs.get("generator") is None:
            kwargs["generator"] = self._generator
        return func(*args, **kwargs)


def randomised_svd(matrix: Tensor, count: int, seed: int) -> Tensor:
    """Leading right singular vectors, by a randomised decomposition.

    The one of ``torch.svd_lowrank``, which takes no generator (Halko, Martinsson and Tropp, SIAM Review 53, 217, 2011).

    Parameters
    ----------
    matrix : Tensor, shape (m, n)
    count : int
        How many; eight more are sought, so that these are exact.
    seed : int
        Seed of the random directions.

    Returns
    -------
    Tensor, shape (n, count)
    """
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT
    tried = min(count + 8, *tall.shape)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(tall.shape[1], tried, dtype=tall.dtype, generator=generator)
    basis = torch.linalg.qr(tall @ start).Q
    for _ in range(3):
        basis = torch.linalg.qr(tall @ torch.linalg.qr(tall.mT @ basis).Q).Q
    left, _, right = torch.linalg.svd(basis.mT @ tall, full_matrices=False)
    return (right.mT if tall is matrix else basis @ left)[:, :count]
