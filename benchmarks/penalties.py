"""What the three penalties on the latents cost of a training step: ``python -m benchmarks.penalties``."""

from __future__ import annotations

import argparse
import time

import torch

from latentstem import Autoencoder, TrainingConfig
from latentstem.training.reader import Batch

PENALTIES = {"lambda_act": 1e-4, "lambda_sim": 5e-5, "lambda_div": 2e-4}


def step_seconds(batch: Batch, steps: int, **weights: float) -> list[float]:
    """Durations of training steps of the default network, warmed up."""
    config = TrainingConfig(
        reconstruction="poisson", preprocessing="minmax", split_counts=True, context=0, **weights
    )
    torch.manual_seed(0)
    module = Autoencoder(config.model_dump(), batch.patterns.shape[1:])
    optimiser = torch.optim.AdamW(module.parameters(), fused=True)
    generator, durations = torch.Generator().manual_seed(0), []
    for _ in range(steps + 2):
        start = time.perf_counter()
        optimiser.zero_grad()
        module.losses(batch, generator)["loss"].backward()
        optimiser.step()
        durations.append(time.perf_counter() - start)
    return durations[2:]


def main() -> None:
    """Print the shortest step with and without the penalties, taken by turns, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--size", type=int, default=64, help="detector rows and columns")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    counts = torch.poisson(torch.rand(asked.batch, asked.size, asked.size), torch.Generator().manual_seed(0))
    without: list[float] = []
    with_penalties: list[float] = []
    for _ in range(asked.rounds):
        without += step_seconds(Batch(counts), asked.steps, **dict.fromkeys(PENALTIES, 0.0))
        with_penalties += step_seconds(Batch(counts), asked.steps, **PENALTIES)
    plain, penalised = min(without), min(with_penalties)  # other load only ever adds
    print(
        f"step of {asked.batch} patterns of {asked.size} x {asked.size} pixels: {1e3 * plain:.1f} ms without, "
    )
    print(f"{1e3 * penalised:.1f} ms with the penalties: {100 * (penalised / plain - 1):+.1f} %")


if __name__ == "__main__":
    main()
