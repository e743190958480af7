"""The device of a run, and restoring the global state that Lightning changes."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytorch_lightning as L
import torch
from lightning_utilities.core.inheritance import get_all_subclasses
from torch.utils.data import BatchSampler, DataLoader

from ..errors import ArgumentError

__all__ = ["check_accelerator", "protect_dataloader_setup", "restore_session_state"]

_SIGNALS = [number for name in ("SIGINT", "SIGTERM", "SIGUSR1") if (number := getattr(signal, name, None))]


def check_accelerator(device: str) -> str:
    """Lightning's name of a device, if this machine has it."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    available["gpu"] = any(available.values())
    if not available.get(device, True):
        raise ArgumentError(
            f"there is no {device} device",
            expected="a device of this machine: "
            + ", ".join(["auto", "cpu", *(name for name in available if available[name])]),
            received=f"device={device!r}",
            advice="Use device='cpu' or 'auto'.",
        )
    return device


@contextlib.contextmanager
def restore_session_state() -> Iterator[None]:
    """Restore signal handlers and gradient mode, and silence Lightning's hints.

    With several trainings in threads, the first changes shared state and the last restores it.
    """
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    grad = torch.is_grad_enabled()
    try:
        with _silence_lightning:
            yield
    finally:
        torch.set_grad_enabled(grad)
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                if handler is not None:  # Lightning does not restore them if its teardown fails
                    signal.signal(number, handler)


class _SilenceLightning:
    """Silence Lightning's loggers and warnings while any training runs."""

    def __init__(self) -> None:
        self._lock, self._n_runs = threading.RLock(), 0
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._n_runs == 0:
                self._silence()
            self._n_runs += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._n_runs -= 1
            if self._n_runs == 0:
                self._undo.close()

    def _silence(self) -> None:
        undo = self._undo.callback
        for name in ("lightning.pytorch", "pytorch_lightning", "lightning.fabric", "lightning_fabric"):
            logger = logging.getLogger(name)
            undo(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="pytorch_lightning|lightning")
        undo(_remove_filter, warnings.filters[0])


_silence_lightning = _SilenceLightning()


def _remove_filter(entry: Any) -> None:
    with contextlib.suppress(ValueError):  # the user may have reset the filters
        warnings.filters.remove(entry)  # type: ignore[attr-defined]


def protect_dataloader_setup(trainer: L.Trainer) -> None:
    """Serialise dataloader setup between trainings, and undo Lightning's patches after an interrupt.

    During setup Lightning patches methods of PyTorch's DataLoader classes, for all threads.
    """
    for loop in (trainer.fit_loop, trainer.fit_loop.epoch_loop.val_loop):
        setattr(loop, "setup_data", _locked_setup(loop.setup_data))  # noqa: B010 - a method of this object alone


_setup_lock = threading.RLock()


def _locked_setup(setup_data: Callable[[], None]) -> Callable[[], None]:
    def setup_under_lock() -> None:
        classes = {
            DataLoader,
            BatchSampler,
            *get_all_subclasses(DataLoader),
            *get_all_subclasses(BatchSampler),
        }
        with _setup_lock:
            unpatched = {cls: dict(vars(cls)) for cls in classes}
            try:
                setup_data()
            finally:
                for cls, attributes in unpatched.items():
                    for name in vars(cls).keys() - attributes.keys():
                        delattr(cls, name)
                    for name in attributes.keys() & {"__init__", "__setattr__", "__delattr__"}:
                        setattr(cls, name, attributes[name])

    return setup_under_lock
