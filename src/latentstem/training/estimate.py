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
from ..nn.principal_components import N_COMPARED
from ..scan.scan import Scan
from ..util.formatting import format_bytes, format_duration
from .data_module import MAX_VALIDATION_BYTES
from .initialise import sample_size
from .sampler import SHUFFLE_BUFFER_BYTES

__all__ = ["Estimate", "estimate"]

_MIN_SECONDS_SHOWN = 60.0  # an estimate is shown above this time ...
_MIN_BYTES_SHOWN = 10**9  # ... or memory
_SCAN_PASS_BYTES = 250 * 2**20  # patterns and their scores during a pass over the scan
_SAMPLE_COPIES = 3  # copies of the sample that initialises the network
_STEP_TO_FORWARD_TIME = 3.0  # forward and backward pass, relative to the forward pass


@dataclass(frozen=True)
class Estimate:
    """Resources of a run."""

    memory: int  # additional main memory in bytes
    step_bytes: int  # for one training step, on the training device
    on_gpu: bool  # whether the steps are on a GPU
    seconds: float  # of the steps, from a short trial on the CPU; on a GPU, an upper bound
    pass_seconds: float  # to read the scan once
    disk: int  # bytes of checkpoints

    def messages(self, scan: Scan) -> list[str]:
        """Messages for the user; none for short and small runs."""
        if self.seconds <= _MIN_SECONDS_SHOWN and self.memory <= _MIN_BYTES_SHOWN:
            return []
        gpu = f", {format_bytes(self.step_bytes)} on the GPU" if self.on_gpu else ""
        accuracy = "at most" if self.on_gpu else "about"
        lines = [
            f"Estimate: {accuracy} {format_duration(self.seconds)} of training, {format_bytes(self.memory)} of memory{gpu}, "
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
        """Raise a TrainingError if the run needs more memory than is free."""
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
    autoencoder: Autoencoder, scan: Scan, patterns: int, pass_seconds: float, *, on_gpu: bool = False
) -> Estimate:
    """Estimate the resources of training on so many patterns, if reading the scan once takes `pass_seconds`.

    Memory is computed from sizes and from the activations that the network keeps for its gradient, time from a short
    trial of the network and from the time that reading the scan took.
    """
    config, network = autoencoder.config, autoencoder.network
    pixels, pattern_bytes = int(np.prod(network.shape)), scan.nbytes // scan.n_positions
    weight_bytes = sum(weight.numel() * weight.element_size() for weight in network.parameters())
    bytes_per_pattern = _activation_bytes_per_pattern(autoencoder) + 12 * pixels + 4 * pattern_bytes
    step_bytes = int(config.batch_size * bytes_per_pattern + 4 * weight_bytes)
    n_scores = network.n_components + N_COMPARED if network.n_components else 0
    score_bytes = scan.n_positions * 4 * n_scores
    training_bytes = min(scan.nbytes, MAX_VALIDATION_BYTES) + score_bytes
    streamed = scan.source.array is None
    if streamed:
        chunk_bytes = int(np.prod(scan.source.chunks)) * pattern_bytes
        training_bytes += min(scan.nbytes, SHUFFLE_BUFFER_BYTES) + 3 * chunk_bytes
    sample_bytes = min(sample_size(pixels), scan.n_positions) * pixels * 4
    initial_bytes = sample_bytes * _SAMPLE_COPIES + min(4 * scan.nbytes, _SCAN_PASS_BYTES) + score_bytes
    memory = int(max(initial_bytes, training_bytes + (0 if on_gpu else step_bytes)))
    step_seconds = patterns * _seconds_per_pattern(autoencoder)
    reading_seconds = patterns / scan.n_positions * pass_seconds if streamed else 0.0
    # weights, their running average, two moments of the optimiser, principal components; in best.ckpt and last.ckpt
    disk = 2 * 5 * weight_bytes
    return Estimate(memory, step_bytes, on_gpu, max(step_seconds, reading_seconds), pass_seconds, disk)


def _forward(autoencoder: Autoencoder, network: Network, count: int, device: str) -> Tensor:
    """Encode and decode so many patterns."""
    if not network.n_components:
        patterns = torch.zeros(count, *network.shape, dtype=torch.float32, device=device)
        return network.decode(network.encode(patterns))
    scores = torch.zeros(count, network.n_components, dtype=torch.float32, device=device)
    rings = ring_count(autoencoder.principal_components.radius)
    return network.decode(network.encode_scores(ScoreBatch.without_neighbours(scores, rings)))


def _activation_bytes_per_pattern(autoencoder: Autoencoder) -> int:
    """Activation memory per pattern for the backward pass, measured on the meta device, which takes no memory."""
    network = copy.deepcopy(autoencoder.network).to("meta")
    weights = {weight.untyped_storage()._cdata for weight in [*network.parameters(), *network.buffers()]}
    activation_bytes: dict[int, int] = {}

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            activation_bytes[storage._cdata] = storage.nbytes()
        return tensor.detach()  # detach, to avoid a reference cycle

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        _forward(autoencoder, network, 64, "meta")
    return sum(activation_bytes.values()) // 64


@torch.no_grad()
def _seconds_per_pattern(autoencoder: Autoencoder) -> float:
    """Time per pattern of a training step on the CPU, extrapolated from a short forward pass."""
    network, count, seconds = autoencoder.network, 1, 0.0
    while seconds < 0.1 and count <= 64:
        start = time.perf_counter()
        _forward(autoencoder, network, count, "cpu")
        seconds = time.perf_counter() - start
        count *= 4
    return _STEP_TO_FORWARD_TIME * seconds / (count // 4)
