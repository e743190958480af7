"""The cases: data of every shape, dtype, layout and value, masks and arguments, good and bad."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

import latentstem

from .cases import SHAPE, Case

Make = Callable[[np.ndarray, Path], Any]
INTEGERS = ("i1", "u1", "<i2", "<u2", ">u2", "<i4", ">i4", "<u4", "<i8", "<u8", ">u8")
FLOATS = ("<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "longdouble")


@cache
def counts() -> np.ndarray:
    """Counts (7, 5, 20, 16) below 128, of a few grains."""
    scan = latentstem.simulate(SHAPE[:2], SHAPE[2:], dose=300, n_grains=3, seed=4).counts
    return np.minimum(scan, 127).astype(np.int64)


def all_cases() -> list[Case]:
    """All cases; those that others are compared with come first."""
    families = (_equal_data, _values, _shapes, _masks, _arguments, _kinds, _verbs)
    return [case for family in families for case in family()]


# ---- equal data in other guises ----


def _memmap(array: np.ndarray, folder: Path) -> np.ndarray:
    np.save(folder / "a.npy", array)
    return np.load(folder / "a.npy", mmap_mode="r")


def _npy(array: np.ndarray, folder: Path) -> Path:
    np.save(folder / "a b'\"ü\n.npy", array)
    return folder / "a b'\"ü\n.npy"


def _hdf5(array: np.ndarray, folder: Path, **options: Any) -> h5py.Dataset:
    return h5py.File(folder / "a.h5", "w").create_dataset("scan", data=array, **options)


def _zarr(array: np.ndarray, folder: Path) -> Any:
    import zarr

    return zarr.array(array, chunks=(3, 2, 20, 16))


def _dask(array: np.ndarray, folder: Path) -> Any:
    import dask.array as da

    return da.from_array(array, chunks=(3, 2, 9, 16))


def _read_only(array: np.ndarray, folder: Path) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def _sliced(array: np.ndarray, folder: Path) -> np.ndarray:
    wide = np.zeros((14, 10, 40, 32), array.dtype)
    wide[::2, 1::2, ::2, 1::2] = array
    return wide[::2, 1::2, ::2, 1::2]


def _signal(array: np.ndarray, folder: Path) -> Any:
    import hyperspy.api as hs

    return hs.signals.Signal2D(array)


def _datacube(array: np.ndarray, folder: Path) -> Any:
    import py4DSTEM

    return py4DSTEM.DataCube(array)


LAYOUTS: dict[str, Make] = {
    "C": lambda array, folder: array,
    "Fortran": lambda array, folder: np.asfortranarray(array),
    "sliced": _sliced,
    "negative strides": lambda array, folder: np.ascontiguousarray(array[::-1, :, ::-1])[::-1, :, ::-1],
    "transposed": lambda array, folder: np.ascontiguousarray(array.transpose(3, 1, 0, 2)).transpose(
        2, 1, 3, 0
    ),
    "read-only": _read_only,
    "memmap": _memmap,
    "npy file": _npy,
    "h5py": _hdf5,
    "h5py chunked": lambda array, folder: _hdf5(array, folder, chunks=(2, 2, 20, 16), compression="gzip"),
    "zarr": _zarr,
    "dask": _dask,
    "singleton": lambda array, folder: array[:, :, None],
    "signal": _signal,
    "lazy signal": lambda array, folder: _signal(array, folder).as_lazy(),
    "datacube": _datacube,
}
_NUMPY = ("C", "Fortran", "sliced", "negative strides", "read-only", "memmap")


def _equal_data() -> Iterator[Case]:
    def data(dtype: str, make: Make) -> Callable[[Path], Any]:
        return lambda folder: make(counts().astype(dtype), folder)

    first = "dtype and layout: <u2, C"
    yield Case(first, data("<u2", LAYOUTS["C"]), expected="result")
    for dtype in (*INTEGERS, *FLOATS):
        for layout in LAYOUTS if dtype in ("<u2", "<f4", ">f8") else _NUMPY:
            name, host = f"dtype and layout: {dtype}, {layout}", layout in ("h5py", "h5py chunked")
            if name != first and not (dtype == "longdouble" and host):
                yield Case(name, data(dtype, LAYOUTS[layout]), expected="result", same_as=first)
    for dtype in (
        torch.uint8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.float32,
        torch.float64,
        torch.bfloat16,
    ):
        tensor = data("<i8", lambda array, folder, dtype=dtype: torch.tensor(array).to(dtype))
        yield Case(f"dtype and layout: {dtype}, C", tensor, expected="result", same_as=first)
    grad = data("<f4", lambda array, folder: torch.tensor(array, requires_grad=True))
    yield Case("dtype and layout: torch, requires_grad", grad, expected="result", same_as=first)
    stack = data("<u2", lambda array, folder: array.reshape(35, 20, 16))
    yield Case("dtype and layout: stack", stack, scan_shape=(7, 5), expected="result", same_as=first)
    masked = data("<f4", lambda array, folder: np.ma.masked_array(array, array > 5))
    yield Case("dtype and layout: masked array", masked, expected="error")
    matrix = data("<f4", lambda array, folder: array.view(np.recarray))
    yield Case("dtype and layout: recarray", matrix, expected="result", same_as=first)


# ---- values ----


def _changed(change: Callable[[np.ndarray], Any], dtype: str = "<f8") -> Callable[[Path], np.ndarray]:
    def make(folder: Path) -> np.ndarray:
        array = counts().astype(dtype)
        changed = change(array)
        return array if changed is None else changed

    return make


def _put(where: Any, value: float) -> Callable[[np.ndarray], None]:
    def change(array: np.ndarray) -> None:
        array[where] = value

    return change


_ISLAND = (slice(2, 4), slice(1, 3))
_ONE = np.zeros(SHAPE[:2], bool)
_ONE[_ISLAND] = True
_PIXELS = np.zeros(SHAPE[2:], bool)
_PIXELS[3:5, 2:6] = True


def _values() -> Iterator[Case]:
    for name, value in (("NaN", np.nan), ("infinity", np.inf), ("-infinity", -np.inf), ("1e300", 1e300)):
        yield Case(f"values: {name}, island", _changed(_put(_ISLAND, value)), expected="error")
        masked = _changed(_put(_ISLAND, value))
        yield Case(f"values: {name}, masked island", masked, scan_mask=_ONE, expected="result")
        pixels = _changed(_put((..., _PIXELS), value))
        yield Case(f"values: {name}, masked pixels", pixels, {"pattern_mask": _PIXELS}, expected="result")
        yield Case(f"values: {name}, everywhere", _changed(_put(..., value)), expected="error")
    for name, change in {
        "all zero": _put(..., 0),
        "all one value": _put(..., 7),
        "all -0.0": _put(..., -0.0),
    }.items():
        yield Case(f"values: {name}", _changed(change), expected="error")
    good = {
        "zero patterns": _put(_ISLAND, 0),
        "zero but one": lambda a: np.where(np.arange(35).reshape(7, 5, 1, 1) == 12, a, 0),
        "one pattern everywhere": lambda a: np.broadcast_to(a[3, 2], a.shape).copy(),
        "duplicates": lambda a: np.repeat(a[::7], 7, axis=0),
        "negative": lambda a: a - 5,
        "negative counts": lambda a: (a - 5).astype(np.int16),
        "one negative": _put((3, 2, 4, 4), -1),
        "fractional": lambda a: a + 0.25,
        "one large count": _put((3, 2, 4, 4), 1e9),
        "only one pixel lit": lambda a: a * (np.arange(320).reshape(20, 16) == 99),
        "counts above 2^31": lambda a: (a * 2**25).astype(np.uint32),
        "uint64 above 2^63": lambda a: (a.astype(np.uint64) + np.uint64(1)) * np.uint64(2**57),
        "int64 of 2^55": lambda a: a.astype(np.int64) * 2**48,
        "full float16": lambda a: (a * 512).clip(0, 65504).astype(np.float16),
        "times 1e-12": lambda a: a * 1e-12,
        "times 1e12": lambda a: a * 1e12,
        "plus 1e4": lambda a: a + 1e4,
        "noise about zero": lambda a: np.random.default_rng(0).normal(size=a.shape),
    }
    for name, change in good.items():
        yield Case(f"values: {name}", _changed(change), expected="result")
    for name, change in {
        "times 1e-40": lambda a: a * 1e-40,
        "subnormal float32": lambda a: (a * 1e-42).astype(np.float32),
        "times 1e36": lambda a: a * 1e36,
        "times 1e200": lambda a: a * 1e200,
        "plus 1e9": lambda a: a + 1e9,
        "uint8 wrapped": lambda a: (a * 3).astype(np.uint8),
        "0 and 1": lambda a: (a > 0).astype(np.uint8),
        "one count in all": lambda a: (np.arange(a.size) == 5000).reshape(a.shape).astype(np.uint8),
    }.items():
        for extra in ({}, {"reconstruction": "mse"}, {"preprocessing": "zscore", "reconstruction": "mse"}):
            yield Case(f"values: {name}, {extra}", _changed(change), extra)
    for kind in ("minmax", "sqrt", "log", "zscore", "none"):
        for loss in ("mse", "mae", "huber", "poisson"):
            for name, change in (("counts", lambda a: None), ("zero patterns", _put(_ISLAND, 0))):
                extra = {"preprocessing": kind, "reconstruction": loss}
                yield Case(f"values: {name}, {kind}, {loss}", _changed(change), extra)


# ---- shapes ----


def _shapes() -> Iterator[Case]:
    def scan(*shape: int) -> Callable[[Path], np.ndarray]:
        return lambda folder: np.random.default_rng(1).poisson(3, shape).astype(np.uint16)

    for shape in (
        *((0, 5, 20, 16), (5, 0, 20, 16), (0, 0, 0, 0), (7, 5, 0, 16), (7, 5, 20, 0), (1, 1, 20, 16)),
        *((7, 5, 1, 1), (7, 5, 7, 7), (7, 5, 2000, 2), (7, 5, 1, 2000), (7, 5, 20, 7), (64, 64, 4, 4)),
        *(
            (),
            (5,),
            (20, 16),
            (35, 20, 16),
            (2, 2, 2, 7, 5, 20, 16),
            (1, 1, 7, 5, 20, 16),
            (3, 7, 5, 1, 20, 16),
        ),
    ):
        yield Case(f"shapes: {shape}", scan(*shape), expected="error")
    for shape in (
        *((1, 7, 20, 16), (7, 2, 20, 16), (2, 1, 20, 16), (1, 2, 20, 16), (2, 2, 20, 16), (1, 90, 8, 8)),
        *((7, 5, 8, 8), (7, 5, 9, 13), (7, 5, 17, 33), (3, 4, 8, 300), (3, 4, 301, 9), (3, 3, 128, 128)),
        *((40, 1, 8, 9), (7, 5, 1, 20, 16)),
    ):
        given = shape[:2] if shape[1] == 1 else None
        for context in (0, 3):
            extra = {"context": context}
            yield Case(f"shapes: {shape}, {extra}", scan(*shape), extra, scan_shape=given, expected="result")
    for n in (1, 2, 35, 36, 37, 97):
        yield Case(f"shapes: stack of {n}", scan(n, 20, 16), expected="error")
    for asked in ((5, 7), (7, 6), (0, 35), (-7, -5), (7.0, 5.0), "75", (7,), (7, 5, 1), 35, {7, 5}, [7, 5]):
        for shape in ((35, 20, 16), SHAPE):
            right = asked == [7, 5] or (asked == (5, 7) and len(shape) == 3)
            expected = "any" if asked in ((7.0, 5.0), {7, 5}) else "result" if right else "error"
            name = f"shapes: {shape} with scan_shape {asked!r}"
            yield Case(name, scan(*shape), scan_shape=asked, expected=expected)


# ---- masks ----


def _but(n: int, shape: tuple[int, int] = SHAPE[:2]) -> np.ndarray:
    mask = np.ones(shape, bool)
    mask.flat[:n] = False
    return mask


def _masks() -> Iterator[Case]:
    data = _changed(lambda a: None, "<u2")
    bad: dict[str, Any] = {
        "all": _but(0),
        "all but one": _but(1),
        "int": _ONE.astype(int),
        "float": _ONE.astype(float),
        "transposed": _ONE.T,
        "flat": _ONE.ravel(),
        "0-d": np.array(True),
        "true": True,
        "object": _ONE.astype(object),
        "string": "mask",
        "ragged": [[True], [True, False]],
        "empty list": [],
        "NaN": np.full(SHAPE[:2], np.nan),
        "dict": {"a": 1},
        "path": Path("nowhere.npy"),
    }
    for name, mask in bad.items():
        yield Case(f"masks: scan, {name}", data, scan_mask=mask, expected="error")
        if name != "all but one":
            mask = _but(0, SHAPE[2:]) if name == "all" else mask
            yield Case(f"masks: pattern, {name}", data, {"pattern_mask": mask}, expected="error")
    good: dict[str, Any] = {
        "none": _but(35),
        "some": _ONE,
        "all but two": _but(2),
        "all but three": _but(3),
        "a row": np.arange(7)[:, None] * np.ones(5) == 3,
        "chessboard": np.indices(SHAPE[:2]).sum(0) % 2 == 0,
        "lists": _ONE.tolist(),
        "Fortran": np.asfortranarray(_ONE),
        "torch": torch.tensor(_ONE),
    }
    for name, mask in good.items():
        yield Case(f"masks: scan, {name}", data, scan_mask=mask, expected="result")
    for name, mask in {
        "some": _PIXELS,
        "all but one": _but(1, SHAPE[2:]),
        "all but a corner": ~np.pad(np.ones((2, 2), bool), ((0, 18), (0, 14))),
        "chessboard": np.indices(SHAPE[2:]).sum(0) % 2 == 0,
    }.items():
        for extra in ({}, {"bin": 2}, {"crop": (2, 18, 0, 16)}, {"network": "resnet", "max_patterns": 16}):
            yield Case(f"masks: pattern, {name}, {extra}", data, {"pattern_mask": mask, **extra})


# ---- arguments ----


def _arguments() -> Iterator[Case]:
    bad: dict[str, list[Any]] = {
        "latent_dim": [0, -1, 2.5, "many", None, True, [3], 10**9, np.nan],
        "batch_size": [0, -5, "big", 1.5, None],
        "epochs": [0, -1, 1.5, "all", np.inf],
        "max_patterns": [0, -1, "all"],
        "learning_rate": [1e6, 0, -1e-3, np.nan, np.inf, "fast", None],
        "seed": [-1, 2**40, "now", 1.5, None],
        "bin": [0, -1, 3, 7, 64, 1.5],
        "crop": [(0, 99, 0, 8), (8, 0, 0, 8), (0, 4, 0, 4), (0, 8), "all", (0.5, 8, 0, 8), (-4, 12, 0, 16)],
        "context": [-1, 4, "far"],
        "max_time": ["0", "abc", "1:2", {"foo": 1}, {"minutes": -1}, datetime.timedelta(0), 5, {"days": 1e30}, ""],
        "validation_fraction": [0, 1, 0.95, -0.1, "some"],
        "patience": [0, -3],
        "workers": [-1, 1.5],
        "device": ["tpu", 5, None, "cuda:99"],
        "network": ["resnt", None, 3],
        "preprocessing": ["sqare", None],
        "reconstruction": ["posson", 5],
        "split_counts": ["maybe", 2],
        "precision": ["64", 16, None],
        "schedule": ["cosin"],
        "gradient_clip": [-1, "no"],
        "weight_decay": [-1, np.inf],
        "lambda_act": [-1, "1e"],
        "preset": ["fastest", None, 5, ["fast"]],
        "config": [{"latent_dim": 3}, "fast", 5],
        "output_dir": [5, "", "\0", Path("/dev/null/out"), Path("/proc/latentstem"), "x" * 5000, "s3://bucket/run", "http://host/run"],
        "init_from": ["nowhere.ckpt", "", 5, Path("/"), "http://host/ae.ckpt", "s3://b/ae.ckpt", "\0"],
        "resume_from": ["nowhere.ckpt", "", 5, Path("/"), "http://host/ae.ckpt"],
        "callbacks": [5, [5], "stop"],
        **{name: [1] for name in ("latent_dims", "epoch", "learning_rat", "lr", "scan_masks", "maks", "nonsense", "outputdir")},
    }  # fmt: skip
    data = _changed(lambda a: None, "<u2")
    for name, values in bad.items():
        for value in values:
            yield Case(f"arguments: {name}={str(value)[:40]!r}", data, {name: value}, expected="error")
    good: list[dict[str, Any]] = [
        *({"latent_dim": n} for n in (1, 2, 320, 400, 1024, np.int64(3), "3")),
        *({"batch_size": n} for n in (1, 3, 10**6)),
        *({"epochs": 1, "max_patterns": n} for n in (None, 1)),
        *({"learning_rate": rate} for rate in (1e-12, 1, 10)),
        *({"learning_rate": 10, "gradient_clip": 0, "network": n, "max_patterns": 64} for n in ("compact", "resnet")),
        *({"validation_fraction": share} for share in (1e-6, 0.89)),
        *({"seed": n} for n in (2**32 - 1, np.int64(5))),
        *({"lambda_act": w, "lambda_sim": w, "lambda_div": w} for w in (1e-4, 1, 1e8)),
        *({"crop": c} for c in ((0, 8, 0, 8), [4, 20, 0, 16])),
        *({"bin": 2, "crop": (2, 18, 0, 16)}, {"weight_decay": 1e6}, {"gradient_clip": 1e-12}, {"max_time": {"seconds": 1}}),
        *({"network": "resnet", "max_patterns": 16}, {"precision": "bf16-mixed", "max_patterns": 32}, {"patience": 1}),
    ]  # fmt: skip
    for extra in good:
        yield Case(f"arguments: {str(extra)[:90]}", data, extra)
    contradictory: list[dict[str, Any]] = [
        {"split_counts": True, "reconstruction": "mse"},
        {"latent_dim": "auto", "network": "resnet"},
        {"init_from": "a.ckpt", "resume_from": "b.ckpt"},
        {"config": latentstem.TrainingConfig()},
        {"network": "resnet", "bin": 2, "crop": (0, 10, 0, 16)},
    ]
    for extra in contradictory:
        yield Case(f"arguments: contradictory, {', '.join(extra)}", data, extra, expected="error")
    floats = _changed(lambda a: a / 7 - 1)
    for extra in ({"split_counts": True}, {"reconstruction": "poisson"}):
        yield Case(f"arguments: not for these data, {extra}", floats, extra, expected="error")


# ---- kinds of objects ----


def _kinds() -> Iterator[Case]:
    from .host_kinds import BAD, BAD_CALLS

    for name, make in BAD.items():
        yield Case(f"kinds: {name}", make, expected="error")
    for name, (make, act) in BAD_CALLS.items():
        yield Case(f"kinds: {name}", make, act=act, expected="error")


def _verbs() -> Iterator[Case]:
    from .host_kinds import BAD_VERBS

    for name, act in BAD_VERBS.items():
        yield Case(f"verbs: {name}", _changed(lambda a: None, "<u2"), act=act, expected="error")


__all__ = ["all_cases"]
