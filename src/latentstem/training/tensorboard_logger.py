"""TensorBoard's curves, written step by step: no thread, nothing that is open, and no harm if the disk is full."""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

__all__ = ["Curves"]


class Curves(Logger):
    """Appends to an event file ``version_0`` (1, 2, ...) ``/events.out.tfevents...``.

    If that fails, training goes on without: what counts is in the checkpoints, whose history holds the same values.

    Parameters
    ----------
    folder : Path
        For ``tensorboard --logdir``.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder, self._number = folder, 0
        self._file: Path | None = None
        self._failed = False

    @property
    def name(self) -> str:
        """Of the folder."""
        return self._folder.name

    @property
    def version(self) -> int:
        """Number of the run in the folder."""
        return self._number

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one value to each curve."""
        values = [Summary.Value(tag=name, simple_value=float(value)) for name, value in metrics.items()]
        self._append(Event(wall_time=time.time(), step=step or 0, summary=Summary(value=values)))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """They are in the checkpoints."""

    def _append(self, event: Event) -> None:
        if self._failed:
            return
        try:
            if self._file is None:
                taken = [
                    int(path.name[8:]) for path in self._folder.glob("version_*") if path.name[8:].isdigit()
                ]
                self._number = max(taken, default=-1) + 1
                run = self._folder / f"version_{self._number}"
                run.mkdir(parents=True)
                self._file = (
                    run / f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
                )
                self._append(Event(wall_time=time.time(), file_version="brain.Event:2"))
            with open(self._file, "ab") as file:
                RecordWriter(file).write(event.SerializeToString())
        except OSError as error:
            self._failed = True
            warnings.warn(f"The curves in {self._folder} end here: {error}", stacklevel=2)
