"""Estimate memory, time and disk space of a run before it starts."""

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
from ..util.formatting import format_bytes, format_duration
from .sampler import SHUFFLE_BUFFER_BYTES

__all__ = ["Estimate", "estimate"]

_MIN_SECONDS_SHOWN = 60.0  # an estimate is shown above this time ...
_MIN_BYTES_SHOWN = 10**9  # ... or memory
_SCAN_PASS_BYTES = 250 * 2**20  # patterns and their scores during a pass over the scan
_VALIDATION_BYTES = 128 * 2**20
_SAMPLE_COPIES = 3  # of the sample that initialises the network
_STEP_TO_FORWARD_TIME = 3.0  # forward and backward pass, relative to the forward pass


@dataclass(frozen=True)
class Estimate:
    """Resources of a run.

    Attributes
    ----------
    memory : int
        Additional main memory in bytes.
    step_bytes : int
        Bytes for one training step, on the training device.
    on_gpu : bool
        Whether the steps are on a GPU.
    seconds : float
        Time of the steps, from a short trial on the CPU; on a GPU, an upper bound.
    pass_seconds : float
        Seconds to read the scan once.
    disk : int
        Bytes of checkpoints.
    """

    memory: int
    step_bytes: int
    on_gpu: bool
    seconds: float
    pass_seconds: float
    disk: int

    def messages(self, scan: Scan) -> list[str]:
        """Messages for the user; none for short and small runs."""
        if self.seconds <= _MIN_SECONDS_SHOWN and self.memory <= _MIN_BYTES_SHOWN:
            return []
        gpu = f", {format_bytes(self.step_bytes)} on the GPU" if self.on_gpu else ""
        most = "at most" if self.on_gpu else "about"
        lines = [
            f"Estimate: {most} {format_duration(self.seconds)} of training, {format_bytes(self.memory)} of memory{gpu}, "
            f"{format_bytes(self.disk)} of disk where checkpoints are kept."
        ]
        if scan.source.array is None:
            lines.append(
                f"The patterns are stored in chunks and do not fit into memory: reading them takes "
                f"{format_duration(self.pass_seconds)} per pass. With cache_dir=, a one-time copy of "
                f"{format_bytes(scan.nbytes)} is made that can be read at disk speed."
            )
        return lines

    def require_memory(self, batch_size: int) -> None:
        """Raise if the run does not fit into memory.

        Raises
        ------
        TrainingError
            If more memory is needed than is free.
        """
        free = {"memory": psutil.virtual_memory().available + psutil.swap_memory().free}
        needed = {"memory": self.memory}
        if self.on_gpu and torch.cuda.is_available():
            free["GPU memory"], needed["GPU memory"] = torch.cuda.mem_get_info()[0], self.step_bytes
        for what, size in needed.items():
            if size > free[what]:
                raise TrainingError(
                    f"the run does not fit into {what}",
                    expected=f"at most {format_bytes(free[what])}, which is free",
                    received=f"a run that needs {format_bytes(size)}, {format_bytes(self.step_bytes)} for each step",
                    advice=f"Reduce batch_size (it is {batch_size}), set bin=2, or use preset='low-memory'.",
                )


def estimate(
    module: Autoencoder, scan: Scan, patterns: int, pass_seconds: float, *, on_gpu: bool = False
) -> Estimate:
    """Estimate the resources of a run.

    Memory follows from sizes and from what the network keeps of one pattern for its gradient; time from a short trial
    of the network and from how long it took to read the scan.

    Parameters
    ----------
    module : Autoencoder
        Initialised autoencoder.
    scan : Scan
        The data.
    patterns : int
        Number of training patterns of the run.
    pass_seconds : float
        Seconds to read the scan once.
    on_gpu : bool
        Whether the steps are on a GPU.
    """
    config, network = module.config, module.network
    pixels, pattern = int(np.prod(network.shape)), scan.nbytes // scan.n_positions
    sample = min(2048, max(64, 2**26 // pixels)) * pixels * 4
    weights = sum(weight.numel() * weight.element_size() for weight in network.parameters())
    step = int(
        config.batch_size * (_activation_bytes_per_pattern(module) + 12 * pixels + 4 * pattern) + 4 * weights
    )
    scores = scan.n_positions * 4 * (network.n_components + 16) if network.n_components else 0
    held = min(scan.nbytes, _VALIDATION_BYTES) + scores
    streamed = scan.source.array is None
    if streamed:
        held += min(scan.nbytes, SHUFFLE_BUFFER_BYTES) + 3 * int(np.prod(scan.source.chunks)) * pattern
    starting = min(sample, scan.n_positions * pixels * 4) * _SAMPLE_COPIES + min(
        4 * scan.nbytes, _SCAN_PASS_BYTES
    )
    memory = int(max(starting + scores, held + (0 if on_gpu else step)))
    compute = patterns * _seconds_per_pattern(module)
    passes = patterns / scan.n_positions * pass_seconds if streamed else 0.0
    disk = 2 * 5 * weights  # weights, their means, two moments of the optimiser; last and best
    return Estimate(memory, step, on_gpu, max(compute, passes), pass_seconds, disk)


def _forward(autoencoder: Autoencoder, network: Network, count: int, device: str) -> Tensor:
    """Encode and decode so many patterns."""
    if not network.n_components:
        patterns = torch.zeros(count, *network.shape, dtype=torch.float32, device=device)
        return network.decode(network.encode(patterns))
    scores = torch.zeros(count, network.n_components, dtype=torch.float32, device=device)
    rings = ring_count(autoencoder.principal_components.radius)
    return network.decode(network.encode_scores(ScoreBatch.without_neighbours(scores, rings)))


def _activation_bytes_per_pattern(module: Autoencoder) -> int:
    """Activation memory per pattern for the backward pass, found on the meta device."""
    network = copy.deepcopy(module.network).to("meta")
    weights = {weight.untyped_storage()._cdata for weight in [*network.parameters(), *network.buffers()]}
    kept: dict[int, int] = {}

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return tensor.detach()  # detach, to avoid a reference cycle

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        _forward(module, network, 64, "meta")
    return sum(kept.values()) // 64


@torch.no_grad()
def _seconds_per_pattern(module: Autoencoder) -> float:
    """Time per pattern of a training step on the CPU, extrapolated from a short forward pass."""
    network, count, seconds = module.network, 1, 0.0
    while seconds < 0.1 and count <= 64:
        start = time.perf_counter()
        _forward(module, network, count, "cpu")
        seconds = time.perf_counter() - start
        count *= 4
    return _STEP_TO_FORWARD_TIME * seconds / (count // 4)
