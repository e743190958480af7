"""``latentstem train`` killed at any moment, and on disks that run full: what is left, and where it ends when resumed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import latentstem
from hostile.killed_process import MOMENTS, start
from latentstem.inference.embedding import Embedding

SEED = 6
_RANDOM, _AIMED = 20, 4  # kills at random moments, and at each moment of the writing of a checkpoint
_FULL = (0.05, 0.3, 0.6, 0.75, 0.9, 0.97)  # room on the disk, as a share of what a run writes
_LIMIT = 300.0  # seconds after which a run is taken to hang


def measure(quick: bool) -> dict[str, Any]:
    """Kill, look, resume, compare."""
    rng = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory(prefix="latentstem-kills-") as name:
        runs = _Runs(Path(name))
        moments: list[tuple[str, float]] = [
            ("at random", share) for share in rng.uniform(0.02, 0.98, 3 if quick else _RANDOM)
        ]
        for moment in MOMENTS:
            numbers = rng.permutation(np.arange(1, 11))[: 1 if quick else _AIMED]
            moments += [(moment, int(number)) for number in numbers]
        kills = []
        for moment, number in moments:
            kills.append(runs.killed(moment, number))
            print(kills[-1], flush=True)
        disks = []
        for share in _FULL[2:4] if quick else _FULL:
            if (found := runs.on_full_disk(share)) is None:
                print("no small disk can be mounted: only root can")
                break
            disks.append(found)
            print(found, flush=True)
    return {"seed": SEED, "seconds": runs.in_one_go, "kills": kills, "disks": disks, "cost": _cost()}


def _cost() -> dict[str, float]:
    """What keeping ``last.ckpt`` takes, of the default network for patterns of 128 x 128 pixels."""
    from latentstem.training import checkpoint_callback

    seconds, write = [], checkpoint_callback.BestAndLastCheckpoint._write

    def timed(self: checkpoint_callback.BestAndLastCheckpoint, trainer: Any, path: Path) -> None:
        begun = time.perf_counter()
        write(self, trainer, path)
        seconds.append(time.perf_counter() - begun)

    scan = latentstem.simulate((8, 10), (128, 128), seed=1).counts
    every = checkpoint_callback._CHECKPOINT_INTERVAL
    checkpoint_callback.BestAndLastCheckpoint._write, checkpoint_callback._CHECKPOINT_INTERVAL = timed, 0.0
    try:
        with tempfile.TemporaryDirectory(prefix="latentstem-kills-") as name:
            latentstem.train_autoencoder(scan, epochs=3, output_dir=name, progress=False)
            size = (Path(name) / "checkpoints" / "last.ckpt").stat().st_size
    finally:
        checkpoint_callback.BestAndLastCheckpoint._write, checkpoint_callback._CHECKPOINT_INTERVAL = (
            write,
            every,
        )
    return {"megabytes": size / 1e6, "seconds": float(np.median(seconds)), "every": every}


class _Runs:
    """Runs of the same training, and what came of the one that nobody disturbed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log.txt"
        scan = latentstem.simulate((20, 18), (24, 32), dose=300, n_grains=4, seed=1).counts
        np.save(folder / "scan.npy", scan)
        whole = folder / "whole"
        self._run(whole)  # once to start the process that the others are forked from
        shutil.rmtree(whole)
        begun = time.perf_counter()
        self._run(whole)
        self.seconds = self.in_one_go = time.perf_counter() - begun
        self.latents = _latents(whole)
        self.nbytes = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())

    def _arguments(self, output: Path, resume: Path | None = None) -> list[object]:
        asked = {"--data": self.folder / "scan.npy", "--output_dir": output, "--latent_dim": 4, "--epochs": 6}
        asked |= {"--batch_size": 16} | ({} if resume is None else {"--resume": resume})
        return ["train", *(part for option in asked.items() for part in option)]

    def _run(self, output: Path, resume: Path | None = None) -> None:
        process = start(self._arguments(output, resume), self.log)
        process.join(_LIMIT)
        if process.exitcode != 0:
            raise RuntimeError(f"exit status {process.exitcode}:\n{self.log.read_text()}")

    def killed(self, moment: str, number: float) -> dict[str, Any]:
        """Kill a run, look at what is left, resume it and compare."""
        output = self.folder / "killed"
        if moment == "at random":
            begun = time.perf_counter()
            process = start(self._arguments(output), self.log)
            process.join(number * self.seconds)
            if (
                process.exitcode is not None
            ):  # it was quicker than the one in one go, on a machine that does other things
                self.seconds = 0.9 * (time.perf_counter() - begun)
                shutil.rmtree(output)
                return self.killed(moment, number)
            os.kill(process.pid, signal.SIGKILL)
        else:
            process = start(self._arguments(output), self.log, (moment, int(number)))
        process.join(_LIMIT)
        found = {"moment": moment, "number": number, "killed": process.exitcode == -signal.SIGKILL}
        return found | self._goes_on(output)

    def on_full_disk(self, share: float) -> dict[str, Any] | None:
        """Let a run fill its disk, look at what is left, make room, resume it and compare."""
        disk = self.folder / "disk"
        disk.mkdir(exist_ok=True)
        size = int(share * self.nbytes)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return None
        try:
            process = start(self._arguments(disk / "run"), self.log)
            process.join(_LIMIT)
            said = self.log.read_text()
            found = {
                "room": share,
                "status": process.exitcode,
                "said": next((line for line in said.splitlines() if "error" in line), ""),
                "traceback": "Traceback" in said,
            }
            half = [path for path in disk.rglob("*") if ".part" in path.name]
            subprocess.run(["mount", "-o", "remount,size=1g", disk], check=True)
            return found | self._goes_on(disk / "run") | {"half_files": len(half)}
        finally:
            subprocess.run(["umount", "-l", disk], check=True)

    def _goes_on(self, output: Path) -> dict[str, Any]:
        """What was left, and how far from the undisturbed run it is when resumed."""
        left = [path for path in (output / "checkpoints").glob("[!.]*.ckpt") if path.is_file()]
        half = [path for path in output.rglob(".*.part*")]
        loaded = 0
        for path in left:
            latentstem.load(path)
            loaded += 1
        resume = next((path for path in sorted(left, reverse=True)), None)  # last.ckpt before best.ckpt
        self._run(output, resume)
        difference = float(np.abs(_latents(output) - self.latents).max())
        stale = len(list((output / "checkpoints").glob(".*")))
        shutil.rmtree(output)
        return {
            "checkpoints": len(left), "loaded": loaded, "half_files": len(half), "half_files_after": stale,
            "difference": difference,
        }  # fmt: skip


