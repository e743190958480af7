"""TensorBoard event files, opened for each write: no thread, no open file, and a full disk does not stop training."""

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

__all__ = ["EventFileLogger"]


class EventFileLogger(Logger):
    """Append to an event file ``version_0/events.out.tfevents...``; the next run writes to ``version_1``, and so on.

    Lightning's TensorBoardLogger keeps a thread and an open file, and raises if the disk is full. If writing fails
    here, logging stops and training continues; the history in the checkpoints has the same values.

    Parameters
    ----------
    folder : Path
        Folder of the logs of all runs, to give to ``tensorboard --logdir``.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder, self._failed = folder, False
        self._file: Path | None = None

    @property
    def name(self) -> str:
        """Name of the log folder."""
        return self._folder.name

    @property
    def version(self) -> int:
        """Number of the run's subfolder; 0 before the first value."""
        return 0 if self._file is None else int(self._file.parent.name[8:])

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one value to each curve."""
        values = [Summary.Value(tag=name, simple_value=float(value)) for name, value in metrics.items()]
        self._append(Event(wall_time=time.time(), step=step or 0, summary=Summary(value=values)))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Not logged; hyper-parameters are in the checkpoints."""

    def _append(self, event: Event) -> None:
        if self._failed:
            return
        try:
            if self._file is None:
                numbers = [path.name[8:] for path in self._folder.glob("version_*")]
                number = max((int(number) for number in numbers if number.isdigit()), default=-1) + 1
                subfolder = self._folder / f"version_{number}"
                subfolder.mkdir(parents=True)
                name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
                self._file = subfolder / name
                self._append(Event(wall_time=time.time(), file_version="brain.Event:2"))
            with open(self._file, "ab") as file:
                RecordWriter(file).write(event.SerializeToString())
        except OSError as error:
            self._failed = True
            warnings.warn(f"TensorBoard logging to {self._folder} stopped: {error}", stacklevel=2)
