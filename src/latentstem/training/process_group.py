"""Distributed training: launch, broadcast and error handling.

Lightning Fabric launches and connects the processes; each runs the same function, with its own trainer. The result is
that of rank 0. Processes are launched for the whole run and not within ``Trainer.fit``, because before the first step
the quality of the data is measured and the network is initialised, once and on rank 0 alone.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pickle
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
from .session_state import restore_session_state

__all__ = ["ProcessGroup", "choose_strategy", "is_rank_zero", "launch"]

_TIMEOUT = timedelta(days=1)  # within which rank 0 must have read the whole scan, while the other ranks wait
_ENVIRONMENT = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", "OMP_NUM_THREADS")

T = TypeVar("T")


class _ExternallyLaunchedDDP(TrainerStrategy):
    """DDP strategy for processes that are already running."""

    def _configure_launcher(self) -> None:
        self._launcher = None


@dataclass(frozen=True)
class ProcessGroup:
    """The group of training processes, seen from one of them; by default a single process."""

    rank: int = 0  # of this process
    world_size: int = 1  # number of processes
    nodes: int = 1  # number of machines
    fabric: Any = None  # connects the processes

    @property
    def is_rank_zero(self) -> bool:
        """Whether this is rank 0, which prints and writes files."""
        return self.rank == 0

    def broadcast(self, make: Callable[[], T]) -> T:
        """Result of `make` on rank 0, broadcast to all ranks."""
        result = make() if self.is_rank_zero else None
        return result if self.fabric is None else self.fabric.broadcast(result)  # type: ignore[return-value]

    def trainer_arguments(self, find_unused_parameters: bool) -> dict[str, Any]:
        """Trainer arguments for this group; with `find_unused_parameters`, some parameters may get no gradient."""
        if self.world_size == 1:
            return {"devices": 1}
        return {
            "devices": self.world_size // self.nodes,
            "num_nodes": self.nodes,
            "use_distributed_sampler": False,  # the data module splits the batches
            # buffers are equal on all ranks and constant
            "strategy": _ExternallyLaunchedDDP(
                broadcast_buffers=False, find_unused_parameters=find_unused_parameters, timeout=_TIMEOUT
            ),
        }


def is_rank_zero(config: TrainingConfig) -> bool:
    """Whether this process is rank 0 of those that the configuration requests, also before they are connected."""
    if config.devices * config.num_nodes == 1:
        return True
    ranks = [os.environ[name] for name in ("RANK", "SLURM_PROCID") if name in os.environ]
    ranks = ranks[:1] or [os.environ.get(name, "0") for name in ("NODE_RANK", "LOCAL_RANK")]
    return all(int(rank) == 0 for rank in ranks)


def choose_strategy(config: TrainingConfig, accelerator: str) -> tuple[str, str]:
    """Launch strategy (``ddp``, ``ddp_notebook`` or ``none``) and the reason.

    Raises
    ------
    ArgumentError
        If the requested processes are not possible on this machine.
    """
    n_processes = config.devices * config.num_nodes
    if n_processes == 1:
        return "none", ""
    on_gpus = accelerator != "cpu" and torch.cuda.is_available()
    if on_gpus and config.devices > torch.cuda.device_count():
        raise ArgumentError(
            "more devices than GPUs",
            expected=f"devices of at most {torch.cuda.device_count()}, one for each GPU",
            received=f"devices={config.devices}",
            advice="Reduce devices, or use device='cpu'.",
        )
    if accelerator == "mps":
        raise ArgumentError(
            "device='mps' has only one GPU",
            expected="devices=1 with device='mps'",
            received=f"devices={config.devices}",
            advice="Use device='cpu' for several processes.",
        )
    strategy, reason = "ddp", f"{n_processes} processes, each of which runs the script"
    if config.strategy == "ddp_notebook" or not _is_script():
        strategy = "ddp_notebook"
        reason = f"{n_processes} processes, forked, because there is no script to rerun (notebook or interactive session)"
        if config.num_nodes > 1 or "fork" not in multiprocessing.get_all_start_methods():
            raise ArgumentError(
                "processes cannot be forked",
                expected="a script, or one machine with Linux or macOS",
                received=f"strategy={config.strategy!r} with num_nodes={config.num_nodes}, on {sys.platform}",
                advice="Write a script, and use strategy='ddp' in it.",
            )
    return strategy, "" if config.strategy == strategy else f"strategy='{strategy}': {reason}"


def _is_script() -> bool:
    """Whether there is a script that other processes can run: not in a notebook, ``python -c`` or from a pipe."""
    if hasattr(sys, "ps1") or sys.flags.interactive:
        return False
    return getattr(sys.modules["__main__"], "__spec__", None) is not None or Path(sys.argv[0]).is_file()


class _State:
    launch_failed = False  # the other processes that run this script have ended


def launch(
    strategy: str, config: TrainingConfig, accelerator: str, function: Callable[[ProcessGroup], T]
) -> T:
    """Run a function in several processes and return rank 0's result, which must be picklable.

    Parameters
    ----------
    strategy : str
        From `choose_strategy`. Under ``ddp`` every process returns from this call.
    config : TrainingConfig
        Gives the number of processes.
    accelerator : str
        Lightning's name of the device.
    function : callable
        Called with the `ProcessGroup`. Its first error in any process ends all of them, and is raised.
    """
    if _State.launch_failed:
        raise TrainingError(
            "the other processes have ended",
            expected="a script in which no distributed training has failed before",
            received="an earlier training that failed",
            advice="Start the script anew.",
        )
    forked = strategy == "ddp_notebook"
    with (
        _restore_threads_and_environment(forked),
        restore_session_state(),
        tempfile.TemporaryDirectory(prefix="latentstem-") as folder,
    ):
        method: Any = "fork" if forked else "popen"
        fabric = Fabric(
            accelerator=accelerator,
            devices=config.devices,
            num_nodes=config.num_nodes,
            strategy=DDPStrategy(start_method=method, timeout=_TIMEOUT),
        )
        error_file, result_file = Path(folder) / "error.json", Path(folder) / "result"

        def run_on_rank(fabric: Fabric) -> T | None:
            nonlocal error_file
            group = ProcessGroup(fabric.global_rank, fabric.world_size, config.num_nodes, fabric)
            torch.set_num_threads(
                max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // config.devices))
            )
            try:
                error_file = Path(fabric.broadcast(str(error_file)))  # one for the processes of this machine
                own_result = function(group)
                result = group.broadcast(lambda: own_result)
                if not forked:
                    return result
                if group.is_rank_zero:  # too large for Fabric's return pipe
                    result_file.write_bytes(pickle.dumps(result))
            except BaseException as error:
                _write_error(error, error_file)
                if torch.distributed.is_initialized():
                    torch.distributed.destroy_process_group()  # so that waiting ranks get an error
                if not forked or not isinstance(error, Exception):
                    raise
            return None

        earlier_processes = set(multiprocessing.active_children())
        try:
            result: T = fabric.launch(run_on_rank)
        except BaseException as error:
            for process in set(multiprocessing.active_children()) - earlier_processes:
                process.terminate()
            _State.launch_failed = not forked
            environment = fabric.strategy.cluster_environment  # type: ignore[attr-defined]
            if fabric.global_rank > 0 and isinstance(environment, LightningEnvironment):
                # launched by rank 0, which reports the error; Lightning would kill all on a nonzero status
                raise SystemExit(0) from None
            if isinstance(error, Exception):
                _raise_first_error(error_file)
            raise
        _raise_first_error(error_file)
        return pickle.loads(result_file.read_bytes()) if forked else result


def _write_error(error: BaseException, error_file: Path) -> None:
    """Write the error of a process, unless that of another process has been written."""
    if not isinstance(error, Exception):
        return
    if not isinstance(error, LatentSTEMError):
        error = TrainingError(
            "one of the processes failed",
            expected="all of them to train to the end",
            received=f"{type(error).__name__}: {error}",
            advice="A lost connection means that a process was killed or ran out of memory. With an output_dir, "
            "resume from its checkpoints/last.ckpt with resume_from; devices=1 shows the full error.",
        )
    fields = {name: str(getattr(error, name)) for name in ("expected", "received", "advice")}
    with contextlib.suppress(OSError), error_file.open("x", encoding="utf-8") as file:
        json.dump([type(error).__name__, str(error.what), fields], file)


def _raise_first_error(error_file: Path) -> None:
    """Raise the first error of any process, if there is one."""
    try:
        kind, what, fields = json.loads(error_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    raise getattr(errors, kind, TrainingError)(what, **fields) from None


@contextlib.contextmanager
def _restore_threads_and_environment(forked: bool) -> Iterator[None]:
    """Restore the thread count and, for forked processes, the environment variables."""
    n_threads, environment = torch.get_num_threads(), dict(os.environ)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
        for name in _ENVIRONMENT if forked else ("OMP_NUM_THREADS",):
            os.environ.pop(name, None)
            if name in environment:
                os.environ[name] = environment[name]
