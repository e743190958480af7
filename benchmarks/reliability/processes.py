"""``latentstem`` in processes of their own, which can be killed at a chosen moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path

__all__ = ["MOMENTS", "start"]

#: moments in the writing of a checkpoint: half of it is there; all of it, under its passing name; just renamed
MOMENTS = ("half written", "written", "renamed")
_EVERY = 0.15  # seconds between checkpoints, which are minutes in reality


def start(arguments: list[object], log: Path, kill_in_write: tuple[str, int] | None = None) -> BaseProcess:
    """Start ``latentstem`` with one thread; what it says goes to a file.

    Parameters
    ----------
    kill_in_write : (str, int), optional
        Moment, and number of the checkpoint that is written then.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"{__package__}.warm"])
    process = context.Process(target=_run, args=(list(map(str, arguments)), str(log), kill_in_write))
    process.start()
    return process


def _run(arguments: list[str], log: str, kill_in_write: tuple[str, int] | None) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    import torch

    from latentstem.cli import app
    from latentstem.training import callbacks
    from latentstem.util import disk

    torch.set_num_threads(1)
    callbacks._EVERY = _EVERY
    disk._HEADROOM = -(2**40)  # small disks are not refused before the run: they are to run full in its midst
    if kill_in_write is not None:
        _aim(*kill_in_write)
    app(arguments)


def _aim(moment: str, number: int) -> None:
    """Let this process kill itself, as at a power cut, in the midst of its write of that number."""
    from latentstem.util import whole_file as atomic

    to_disk, replace, left = atomic._to_disk, os.replace, [number]

    def dying_to_disk(path: Path) -> None:
        left[0] -= 1
        if left[0] == 0 and moment == "half written":
            if path.stat().st_nlink == 1:  # else it is another name of a file that is whole
                os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        to_disk(path)
        if left[0] == 0 and moment == "written":
            os.kill(os.getpid(), signal.SIGKILL)

    def dying_replace(old: Path, new: Path) -> None:
        replace(old, new)
        if left[0] == 0 and moment == "renamed":
            os.kill(os.getpid(), signal.SIGKILL)

    atomic._to_disk = dying_to_disk
    atomic.os.replace = dying_replace
