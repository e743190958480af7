"""LatentSTEM: autoencoders for 4D-STEM scans, as methods of py4DSTEM and HyperSpy objects.

Importing the package loads neither torch nor a host library. It adds ``train_autoencoder``, ``embed`` and
``reconstruct`` to HyperSpy's signals and py4DSTEM's ``DataCube``, as soon as the host is imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .hosts.register import install

if TYPE_CHECKING:
    from napari_latentstem.viewing import view

    from .config import TrainingConfig
    from .functions import embed, reconstruct, train_autoencoder
    from .inference.embedding import Embedding
    from .inference.model import LatentModel, load
    from .io.open import as_scan
    from .nn.autoencoder import Autoencoder
    from .scan.scan import Scan
    from .simulation import simulate

__version__ = "0.1.0"

__all__ = [
    "Autoencoder",
    "Embedding",
    "LatentModel",
    "Scan",
    "TrainingConfig",
    "__version__",
    "as_scan",
    "embed",
    "load",
    "reconstruct",
    "simulate",
    "train_autoencoder",
    "view",
]

#: the module that defines each public name; it is imported when the name is first used
_MODULES = {
    "Autoencoder": "nn.autoencoder",
    "Embedding": "inference.embedding",
    "LatentModel": "inference.model",
    "Scan": "scan.scan",
    "TrainingConfig": "config",
    "as_scan": "io.open",
    "embed": "functions",
    "load": "inference.model",
    "reconstruct": "functions",
    "simulate": "simulation",
    "train_autoencoder": "functions",
    "view": "napari_latentstem.viewing",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _MODULES[name] if name == "view" else f".{_MODULES[name]}"
    value = getattr(importlib.import_module(module, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))


install()
