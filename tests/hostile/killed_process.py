"""``latentstem`` in processes of their own, which kill themselves at a chosen moment, as a power cut would."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path

__all__ = ["MOMENTS", "start"]

#: in the writing of a checkpoint: half of the temporary file is there; all of it; it has just been renamed
MOMENTS = ("half written", "written", "renamed")
_SECONDS_BETWEEN_CHECKPOINTS = 0.15  # minutes in reality


def start(arguments: list[object], log: Path, kill_in_write: tuple[str, int] | None = None) -> BaseProcess:
    """Start ``latentstem`` with one thread and its output in a file.

    Parameters
    ----------
    kill_in_write : (str, int), optional
        Moment, and number of the checkpoint that is being written then.
    """
    context = multiprocessing.get_context("forkserver")
    # imported once, so that the processes that are forked start at once
    context.set_forkserver_preload(["latentstem.cli.main", "latentstem.training.fit", "latentstem.report"])
    process = context.Process(target=_run, args=(list(map(str, arguments)), str(log), kill_in_write))
    process.start()
    return process


def _run(arguments: list[str], log: str, kill_in_write: tuple[str, int] | None) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    import torch

    from latentstem.cli import app
    from latentstem.training import checkpoint_callback
    from latentstem.util import disk

    torch.set_num_threads(1)
    checkpoint_callback._CHECKPOINT_INTERVAL = _SECONDS_BETWEEN_CHECKPOINTS
    disk._RESERVED_BYTES = -(
        2**40
    )  # a small disk is not refused before the run: it has to become full during it
    if kill_in_write is not None:
        _kill_in_write(*kill_in_write)
    app(arguments)


def _kill_in_write(moment: str, number: int) -> None:
    """Let this process kill itself during its write of that number."""
    from latentstem.util import whole_file

    to_disk, replace, left = whole_file._fsync_tree, os.replace, [number]

    def to_disk_and_die(path: Path) -> None:
        left[0] -= 1
        if left[0] == 0 and moment == "half written":
            if path.stat().st_nlink == 1:  # else it is a second name of a file that is complete
                os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        to_disk(path)
        if left[0] == 0 and moment == "written":
            os.kill(os.getpid(), signal.SIGKILL)

    def replace_and_die(old: Path, new: Path) -> None:
        replace(old, new)
        if left[0] == 0 and moment == "renamed":
            os.kill(os.getpid(), signal.SIGKILL)

    whole_file._fsync_tree = to_disk_and_die
    whole_file.os.replace = replace_and_die
