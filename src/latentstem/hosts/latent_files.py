"""Files of latent maps."""

from __future__ import annotations

from pathlib import Path

from ..inference.embedding import Embedding
from ..io.host_table import host_that_writes
from ..util.whole_file import atomic_write

__all__ = ["save_latents"]


def save_latents(embedding: Embedding, path: Path) -> None:
    """Write latent maps, with the calibration of the scan.

    ``.npz`` is for `Embedding.load`, ``.hspy`` and ``.zspy`` hold a `LatentMaps` signal, ``.h5`` an array
    (k, Rx, Ry) in a tree of py4DSTEM.
    """
    host = host_that_writes(path.suffix.lower())
    if host is None:
        embedding.save(path)
        return
    with atomic_write(path) as temporary:
        host.functions.save_latents(embedding, temporary)
