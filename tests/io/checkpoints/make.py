"""Write a checkpoint of this version, for every later one to read: ``python tests/io/checkpoints/make.py``.

Made once for each format. A file that is there is not written again: that would hide what a later version broke.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import latentstem
from latentstem.io.checkpoint import FORMAT_VERSION

FOLDER = Path(__file__).parent


def main() -> Path:
    """The checkpoint, and beside it a scan with the latents and a reconstruction that it gives."""
    path = FOLDER / f"format-{FORMAT_VERSION}.ckpt"
    if path.exists():
        raise SystemExit(f"{path} is there: raise FORMAT_VERSION if the format has changed")
    scan = latentstem.simulate((6, 5), (16, 20), dose=200, n_grains=2, seed=1)
    pattern_mask = np.zeros((16, 20), bool)
    pattern_mask[3, 4:6] = True
    model = latentstem.train_autoencoder(
        scan.counts,
        pattern_mask=pattern_mask,
        latent_dim=4,
        context=1,
        bin=2,
        epochs=4,
        batch_size=8,
        progress=False,
    )
    model.save(path)
    np.savez_compressed(
        path.with_suffix(".npz"),
        scan=scan.counts,
        latents=model.embed(scan.counts).maps,
        reconstructed=model.reconstruct(scan.counts)[2, 3],
    )
    return path


if __name__ == "__main__":
    print(main())
