"""Random initial weights and a randomised SVD without PyTorch's global generator, which other code shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

__all__ = ["random_init", "randomised_svd"]

_RANDOM_FUNCTIONS = {
    *(Tensor.normal_, Tensor.uniform_, torch.rand, torch.randn),
    *(init.kaiming_normal_, init.kaiming_uniform_, init.normal_, init.uniform_),
}


class random_init(TorchFunctionMode):
    """Context in which the initial weights of modules created in this thread come from a private generator.

    Parameters
    ----------
    seed : int
        Gives the same weights as ``torch.manual_seed(seed)``.
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
        if func in _RANDOM_FUNCTIONS and kwargs.get("generator") is None:
            kwargs["generator"] = self._generator
        return func(*args, **kwargs)


def randomised_svd(matrix: Tensor, n_components: int, seed: int) -> Tensor:
    """Leading right singular vectors by randomised SVD.

    Same algorithm as ``torch.svd_lowrank``, which does not accept a generator
    (Halko, Martinsson and Tropp, SIAM Review 53, 217, 2011).

    Parameters
    ----------
    matrix : Tensor, shape (m, n)
    n_components : int
        Number of vectors. Eight more are computed and dropped (oversampling).
    seed : int
        Seed of the random directions.

    Returns
    -------
    Tensor, shape (n, n_components)
    """
    a = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT
    n_sketch = min(n_components + 8, *a.shape)
    generator = torch.Generator().manual_seed(seed)
    sketch = torch.randn(a.shape[1], n_sketch, dtype=a.dtype, generator=generator)
    q = torch.linalg.qr(a @ sketch).Q
    for _ in range(3):
        q = torch.linalg.qr(a @ torch.linalg.qr(a.mT @ q).Q).Q
    left, _, right = torch.linalg.svd(q.mT @ a, full_matrices=False)
    return (right.mT if a is matrix else q @ left)[:, :n_components]
