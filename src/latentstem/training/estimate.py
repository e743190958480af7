"""What a run will take: memory, time and disk, found before it begins."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import numpy as np
import psutil
import torch
from torch import Tensor

from ..errors import TrainingError
from ..nn.autoencoder import Autoencoder
from ..nn.batches import ScoreBatch
from ..nn.neighbourhood import ring_count
from ..nn.networks import Network
from ..scan.scan import Scan
from ..util.disk import format_bytes
from ..util.formatting import readable_duration
from .sampler import BUFFER_BYTES

__all__ = ["Estimate", "estimate"]

_LONG = 60.0  # seconds, and ...
_LARGE = 10**9  # ... bytes, above which an estimate is told
_READING = 250 * 2**20  # patterns and their scores while the scan is looked at
_VALIDATION = 128 * 2**20
_SAMPLE_COPIES = 3  # of the patterns that the network starts from
_TRAINING = 3.0  # forward and backward over forward alone
_SHARE = 1.0  # of the free memory that a run may need


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes
    ----------
    memory : int
        Bytes beside what the process holds already.
    step : int
        Bytes of one training step, of those where it takes place: on the GPU if there is one.
    on_gpu : bool
        Whether the steps are on a GPU.
    seconds : float
        Time of the steps, from a short trial on the CPU; on a GPU, an upper bound.
    reading : float
        Seconds to read the scan once.
    disk : int
        Bytes of checkpoints.
    """

    memory: int
    step: int
    on_gpu: bool
    seconds: float
    reading: float
    disk: int

    def lines(self, scan: Scan) -> list[str]:
        """What is worth telling: nothing of a short and small run."""
        if self.seconds <= _LONG and self.memory <= _LARGE:
            return []
        gpu = f", {format_bytes(self.step)} on the GPU" if self.on_gpu else ""
        most = "at most" if self.on_gpu else "about"
        lines = [
            f"Estimate: {most} {readable_duration(self.seconds)} of training, {format_bytes(self.memory)} of memory{gpu}, "
            f"{format_bytes(self.disk)} of disk where checkpoints are kept."
        ]
        if scan.source.array is None:
            lines.append(
                f"The patterns are in chunks and do not fit into memory: each pass over them takes "
                f"{readable_duration(self.reading)} to read. cache_dir= makes a copy of {format_bytes(scan.nbytes)}, once, "
                "that is read at the speed of the disk."
            )
        return lines

    def require_memory(self, batch_size: int) -> None:
        """Refuse a run that cannot fit.

        Raises
        ------
        TrainingError
        """
        free = {"memory": psutil.virtual_memory().available + psutil.swap_memory().free}
        needed = {"memory": self.memory}
        if self.on_gpu and torch.cuda.is_available():
            free["GPU memory"], needed["GPU memory"] = torch.cuda.mem_get_info()[0], self.step
        for what, size in needed.items():
            if size > _SHARE * free[what]:
                raise TrainingError(
                    f"the run does not fit into {what}",
                    expected=f"at most {format_bytes(free[what])}, which is free",
                    received=f"a run that needs {format_bytes(size)}, {format_bytes(self.step)} for each step",
                    advice=f"Reduce batch_size (it is {batch_size}), set bin=2, or use preset='low-memory'.",
                )


def estimate(
    module: Autoencoder, scan: Scan, patterns: int, reading: float, *, on_gpu: bool = False
) -> Estimate:
    """Find out what a run will take.

    Memory follows from sizes and from what the network keeps of one pattern for its gradient; time from a short trial
    of the network and from how long it took to read the scan.

    Parameters
    ----------
    module : Autoencoder
        About to be trained.
    scan : Scan
        The data.
    patterns : int
        How many patterns the run sees.
    reading : float
        Seconds that it took to read the scan once.
    on_gpu : bool
        Whether the steps are on a GPU.
    """
    config, network = module.config, module.network
    pixels, pattern = int(np.prod(network.shape)), scan.nbytes // scan.n_positions
    sample = min(2048, max(64, 2**26 // pixels)) * pixels * 4
    weights = sum(weight.numel() * weight.element_size() for weight in network.parameters())
    step = int(config.batch_size * (_kept(module) + 12 * pixels + 4 * pattern) + 4 * weights)
    scores = scan.n_positions * 4 * (network.n_components + 16) if network.n_components else 0
    held = min(scan.nbytes, _VALIDATION) + scores
    streamed = scan.source.array is None
    if streamed:
        held += min(scan.nbytes, BUFFER_BYTES) + 3 * int(np.prod(scan.source.chunks)) * pattern
    starting = min(sample, scan.n_positions * pixels * 4) * _SAMPLE_COPIES + min(4 * scan.nbytes, _READING)
    memory = int(max(starting + scores, held + (0 if on_gpu else step)))
    compute = patterns * _seconds_per_pattern(module)
    passes = patterns / scan.n_positions * reading if streamed else 0.0
    disk = 2 * 5 * weights  # weights, their means, two moments of the optimiser; last and best
    return Estimate(memory, step, on_gpu, max(compute, passes), reading, disk)


def _pass_through(autoencoder: Autoencoder, network: Network, count: int, device: str) -> None:
    """Encode and decode so many patterns."""
    if not network.n_components:
        network.decode(network.encode(torch.zeros(count, *network.shape, dtype=torch.float32, device=device)))
        return
    scores = torch.zeros(count, network.n_components, dtype=torch.float32, device=device)
    rings = ring_count(autoencoder.principal_components.radius)
    network.decode(network.encode_scores(ScoreBatch.without_neighbours(scores, rings)))


def _kept(module: Autoencoder) -> int:
    """Bytes that the network keeps of each pattern until the gradient is known; nothing is computed."""
    network = copy.deepcopy(module.network).to("meta")
    own = {weight.untyped_storage()._cdata for weight in [*network.parameters(), *network.buffers()]}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor.detach()  # keeps the storage; a node that kept its own output would never be let go

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        _pass_through(module, network, 64, "meta")
    return sum(kept.values()) // 64


@torch.no_grad()
def _seconds_per_pattern(module: Autoencoder) -> float:
    """Of a training step on the CPU, from a forward pass that takes a second at most, or one pattern."""
    network, count, seconds = module.network, 1, 0.0
    while seconds < 0.1 and count <= 64:
        start = time.perf_counter()
        _pass_through(module, network, count, "cpu")
        seconds = time.perf_counter() - start
        count *= 4
    return _TRAINING * seconds / (count // 4)
