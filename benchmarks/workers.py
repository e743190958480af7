"""Results of one process against those of dask's workers, and how fast and in what memory each kind of file is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

import latentstem
from latentstem.util.disk import require_disk_space

from . import autoencoder as ae

__all__ = ["workers"]

SUFFIXES = (".npy", ".npz", ".hspy", ".zspy", ".h5")  # of the files that reconstructions are written to

_CHILD = """
import json, re, sys, time
import latentstem, latentstem.inference.model
import dask.array, h5py, hyperspy.api, hyperspy.signals, py4DSTEM, zarr

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

path, model, out = sys.argv[1:]
before = peak()
begin = time.perf_counter()
latentstem.reconstruct(path, model, out=out)
print(json.dumps({"seconds": time.perf_counter() - begin, "import": before, "peak": peak()}))
"""


def workers(quick: bool) -> dict[str, Any]:
    """Patterns per second of embed and reconstruct, alone and on a LocalCluster; and for each kind of file."""
    shape = (12, 10, 16, 20) if quick else (64, 64, 128, 128)
    simulated = latentstem.simulate(shape[:2], shape[2:], dose=500, n_grains=3, seed=100)
    counts = simulated.counts.astype(np.uint16)
    patterns = shape[0] * shape[1]
    found: dict[str, Any] = {"rates": {}, "files": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        require_disk_space(folder, 3 * counts.nbytes)
        path = folder / "scan.npy"
        np.save(path, counts)
        model, _ = ae.train(counts, quick, max_patterns=10_000, max_time=None)
        model.save(folder / "ae.ckpt")

        def measured(client: Any = None) -> dict[str, float]:
            return {
                "embed": patterns / _seconds(lambda: model.embed(path, client=client)),
                "reconstruct": patterns
                / _seconds(
                    lambda: model.reconstruct(path, out=folder / "clean.npy", overwrite=True, client=client)
                ),
            }

        threads = torch.get_num_threads()
        for number in sorted({1, threads}):
            torch.set_num_threads(number)
            found["rates"][f"alone, threads: {number}"] = measured()
        for number in (1,) if quick else (1, 2):
            found["rates"][f"dask workers of one thread: {number}"] = _on_cluster(number, not quick, measured)
        for suffix in (".npy",) if quick else SUFFIXES:
            run = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", _CHILD, path, folder / "ae.ckpt", folder / f"out{suffix}"],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            of = json.loads(run.stdout.splitlines()[-1])
            found["files"][suffix] = {**of, "patterns/s": patterns / of["seconds"]}
            print(f"{suffix}: {found['files'][suffix]}", flush=True)
    found["result / GB"] = 2 * counts.nbytes / 1e9
    return found


def _on_cluster(
    number: int, processes: bool, measured: Callable[[Any], dict[str, float]]
) -> dict[str, float]:
    from distributed import Client, LocalCluster

    options: dict[str, Any] = {"n_workers": number, "threads_per_worker": 1, "dashboard_address": None}
    options["scheduler_kwargs"] = {"dashboard_address": ":0"}  # any port: others may have a cluster, too
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # distributed's default
    with (
        patch.dict(os.environ, one_thread),
        LocalCluster(processes=processes, **options) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        rates = measured(client)
    print(f"{number} workers: {rates}", flush=True)
    return rates


def _seconds(function: Callable[[], object]) -> float:
    """Of the faster of two runs after one that imports what is needed."""
    taken = []
    for _ in range(3):
        begin = time.perf_counter()
        function()
        taken.append(time.perf_counter() - begin)
    return min(taken[1:])
