"""Latents that a change of the code's layout must not change: ``python tests/system/stored_latents/make.py``.

Written once, before the code moved into its layers. A file that is there is not written again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import latentstem

FOLDER = Path(__file__).parent


def counts() -> np.ndarray:
    """Electron counts of a polycrystal, with the default network and noise model."""
    scan = latentstem.simulate((14, 11), (24, 20), dose=300, n_grains=3, seed=3).counts
    model = latentstem.train_autoencoder(scan, latent_dim=5, epochs=4, batch_size=16, seed=7, progress=False)
    return model.embed(scan, smooth=0).maps


def values() -> np.ndarray:
    """Values that are no counts, binned, with detector pixels and scan positions excluded."""
    scan = latentstem.simulate((9, 12), (20, 32), dose=500, n_grains=2, seed=4).counts
    values = (0.37 * scan + np.random.default_rng(0).normal(0.0, 0.2, scan.shape)).astype(np.float32)
    pattern_mask, scan_mask = np.zeros((20, 32), bool), np.zeros((9, 12), bool)
    pattern_mask[4, 6:9], scan_mask[2, 3] = True, True
    model = latentstem.train_autoencoder(
        values, pattern_mask=pattern_mask, scan_mask=scan_mask, latent_dim=4, context=1, bin=2, lambda_act=1e-4,
        epochs=4, batch_size=16, progress=False,
    )  # fmt: skip
    return model.embed(values, scan_mask=scan_mask).maps


def series() -> np.ndarray:
    """Two scans of different shape, one model; the latents of both, one after the other."""
    scans = [
        latentstem.simulate(shape, (16, 20), dose=200, n_grains=2, seed=seed).counts
        for seed, shape in enumerate([(7, 9), (8, 6)])
    ]
    model = latentstem.train_autoencoder(scans, latent_dim=3, epochs=5, batch_size=16, seed=1, progress=False)
    return np.concatenate([found.maps.reshape(-1, 3) for found in model.embed(scans)])


SCANS: dict[str, Callable[[], np.ndarray]] = {"counts": counts, "values": values, "series": series}


def main() -> None:
    """Write the latents of each scan."""
    torch.set_num_threads(1)
    for name, latents in SCANS.items():
        path = FOLDER / f"{name}.npy"
        if path.exists():
            raise SystemExit(f"{path} is there: it holds what later versions are compared with")
        np.save(path, latents())


if __name__ == "__main__":
    main()
