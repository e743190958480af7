"""Several processes that train one model: how they start, what they tell each other, and how they end together.

They are Lightning's: Fabric starts them and connects them, and the trainer of each joins in. A function runs in all of
them, and what it returns in the first one is the result.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from pytorch_lightning.strategies import DDPStrategy as TrainerStrategy

from .. import errors
from ..config import TrainingConfig
from ..errors import ArgumentError, LatentSTEMError, TrainingError
from .session_state import surroundings_kept

__all__ = ["Team", "in_processes", "is_first_process", "processes_of"]

_PATIENCE = timedelta(days=1)  # for the first process, which inspects the scan while others wait
_PLACES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", "OMP_NUM_THREADS")

T = TypeVar("T")


class _Joined(TrainerStrategy):
    """Data-parallel training in processes that run already."""

    def _configure_launcher(self) -> None:
        self._launcher = None


@dataclass(frozen=True)
class Team:
    """The processes that train together, as one of them sees them; by default, it is alone.

    Parameters
    ----------
    rank : int
        Number of this process.
    size : int
        How many there are.
    nodes : int
        On how many machines.
    fabric : Fabric, optional
        What connects them.
    """

    rank: int = 0
    size: int = 1
    nodes: int = 1
    fabric: Any = None

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0

    def shared(self, make: Callable[[], T]) -> T:
        """What the first process makes, in all of them."""
        made = make() if self.first else None
        return made if self.fabric is None else self.fabric.broadcast(made)  # type: ignore[return-value]

    def trainer_arguments(self, unused: bool = False) -> dict[str, Any]:
        """How a trainer joins in; `unused` says that the module has parameters that its loss does not depend on."""
        if self.size == 1:
            return {"devices": 1}
        return {
            "devices": self.size // self.nodes,
            "num_nodes": self.nodes,
            "use_distributed_sampler": False,  # each process reads its own share
            # statistics are the same from the start, and never change
            "strategy": _Joined(broadcast_buffers=False, find_unused_parameters=unused, timeout=_PATIENCE),
        }


def is_first_process(config: TrainingConfig) -> bool:
    """Whether this process is the first one of those that the configuration asks for."""
    if config.devices * config.num_nodes == 1:
        return True
    places = [os.environ.get(name) for name in ("RANK", "SLURM_PROCID")]
    rank = next((place for place in places if place is not None), None)
    if rank is not None:
        return int(rank) == 0
    return all(int(os.environ.get(name, 0)) == 0 for name in ("NODE_RANK", "LOCAL_RANK"))


def processes_of(config: TrainingConfig, accelerator: str) -> tuple[str, str]:
    """How the processes are started: ``ddp``, ``ddp_notebook``, or ``none``; and why.

    Raises
    ------
    ArgumentError
        If they cannot be had here.
    """
    asked, number = config.strategy, config.devices * config.num_nodes
    if number == 1:
        return "none", ""
    on_gpus = accelerator != "cpu" and torch.cuda.is_available()
    if on_gpus and config.devices > torch.cuda.device_count():
        raise ArgumentError(
            "there are fewer GPUs",
            expected=f"devices of at most {torch.cuda.device_count()}, one for each GPU",
            received=f"devices={config.devices}",
            advice="Reduce devices, or use device='cpu'.",
        )
    if accelerator == "mps":
        raise ArgumentError(
            "there is one GPU",
            expected="devices=1 with device='mps'",
            received=f"devices={config.devices}",
            advice="Use device='cpu' for several processes.",
        )
    strategy, why = "ddp", f"{number} processes, each of which runs the script"
    if not _can_be_run_again():
        strategy, why = "ddp_notebook", f"{number} processes, forked, as there is no script to run again"
    if asked == "ddp_notebook":
        strategy, why = asked, ""
    if strategy == "ddp_notebook":
        if config.num_nodes > 1 or "fork" not in multiprocessing.get_all_start_methods():
            raise ArgumentError(
                "processes cannot be forked",
                expected="a script, or one machine with Linux or macOS",
                received=f"strategy={asked!r} with num_nodes={config.num_nodes}, on {sys.platform}",
                advice="Write a script, and use strategy='ddp' in it.",
            )
    return strategy, "" if asked == strategy else f"strategy='{strategy}': {why}"


def _can_be_run_again() -> bool:
    """Whether there is a script that other processes can run: not in a notebook, ``python -c`` or from a pipe."""
    if hasattr(sys, "ps1") or sys.flags.interactive:
        return False
    return getattr(sys.modules["__main__"], "__spec__", None) is not None or Path(sys.argv[0]).is_file()


def in_processes(
    strategy: str, config: TrainingConfig, accelerator: str, function: Callable[[Team], bytes]
) -> bytes:
    """What a function returns in the first of several processes that all run it.

    Parameters
    ----------
    strategy : str
        From `processes_of`. Under ``ddp`` every process returns from this call, with what its function returns.
    config : TrainingConfig
        How many processes.
    accelerator : str
        As Lightning names it.
    function : callable
        Called with the `Team`.

    Raises
    ------
    LatentSTEMError
        Of whichever process failed first; all of them end.
    """
    if _State.failed:
        raise TrainingError(
            "the other processes are gone",
            expected="a training after which all processes go on",
            received="one that failed in this script",
            advice="Start the script anew.",
        )
    forked = strategy == "ddp_notebook"
    method: Any = "fork" if forked else "popen"
    with (
        _surroundings_kept(forked),
        surroundings_kept(),
        tempfile.TemporaryDirectory(prefix="latentstem-") as folder,
    ):
        reports, result = _Reports(Path(folder)), Path(folder) / "result"
        fabric = Fabric(
            accelerator=accelerator,
            devices=config.devices,
            num_nodes=config.num_nodes,
            strategy=DDPStrategy(start_method=method, timeout=_PATIENCE),
        )

        def member(fabric: Fabric) -> Any:
            team = Team(fabric.global_rank, fabric.world_size, config.num_nodes, fabric)
            threads = max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // config.devices))
            torch.set_num_threads(threads)
            try:
                reports.folder = Path(fabric.broadcast(folder))
                returned = function(team)
                if forked and team.first:  # too large for the pipe that Fabric returns it by
                    result.write_bytes(returned)
                return None if forked else returned
            except BaseException as error:
                reports.write(error)
                if torch.distributed.is_initialized():
                    torch.distributed.destroy_process_group()  # those who wait for this one get an error
                if forked and isinstance(error, Exception):
                    return None
                raise

        running = set(multiprocessing.active_children())
        try:
            returned: bytes | None = fabric.launch(member)
        except BaseException as error:
            for process in set(multiprocessing.active_children()) - running:
                process.terminate()
            _State.failed = not forked
            _end_if_started_by_lightning(fabric)
            if isinstance(error, Exception):
                reports.raise_first()
            raise
        reports.raise_first()
        return result.read_bytes() if returned is None else returned


class _State:
    failed = False  # whether processes that run this script have ended


class _Reports:
    """What went wrong first, in whichever process, in a folder that all of them on this machine see."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, error: BaseException) -> None:
        """Keep an error, unless there is one."""
        parts = {name: str(getattr(error, name, "")) for name in ("what", "expected", "received", "advice")}
        text = json.dumps({"kind": type(error).__name__, "message": str(error), **parts})
        if isinstance(error, Exception):
            with (
                contextlib.suppress(OSError),
                (self.folder / "report.json").open("x", encoding="utf-8") as file,
            ):
                file.write(text)

    def raise_first(self) -> None:
        """Raise the error that was kept, if there is one."""
        try:
            report = json.loads((self.folder / "report.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        kind = getattr(errors, report["kind"], None)
        if isinstance(kind, type) and issubclass(kind, LatentSTEMError):
            raise kind(report["what"], **{k: report[k] for k in ("expected", "received", "advice")}) from None
        told, advice = f"{report['kind']}: {report['message']}", "Train with devices=1 to find out more."
        if "gloo" in told or "NCCL" in told:  # how those who are left notice it
            told = "one that has ended without a word, killed or out of memory"
            advice = "With an output_dir, go on from its checkpoints/last.ckpt with resume_from."
        raise TrainingError(
            "one of the processes failed",
            expected="all of them to train to the end",
            received=told,
            advice=advice,
        ) from None


def _end_if_started_by_lightning(fabric: Fabric) -> None:
    """End a process that the first one has started, which tells what went wrong; with another status it would be killed."""
    environment = fabric.strategy.cluster_environment  # type: ignore[attr-defined]
    if fabric.global_rank > 0 and isinstance(environment, LightningEnvironment):
        raise SystemExit(0) from None


@contextlib.contextmanager
def _surroundings_kept(forked: bool) -> Iterator[None]:
    """Without a trace in this process's threads and, where no process goes on, in its environment."""
    threads, before = torch.get_num_threads(), {name: os.environ.get(name) for name in _PLACES}
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        for name in _PLACES if forked else ("OMP_NUM_THREADS",):
            value = before[name]
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