def _latents(output: Path) -> np.ndarray:
    return Embedding.load(output / "latents.npz").maps


def section(values: dict[str, Any]) -> str:
    """The part of the page."""
    kills = [kill for kill in values["kills"] if kill["killed"]]
    lines = [
        "## Kills\n",
        f"`latentstem train` (a run of {values['seconds']:.1f} s, seed {values['seed']}) was killed with SIGKILL "
        f"{len(kills)} times; what was left was loaded, resumed with `--resume` and compared with an uninterrupted "
        "run.\n",
        "| killed | times | checkpoints that loaded | nothing to resume yet | ended with equal latents | largest difference |",
        "|---|---|---|---|---|---|",
    ]
    for moment, told in {
        "at random": "at random moments of the whole run",
        "half written": "with half a checkpoint or model file written",
        "written": "with all of it written, before it has its name",
        "renamed": "right after it has got its name",
    }.items():
        some = [kill for kill in kills if kill["moment"] == moment]
        if some:
            lines.append(_row(told, some))
    lines.append(_row("**in all**", kills) + "\n")
    if disks := values["disks"]:
        rooms = ", ".join(f"{disk['room']:.0%}" for disk in disks)
        good = sum(disk["status"] == 2 and not disk["traceback"] for disk in disks)
        left, loaded, half = (sum(disk[n] for disk in disks) for n in ("checkpoints", "loaded", "half_files"))
        equal = sum(disk["difference"] == 0 for disk in disks)
        lines.append(
            f"On a disk with room for {rooms} of what a run writes, it ended {good} times of {len(disks)} with exit "
            f"status 2 and one message. Of the {left} checkpoints it left, {loaded} loaded; half-written files: {half}. "
            f"With room made, {equal} of {len(disks)} were resumed to equal latents.\n"
        )
    cost = values["cost"]
    lines.append(
        f"Keeping `last.ckpt` ({cost['megabytes']:.1f} MB, default network, patterns of 128 x 128 pixels) took "
        f"{1000 * cost['seconds']:.0f} ms, every {cost['every']:.0f} s and at each validation: "
        f"{cost['seconds'] / cost['every']:.2%} of the time.\n"
    )
    return "\n".join(lines)


def _row(told: str, kills: list[dict[str, Any]]) -> str:
    left, loaded = (sum(kill[name] for kill in kills) for name in ("checkpoints", "loaded"))
    equal = sum(kill["difference"] == 0 for kill in kills)
    largest = max(kill["difference"] for kill in kills)
    none = sum(kill["checkpoints"] == 0 for kill in kills)
    return f"| {told} | {len(kills)} | {loaded} of {left} | {none} | {equal} of {len(kills)} | {largest:g} |"
