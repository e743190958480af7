"""Where a run takes place: its device, its folder, and what Lightning says meanwhile."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from ..errors import ArgumentError

__all__ = ["accelerator", "folder", "quiet_lightning"]


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
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's hints on hardware and loaders, which are no news to a microscopist."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "pytorch_lightning")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning")
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
