"""Where a run takes place: its device, its folder, and what Lightning says meanwhile."""

from __future__ import annotations

import contextlib
import logging
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as L
import torch
from torch.utils.data import BatchSampler, DataLoader

from ..errors import ArgumentError

__all__ = ["accelerator", "folder", "guard_loaders", "surroundings_kept"]

_SIGNALS = [number for name in ("SIGINT", "SIGTERM", "SIGUSR1") if (number := getattr(signal, name, None))]


def accelerator(device: str) -> str:
    """The accelerator that Lightning is to use, if this machine has it."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    available["gpu"] = any(available.values())
    if not available.get(device, True):
        raise ArgumentError(
            f"there is no {device} device",
            expected="a device of this machine: "
            + ", ".join(["auto", "cpu", *(n for n, ok in available.items() if ok)]),
            received=f"device={device!r}",
            advice="Use device='cpu' or 'auto'.",
        )
    return device


@contextlib.contextmanager
def folder(output_dir: Path | None) -> Iterator[Path]:
    """Where checkpoints go: under the output folder, or for the run alone."""
    if output_dir is not None:
        yield output_dir / "checkpoints"
        return
    with tempfile.TemporaryDirectory(prefix="latentstem-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def surroundings_kept() -> Iterator[None]:
    """Everything that is the user's as it was, and no hints of Lightning's, which are no news to a microscopist.

    Several trainings may run in threads at once: what they share is changed by the first and restored by the last.
    """
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    grad = torch.is_grad_enabled()
    try:
        with _shared:
            yield
    finally:
        torch.set_grad_enabled(grad)
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                if handler is not None:  # Lightning leaves them altered if its own clearing up fails
                    signal.signal(number, handler)


class _Quiet:
    """Lightning's loggers and warnings are silent while any training runs."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.RLock(), 0
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._enter()
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._undo.close()

    def _enter(self) -> None:
        undo = self._undo.callback
        for name in ("lightning.pytorch", "pytorch_lightning", "lightning.fabric", "lightning_fabric"):
            logger = logging.getLogger(name)
            undo(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        for message, module in (("", "pytorch_lightning|lightning"), (".*does not have many workers.*", "")):
            warnings.filterwarnings("ignore", message, module=module)
            undo(_without, warnings.filters[0])


_shared = _Quiet()


def _without(entry: Any) -> None:
    with contextlib.suppress(ValueError):  # it is gone if the user has reset the filters meanwhile
        warnings.filters.remove(entry)  # type: ignore[attr-defined]


def guard_loaders(trainer: L.Trainer) -> None:
    """Let one training at a time ask for its loaders, and undo what an interrupt in there leaves behind.

    Lightning alters the methods of PyTorch's loader classes meanwhile, for all threads.
    """
    for loop in (trainer.fit_loop, trainer.fit_loop.epoch_loop.val_loop):
        setattr(loop, "setup_data", _guarded(loop.setup_data))  # noqa: B010 - a method of this object alone


_loaders = threading.RLock()
_ALTERED = ("__init__", "__setattr__", "__delattr__")


def _guarded(setup_data: Callable[[], None]) -> Callable[[], None]:
    def guarded() -> None:
        with _loaders:
            before = {
                cls: dict(vars(cls))
                for cls in (*_with_subclasses(DataLoader), *_with_subclasses(BatchSampler))
            }
            try:
                setup_data()
            finally:
                for cls, attributes in before.items():
                    for name in (*_ALTERED, *(f"__old{name}" for name in _ALTERED)):
                        if name in attributes:
                            if vars(cls).get(name) is not attributes[name]:
                                setattr(cls, name, attributes[name])
                        elif name in vars(cls):
                            delattr(cls, name)

    return guarded


def _with_subclasses(cls: type) -> list[type]:
    below: list[type] = cls.__subclasses__()
    return [cls, *(found for sub in below for found in _with_subclasses(sub))]
