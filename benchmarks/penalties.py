"""What the three penalties on the latents cost of a training step: ``python -m benchmarks.penalties``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import torch

from latentstem import Autoencoder, TrainingConfig
from latentstem.nn.batches import PatternBatch, ScoreBatch

PENALTIES = {"lambda_act": 1e-4, "lambda_sim": 5e-5, "lambda_div": 2e-4}


def steps(counts: torch.Tensor, **weights: float) -> Iterator[float]:
    """Durations of training steps of the default network."""
    config = TrainingConfig(
        reconstruction="poisson", preprocessing="minmax", split_counts=True, context=0, **weights
    )
    torch.manual_seed(0)
    module = Autoencoder(config.model_dump(), (counts.shape[1], counts.shape[2]))
    scores = ScoreBatch.without_neighbours(torch.zeros(len(counts), module.network.n_components), rings=0)
    batch = PatternBatch(counts, scores)
    optimiser = torch.optim.AdamW(module.parameters(), fused=True)
    generator = torch.Generator().manual_seed(0)
    while True:
        start = time.perf_counter()
        optimiser.zero_grad()
        module.loss(batch, generator)["loss"].backward()
        optimiser.step()
        yield time.perf_counter() - start


def main() -> None:
    """Print the shortest step with and without the penalties, taken by turns, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--size", type=int, default=32, help="detector rows and columns")
    parser.add_argument("--steps", type=int, default=30)
    asked = parser.parse_args()
    counts = torch.poisson(torch.rand(asked.batch, asked.size, asked.size), torch.Generator().manual_seed(0))
    runs = steps(counts, **dict.fromkeys(PENALTIES, 0.0)), steps(counts, **PENALTIES)
    seconds = [[next(run) for run in runs] for _ in range(asked.steps)]
    plain, penalised = map(min, zip(*seconds, strict=True))  # other load only ever adds
    print(
        f"step of {asked.batch} patterns of {asked.size} x {asked.size} pixels: {1e3 * plain:.1f} ms without, "
        f"{1e3 * penalised:.1f} ms with the penalties: {100 * (penalised / plain - 1):+.1f} %"
    )


if __name__ == "__main__":
    main()
