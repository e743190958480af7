"""Files that do not fit into memory: how fast each format trains, and how much memory a run takes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import latentstem
from latentstem.io.open import as_scan
from latentstem.scan.scan import Scan
from latentstem.util.disk import require_disk_space

from .autoencoder import StepClock, train

__all__ = ["formats", "loading", "memory"]

SIZES = {
    "memory map (.npy)": (1.0, 2.0, 4.0, 8.6),
    "chunks (.h5)": (2.0, 8.6),
}  # GB of 256 x 256 uint16 patterns
SEEN = 1_024  # patterns that a run sees whose memory is measured: eight steps, each validated
PASSES = 4  # over the file in a run that is timed
_CHILD = """
import json, re, sys
import latentstem
from latentstem.training import run

run.fits_in_memory = lambda *given: False
path, folder, patterns = sys.argv[1], sys.argv[2], int(sys.argv[3])

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

found = {"import": peak()}
model = latentstem.train_autoencoder(path, max_patterns=patterns, progress=False)
found["train"] = peak()
model.embed(path)
found["and embed"] = peak()
model.reconstruct(path, out=folder + "/reconstructed.npy")
found["and reconstruct"] = peak()
print(json.dumps(found))
"""


def memory(quick: bool) -> dict[str, Any]:
    """Peak resident memory of train, embed and reconstruct to a file, each in a fresh process (Linux)."""
    found: dict[str, Any] = {}
    for kind, sizes in SIZES.items():
        found[kind] = {}
        for size in (0.005,) if quick else sizes:
            side = 64 if quick else 256
            shape = (round(size * 1e9 / (512 * side**2)), 256, side, side)
            with tempfile.TemporaryDirectory() as folder:
                nbytes = 2 * int(np.prod(shape))
                require_disk_space(folder, 3 * nbytes)  # the file, and its reconstruction in float32
                path = Path(folder) / ("scan.npy" if "npy" in kind else "scan.h5")
                _write(path, shape)
                begin = time.perf_counter()
                seen = str(128 if quick else SEEN)
                run = subprocess.run(
                    [sys.executable, "-W", "ignore", "-c", _CHILD, str(path), folder, seen],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
            peaks = json.loads(run.stdout.splitlines()[-1])
            found[kind][f"{nbytes / 1e9:.3g}"] = {**peaks, "seconds": time.perf_counter() - begin}
            print(f"{kind}, {nbytes / 1e9:.2f} GB: {peaks}", flush=True)
    return found


def formats(quick: bool) -> dict[str, Any]:
    """Patterns per second that arrive from each format, and seconds of training, where nothing is read into memory."""
    shape = (12, 10, 32, 32) if quick else (64, 64, 128, 128)
    counts = latentstem.simulate(
        (shape[0], shape[1]), (shape[2], shape[3]), dose=500, n_grains=3, seed=100
    ).counts.astype(np.uint16)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, _never_in_memory():
        folder = Path(name)
        files = _files(counts, folder)
        patterns = (1 if quick else PASSES) * shape[0] * shape[1]
        _training(counts[:4], 64)  # what is loaded at first
        found["in memory"] = {
            "0 workers": _rate(as_scan(counts), 0),
            "training / s": _training(counts, patterns),
        }
        for kind, path in files.items():
            if quick and kind in ("py4DSTEM .h5", "HyperSpy .hspy"):
                continue
            scan = as_scan(path)
            found[kind] = {f"{workers} workers": _rate(scan, workers) for workers in (0, 2)}
            found[kind]["training / s"] = _training(path, patterns)
            if scan.source.array is None:
                for run in ("first", "again"):
                    found[kind][f"cache_dir, {run} / s"] = _training(
                        path, patterns, cache_dir=folder / "cache"
                    )
            print(f"{kind}: {found[kind]}", flush=True)
    fastest = found["memory map (.npy)"]["training / s"]
    for of in found.values():
        of["over the memory map"] = of["training / s"] / fastest
    return found


def loading(quick: bool) -> dict[str, Any]:
    """Patterns per second that arrive from a memory map, and that the device trains on: is it starved?"""
    found: dict[str, Any] = {}
    for side in (16,) if quick else (128, 256):
        with tempfile.TemporaryDirectory() as folder, _never_in_memory():
            path = Path(folder) / "scan.npy"
            _write(path, (32, 32, side, side))
            clock = StepClock()
            model, _ = train(path, quick, max_patterns=10_000, max_time=None, callbacks=[clock])
            compute = model.config.batch_size / clock.seconds_per_step
            found[f"{side} x {side}"] = {"arrive": _rate(as_scan(path), 0), "are trained on": compute}
        print(f"{side} pixels: {found[f'{side} x {side}']}", flush=True)
    return found


def _write(path: Path, shape: tuple[int, ...]) -> None:
    """A large file of simulated patterns, a small scan over and over; no two rows are the same."""
    tile = latentstem.simulate((8, 8), (shape[2], shape[3]), dose=2000, n_grains=3, seed=100).counts
    rows = (np.tile(np.roll(tile[row % 8], row, 0), (shape[1] // 8, 1, 1)) for row in range(shape[0]))
    if path.suffix == ".npy":
        file = np.lib.format.open_memmap(path, "w+", np.uint16, shape)
        for number, row in enumerate(rows):
            file[number] = row
        return
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("data", shape, np.uint16, chunks=(1, 16, *shape[2:]), compression="lzf")
        for number, row in enumerate(rows):
            stored[number] = row


def _files(counts: np.ndarray, folder: Path) -> dict[str, Path]:
    import hyperspy.api as hs
    import py4DSTEM

    signal = hs.signals.Signal2D(counts)
    files = {"memory map (.npy)": folder / "scan.npy", "py4DSTEM .h5": folder / "scan.h5"}
    files |= {f"HyperSpy {suffix}": folder / f"scan{suffix}" for suffix in (".hspy", ".zspy")}
    np.save(folder / "scan.npy", counts)
    py4DSTEM.save(str(folder / "scan.h5"), py4DSTEM.DataCube(counts), mode="o")
    for suffix in (".hspy", ".zspy"):
        signal.save(str(folder / f"scan{suffix}"), overwrite=True)
    return files


@contextmanager
def _never_in_memory() -> Iterator[None]:
    """As if no file fitted into memory."""
    from latentstem.training import run

    before = run.fits_in_memory
    run.fits_in_memory = lambda *given: False  # type: ignore[assignment]
    try:
        yield
    finally:
        run.fits_in_memory = before


def _rate(scan: Scan, workers: int) -> float:
    """Patterns per second of two passes, the processes started and the file in the system's cache."""
    from latentstem.config import TrainingConfig
    from latentstem.nn.preprocessing import Detector, Preprocessing
    from latentstem.nn.principal_components import PrincipalComponents
    from latentstem.nn.scan_scores import ScanScores
    from latentstem.training.data_module import ScanDataModule
    from latentstem.training.process_group import ProcessGroup

    detector = Detector(scan.pattern_shape)
    no_components = PrincipalComponents(Preprocessing("none", detector), 0, 0)
    everywhere = np.arange(scan.n_positions)
    steps = max(1, scan.n_positions // 64)
    loader = ScanDataModule(
        scan,
        ScanScores.measure(scan, no_components, detector),
        everywhere,
        everywhere[:64],
        TrainingConfig(batch_size=64, workers=workers),
        ProcessGroup(),
        2 * steps,
    )
    batches = iter(loader.train_dataloader())
    next(batches)
    begin = time.perf_counter()
    seen = sum(len(batch.patterns) for batch in batches)
    seconds = time.perf_counter() - begin
    loader.stop_prefetch()
    return seen / seconds


def _training(data: Any, patterns: int, **arguments: Any) -> float:
    begin = time.perf_counter()
    latentstem.train_autoencoder(data, max_patterns=patterns, progress=False, seed=1, **arguments)
    return time.perf_counter() - begin
