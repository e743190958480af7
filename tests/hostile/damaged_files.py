"""Files of every kind that we read, damaged or altered, and what reading them ends in.

``python -m hostile.damaged_files KIND FIRST LAST``, in the folder of the tests, reads some of them in a process with
little memory, so that a crash, a hang or an absurd allocation is seen (`read_in_child`).
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

import latentstem
from latentstem.cli.inputs import read_mask
from latentstem.errors import LatentSTEMError
from latentstem.io.checkpoint import read_checkpoint, write_checkpoint

from .cases import QUICK, bad_message

__all__ = [
    "KINDS", "MEMORY", "SECONDS", "alter_checkpoint", "damage", "outcome", "read", "read_in_child", "whole_file",
]  # fmt: skip

KINDS = ("ckpt", "npy", "npz", "pt", "h5", "hspy", "emd", "master", "latents", "mask")
SECONDS = 20  # for one file
MEMORY = 3 * 2**30  # bytes that reading may add to the address space
_AXES = [{"name": n, "size": size, "units": "nm"} for n, size in zip("abcd", (6, 5, 12, 10), strict=True)]
_READ = 2**27  # bytes of patterns that are read at most


def whole_file(kind: str, folder: Path) -> Path:
    """An undamaged file, the same every time."""
    data = np.random.default_rng(0).poisson(3, (6, 5, 12, 10)).astype(np.uint16)
    path = folder / f"whole.{kind}"
    if kind == "npy":
        np.save(path, data)
    elif kind == "npz":
        np.savez_compressed(path, data=data, axes=np.array(json.dumps(_AXES)))
    elif kind == "pt":
        torch.save({"data": torch.tensor(data.astype(np.int32))}, path)
    elif kind in ("h5", "hspy", "emd"):
        _hdf5(kind, path, data)
    elif kind == "master":
        path = folder / "whole_master.h5"
        with h5py.File(folder / "whole_data_000001.h5", "w") as file:
            file["entry/data/data"] = data.reshape(30, 12, 10)
        with h5py.File(path, "w") as file:
            file["entry/data/data_000001"] = h5py.ExternalLink("whole_data_000001.h5", "entry/data/data")
            file["entry/instrument/detector/detectorSpecific/pixel_mask"] = np.eye(12, 10, dtype=np.uint32)
    elif kind == "mask":
        np.save(folder / "mask.npy", np.eye(6, 5, dtype=bool))
        path = folder / "mask.npy"
    else:
        model = latentstem.train_autoencoder(data, **{**QUICK, "max_patterns": 32})
        path = model.save(path) if kind == "ckpt" else model.embed(data).save(folder / "latents.npz")
    return path


def _hdf5(kind: str, path: Path, data: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        if kind == "h5":
            file.create_dataset(
                "deep/scan", data=data, chunks=(2, 2, 12, 10), compression="gzip", fletcher32=True
            )
            return
        group = file.create_group("Experiments/signal" if kind == "hspy" else "data/scan")
        group["data"] = data
        for n in range(4):
            if kind == "hspy":
                attributes = {
                    "name": f"axis {n}",
                    "units": "nm",
                    "scale": 0.5,
                    "offset": 1.0,
                    "navigate": n < 2,
                }
                group.create_group(f"axis-{n}").attrs.update(attributes)
            else:
                group[f"dim{n}"] = np.arange(data.shape[n]) * 0.5
                group[f"dim{n}"].attrs.update(name=f"axis {n}", units="nm")


def damage(content: bytes, rng: random.Random) -> bytes:
    """One to three ways of damage, one after the other."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        content = rng.choice(_WAYS)(bytearray(content), rng) if content else b"\0"
    return content


def _flipped(content: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 8))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def _flipped_early(content: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 2, 8))):
        content[rng.randrange(min(len(content), 2048))] = rng.randrange(256)
    return bytes(content)


def _cut(content: bytearray, rng: random.Random) -> bytes:
    return bytes(content[: rng.randrange(len(content))])


def _left_out(content: bytearray, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    del content[start : start + rng.choice((1, 8, 512))]
    return bytes(content)


def _spliced(content: bytearray, rng: random.Random) -> bytes:
    a, b, n = rng.randrange(len(content)), rng.randrange(len(content)), rng.choice((4, 64, 1024))
    content[a : a + n] = content[b : b + n]
    return bytes(content)


def _zeroed(content: bytearray, rng: random.Random) -> bytes:
    start, n = rng.randrange(len(content)), rng.choice((8, 256, 4096))
    content[start : start + n] = bytes(len(content[start : start + n]))
    return bytes(content)


def _absurd(content: bytearray, rng: random.Random) -> bytes:
    """A number in the file, as text or as eight bytes, becomes a very large one."""
    digits = [i for i in range(min(len(content), 4096)) if 48 <= content[i] <= 57]
    if digits and rng.random() < 0.5:
        content[rng.choice(digits)] = rng.choice(b"90")
        return bytes(content)
    small = [
        i for i in range(0, min(len(content), 8192) - 8) if content[i] and not any(content[i + 1 : i + 8])
    ]
    if small:
        at = rng.choice(small)
        content[at : at + 8] = (2 ** rng.choice((20, 31, 40, 60, 63))).to_bytes(8, "little")
    return bytes(content)


_WAYS: tuple[Callable[[bytearray, random.Random], bytes], ...] = (
    *(_flipped, _flipped_early, _cut, _left_out, _spliced, _zeroed, _absurd),
)


def alter_checkpoint(path: Path, rng: random.Random) -> None:
    """A whole file with one value that is another: what somebody could write on purpose."""
    content = read_checkpoint(path)
    values: list[tuple[Any, Any]] = []
    waiting: list[Any] = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, (dict, list)):
            keys = list(value) if isinstance(value, dict) else list(range(len(value)))
            values += [(value, key) for key in keys]
            waiting += [value[key] for key in keys]
    holder, key = rng.choice(values)
    holder[key] = rng.choice(
        (None, -1, 2**62, 1e308, float("nan"), "x" * 1000, [], {}, [[]] * 9, torch.ones(3), True)
    )
    write_checkpoint(content, path)


def read(kind: str, path: Path) -> Any:
    """What the reader of this kind makes of a file."""
    if kind == "ckpt":
        model = latentstem.load(path)
        model.embed(np.random.default_rng(0).poisson(3, (6, 5, 12, 10)).astype(np.uint16))
        return model.autoencoder.state_dict()
    if kind == "latents":
        return latentstem.Embedding.load(path).maps
    if kind == "mask":
        return read_mask(path)
    scan = latentstem.as_scan(path, (6, 5) if kind == "master" else None)
    pattern = max(1, int(np.prod(scan.pattern_shape)) * scan.dtype.itemsize)
    return scan.read(np.arange(min(scan.n_positions, max(1, _READ // pattern))))


def outcome(kind: str, path: Path, before: Any, altered: bool) -> str:
    """What reading ends in: ``result``, an error of ours, or ``WRONG``."""
    try:
        found = read(kind, path)
    except LatentSTEMError as error:
        told = bad_message(error)
        return f"WRONG: message: {told}: {error}" if told else type(error).__name__
    except OSError as error:  # of masks, which the command line tells as they are
        return "OSError" if kind == "mask" else f"WRONG: {error!r}"
    except BaseException as error:
        return f"WRONG: {type(error).__name__}: {str(error)[:150]}"
    if kind == "ckpt" and not altered and any(not torch.equal(found[name], before[name]) for name in before):
        return "WRONG: another model in silence"
    return "result"


def read_in_child(kind: str, first: int, last: int) -> Iterator[str]:
    """What reading the damaged files of these numbers ends in; fewer than asked for if the process crashed or hung."""
    command = [sys.executable, "-m", __name__, kind, str(first), str(last)]
    tests = Path(__file__).parents[1]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tests
    ) as child:
        for line in child.stdout or ():
            if line.startswith("{"):
                yield json.loads(line)["ended"]


def _child(kind: str, first: int, last: int) -> None:
    import resource

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = whole_file(kind, folder)
        content, before = path.read_bytes(), read(kind, path)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        for number in range(first, last):
            rng = random.Random(f"{kind} {number}")
            altered = kind == "ckpt" and number % 2 == 1
            path.write_bytes(content if altered else damage(content, rng))
            if altered:
                alter_checkpoint(path, rng)
            signal.alarm(SECONDS)  # which ends the process
            ended = outcome(kind, path, before, altered)
            signal.alarm(0)
            print(json.dumps({"ended": ended}), flush=True)


if __name__ == "__main__":
    _child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
