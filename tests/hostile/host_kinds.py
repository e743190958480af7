"""Objects that are no scan, files that go away, and verbs that are called wrongly."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from typer.testing import CliRunner

import latentstem
from latentstem.errors import ArgumentError

from .cases import QUICK, SHAPE, WrongOutcome


def _ones(dtype: Any = "<u2") -> np.ndarray:
    return np.random.default_rng(0).poisson(3, SHAPE).astype(dtype)


@cache
def model() -> latentstem.LatentModel:
    """Of some noise."""
    return latentstem.train_autoencoder(_ones(), **QUICK)


def _ragged(folder: Path) -> np.ndarray:
    array = np.empty(SHAPE[:2], object)
    for place in np.ndindex(array.shape):
        array[place] = np.ones((9 + place[0], 9))
    return array


def _stored(folder: Path) -> h5py.Dataset:
    path = folder / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("scan", data=_ones(), chunks=(1, 1, 20, 16))
    return h5py.File(path, "r")["scan"]


def _closed(folder: Path) -> h5py.Dataset:
    dataset = _stored(folder)
    dataset.file.close()
    return dataset


def _closed_cube(folder: Path) -> Any:
    import py4DSTEM

    cube = py4DSTEM.DataCube(_stored(folder))
    cube.data.file.close()
    return cube


def _lazy_signal(folder: Path) -> Any:
    import hyperspy.api as hs

    path = folder / "a.hspy"
    hs.signals.Signal2D(_ones()).save(path, chunks=(1, 1, 20, 16))
    return hs.load(path, lazy=True)


def _lazy_zspy(folder: Path) -> Any:
    import hyperspy.api as hs

    hs.signals.Signal2D(_ones()).save(folder / "a.zspy", chunks=(1, 1, 20, 16))
    return hs.load(folder / "a.zspy", lazy=True)


def _failing_dask(folder: Path) -> Any:
    """Blocks that cannot be read, as from a share that has gone."""
    import dask.array as da

    def block(block_info: Any = None) -> np.ndarray:
        if block_info[None]["chunk-location"][0] > 3:
            raise OSError(116, "Stale file handle")
        return np.random.default_rng(0).poisson(3, (1, 5, 20, 16))

    return da.map_blocks(block, chunks=((1,) * 7, (5,), (20,), (16,)), dtype=int)


def _hyperspy(name: str, *arguments: Any, **options: Any) -> Callable[[Path], Any]:
    def make(folder: Path) -> Any:
        import hyperspy.api as hs

        return getattr(hs.signals, name)(*arguments, **options)

    return make


def _sparse(folder: Path) -> Any:
    from scipy import sparse

    return sparse.csr_matrix(_ones().reshape(35, 320))


def _frame(folder: Path) -> Any:
    pandas = __import__("pandas")
    return pandas.DataFrame(_ones().reshape(35, 320))


def _unknown_chunks(folder: Path) -> Any:
    import dask.array as da

    stack = da.from_array(_ones().reshape(35, 20, 16))
    return stack[da.from_array(np.ones(35, bool))]


def _file(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _array(dtype: Any) -> Callable[[Path], np.ndarray]:
    return lambda folder: _ones().astype(dtype)


def _group(folder: Path) -> Any:
    return _stored(folder).file


_PNG = b"\x89PNG\r\n\x1a\n" + bytes(200)

BAD: dict[str, Callable[[Path], Any]] = {
    "None": lambda folder: None,
    "number": lambda folder: 5,
    "dict": lambda folder: {"data": _ones()},
    "set": lambda folder: {1, 2},
    "empty list": lambda folder: [],
    "list of numbers": lambda folder: [1, 2, 3],
    "lists": lambda folder: _ones()[:2, :2].tolist(),
    "list of patterns": lambda folder: list(_ones().reshape(35, 20, 16)),
    "list of None": lambda folder: [None, None],
    "generator": lambda folder: (x for x in _ones()),
    "function": lambda folder: _ones,
    "class": lambda folder: np.ndarray,
    "object": lambda folder: object(),
    "module": lambda folder: np,
    "model": lambda folder: model(),
    "bytes": lambda folder: _ones().tobytes(),
    "scipy sparse": _sparse,
    "pandas": _frame,
    "ragged": _ragged,
    "structured": lambda folder: np.zeros(SHAPE, [("a", "u2"), ("b", "u2")]),
    "complex": _array(complex),
    "bool": _array(bool),
    "object dtype": _array(object),
    "strings": _array("U3"),
    "bytes dtype": _array("S3"),
    "dates": lambda folder: _ones("<i8").view("M8[s]"),
    "void": lambda folder: np.zeros(SHAPE, "V4"),
    "torch complex": lambda folder: torch.ones(SHAPE, dtype=torch.complex64),
    "torch bool": lambda folder: torch.ones(SHAPE, dtype=torch.bool),
    "torch sparse": lambda folder: torch.ones(SHAPE).to_sparse(),
    "torch meta": lambda folder: torch.ones(SHAPE, device="meta"),
    "torch quantised": lambda folder: torch.quantize_per_tensor(torch.ones(SHAPE), 1, 0, torch.quint8),
    "h5py file": _group,
    "h5py closed": _closed,
    "datacube closed": _closed_cube,
    "dask unknown chunks": _unknown_chunks,
    "dask that fails": _failing_dask,
    "Signal1D": _hyperspy("Signal1D", np.ones((7, 5, 20))),
    "BaseSignal": _hyperspy("BaseSignal", np.ones(20)),
    "Signal2D of one image": _hyperspy("Signal2D", np.ones((20, 16))),
    "Signal2D of complex": _hyperspy("ComplexSignal2D", np.ones(SHAPE, complex)),
    "ragged signal": lambda folder: _hyperspy("BaseSignal", _ragged(folder), ragged=True)(folder),
    "path of nothing": lambda folder: folder / "nothing.npy",
    "path of nothing, text": lambda folder: str(folder / "nowhere" / "nothing.npy"),
    "empty path": lambda folder: "",
    "path with a null": lambda folder: "a\0b.npy",
    "long path": lambda folder: "a" * 5000 + ".npy",
    "folder": lambda folder: folder,
    "http": lambda folder: "http://127.0.0.1:9/a.npy",
    "https hspy": lambda folder: "https://example.org/a.hspy",
    "s3": lambda folder: "s3://bucket/a.zspy",
    "file url": lambda folder: "file:///a.npy",
    "empty file": _file("a.npy", b""),
    "picture as npy": _file("a.npy", _PNG),
    "picture as hspy": _file("a.hspy", _PNG),
    "picture as zspy": _file("a.zspy", _PNG),
    "picture as pt": _file("a.pt", _PNG),
    "picture as mib": _file("a.mib", _PNG),
    "picture as dm4": _file("a.dm4", _PNG),
    "picture as mrc": _file("a.mrc", _PNG),
    "picture as blo": _file("a.blo", _PNG),
    "picture as ser": _file("a.ser", _PNG),
    "picture as xml": _file("a.xml", _PNG),
    "picture as emd": _file("a.emd", _PNG),
    "picture as tif": _file("a.tif", _PNG),
    "picture as raw": _file("a.raw", _PNG),
    "picture": _file("a.png", _PNG),
    "model file": lambda folder: model().save(folder / "a.ckpt"),
}


def _goes_away(data: Any, folder: Path) -> None:
    """The file vanishes, and what is left of it is damaged, after the scan was opened."""
    scan = latentstem.as_scan(data)
    name = next(folder.iterdir())
    if name.is_dir():
        for path in list(name.rglob("data/*/*/*/*")):
            path.write_bytes(b"damaged")
    else:
        size = name.stat().st_size
        with name.open("r+b") as file:
            file.truncate(size // 3)
        name.unlink()
    latentstem.train_autoencoder(scan, **QUICK)


def _embed_closed(data: Any, folder: Path) -> None:
    scan = latentstem.as_scan(data)
    data.file.close()
    model().embed(scan)


BAD_CALLS: dict[str, tuple[Callable[[Path], Any], Callable[[Any, Path], Any]]] = {
    "lazy signal whose file goes": (_lazy_signal, _goes_away),
    "lazy zspy whose file goes": (_lazy_zspy, _goes_away),
    "h5py closed after opening": (_stored, _embed_closed),
}


# ---- verbs ----


def _suggests(call: Callable[[], Any], name: str) -> None:
    try:
        call()
    except ArgumentError as error:
        if name not in error.advice:
            raise WrongOutcome(f"{name} is not suggested: {error}") from None
        raise


def _cli(*arguments: Any) -> Callable[[Any, Path], None]:
    """A command that has to be refused in one of our sentences, or click's."""

    def act(data: np.ndarray, folder: Path) -> None:
        from latentstem.cli import app

        np.save(folder / "a.npy", data)
        model().save(folder / "ae.ckpt")
        here = os.getcwd()
        os.chdir(folder)
        try:
            result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        finally:
            os.chdir(here)
        if result.exit_code != 2 or "Traceback" in result.output:
            raise WrongOutcome(f"exit code {result.exit_code}, {result.exception!r}: {result.output[-200:]}")
        raise ArgumentError("refused", expected="x", received="x", advice="As it should be.")

    return act


def _nan_island(data: np.ndarray) -> np.ndarray:
    data = data.astype(float)
    data[2, 3] = np.nan
    return data


def _signal(data: np.ndarray) -> Any:
    import hyperspy.api as hs

    return hs.signals.Signal2D(data)


def _cube(data: np.ndarray) -> Any:
    import py4DSTEM

    return py4DSTEM.DataCube(data)


_TRAIN = ("train", "--data", "a.npy", "--output_dir", "out", "--max_patterns", "32")
BAD_VERBS: dict[str, Callable[[Any, Path], Any]] = {
    **{
        f"embed with model {bad!r}": lambda data, folder, bad=bad: latentstem.embed(data, bad)
        for bad in (None, 5, "nothing.ckpt", "", "http://host/a.ckpt", "s3://b/a.ckpt", "\0", b"a")
    },
    "embed with the data as model": lambda data, folder: latentstem.embed(data, data),
    "embed another pattern shape": lambda data, folder: model().embed(data[..., :12]),
    "embed NaN": lambda data, folder: model().embed(_nan_island(data)),
    "embed inf": lambda data, folder: model().embed(np.where(data == data.max(), np.inf, data)),
    "embed 1e300": lambda data, folder: model().embed(data * 1e300),
    "reconstruct NaN": lambda data, folder: model().reconstruct(_nan_island(data)),
    "reconstruct NaN lazily": lambda data, folder: _signal(_nan_island(data)).as_lazy().reconstruct(model()).compute(),
    "embed with mask of ints": lambda data, folder: model().embed(data, scan_mask=np.zeros(SHAPE[:2], int)),
    "embed with mask of all": lambda data, folder: model().embed(data, scan_mask=np.ones(SHAPE[:2], bool)),
    "embed with wrong scan_shape": lambda data, folder: model().embed(data, scan_shape=(5, 7)),
    "decode of other width": lambda data, folder: model().decode(np.ones((2, 4))),
    "decode of text": lambda data, folder: model().decode("latents"),
    "decode of None": lambda data, folder: model().decode(None),
    "load of None": lambda data, folder: latentstem.load(None),
    "load of a folder": lambda data, folder: latentstem.load(folder),
    "load of bytes": lambda data, folder: latentstem.load(b"a.ckpt"),
    "save where nothing can be": lambda data, folder: model().save("/dev/null/a.ckpt"),
    "save to a url": lambda data, folder: model().save("s3://bucket/a.ckpt"),
    "save latents where nothing can be": lambda data, folder: model().embed(data).save("/dev/null/a.npz"),
    "load latents of nothing": lambda data, folder: latentstem.Embedding.load("nothing.npz"),
    "load latents of None": lambda data, folder: latentstem.Embedding.load(None),
    **{
        f"misspelt {name} of {verb}": lambda data, folder, call=call, name=name, meant=meant: _suggests(
            lambda: call(data, **{name: None}), meant
        )
        for verb, call, name, meant in (
            ("train", lambda d, **a: latentstem.train_autoencoder(d, **a), "scan_maks", "scan_mask"),
            ("train", lambda d, **a: latentstem.train_autoencoder(d, **a), "latnt_dim", "latent_dim"),
            ("train", lambda d, **a: latentstem.train_autoencoder(d, **a), "outputdir", "output_dir"),
            ("embed", lambda d, **a: latentstem.embed(d, model(), **a), "scan_maks", "scan_mask"),
            ("reconstruct", lambda d, **a: latentstem.reconstruct(d, model(), **a), "progres", "progress"),
            ("model.embed", lambda d, **a: model().embed(d, **a), "scan_shap", "scan_shape"),
            ("model.reconstruct", lambda d, **a: model().reconstruct(d, **a), "scanshape", "scan_shape"),
            ("as_scan", lambda d, **a: latentstem.as_scan(d, **a), "patern_mask", "pattern_mask"),
            ("signal.train", lambda d, **a: _signal(d).train_autoencoder(**a), "navigation_maks", "navigation_mask"),
            ("signal.train", lambda d, **a: _signal(d).train_autoencoder(**a), "scan_mask", "navigation_mask"),
            ("signal.embed", lambda d, **a: _signal(d).embed(model(), **a), "navigaton_mask", "navigation_mask"),
            ("signal.embed", lambda d, **a: _signal(d).embed(model(), **a), "scan_mask", "navigation_mask"),
            ("signal.reconstruct", lambda d, **a: _signal(d).reconstruct(model(), **a), "progres", "progress"),
            ("datacube.train", lambda d, **a: _cube(d).train_autoencoder(**a), "patern_mask", "pattern_mask"),
            ("datacube.embed", lambda d, **a: _cube(d).embed(model(), **a), "scan_masc", "scan_mask"),
            ("datacube.embed", lambda d, **a: _cube(d).embed(model(), **a), "nam", "name"),
            ("datacube.reconstruct", lambda d, **a: _cube(d).reconstruct(model(), **a), "progres", "progress"),
        )
    },
    "datacube.embed under a/b": lambda data, folder: _cube(data).embed(model(), name="a/b"),
    "datacube.embed under nothing": lambda data, folder: _cube(data).embed(model(), name=""),
    "datacube.embed under a number": lambda data, folder: _cube(data).embed(model(), name=5),
    "report without a folder": lambda data, folder: __import__("latentstem.report").report.write_report(
        model(), data, "/dev/null/report.html"
    ),
    "cli: latent -1": _cli(*_TRAIN, "--latent", "-1"),
    "cli: latent many": _cli(*_TRAIN, "--latent", "many"),
    "cli: lr 1e6": _cli(*_TRAIN, "--lr", "1e6"),
    "cli: lr nan": _cli(*_TRAIN, "--lr", "nan"),
    "cli: epochs 0": _cli(*_TRAIN, "--epochs", "0"),
    "cli: misspelt option": _cli(*_TRAIN, "--epoch", "1"),
    "cli: no data": _cli("train", "--data", "nothing.npy"),
    "cli: url": _cli("train", "--data", "https://example.org/a.npy"),
    "cli: folder": _cli("train", "--data", "."),
    "cli: output in a file": _cli("train", "--data", "a.npy", "--output_dir", "a.npy/out"),
    "cli: output url": _cli("train", "--data", "a.npy", "--output_dir", "s3://bucket/out"),
    "cli: scan 5 8": _cli(*_TRAIN, "--scan", "5", "8"),
    "cli: scan 0 0": _cli(*_TRAIN, "--scan", "0", "0"),
    "cli: preset": _cli(*_TRAIN, "--preset", "fastest"),
    "cli: mask of nothing": _cli(*_TRAIN, "--scan_mask", "nothing.npy"),
    "cli: mask of data": _cli(*_TRAIN, "--scan_mask", "a.npy"),
    "cli: mask of a model": _cli(*_TRAIN, "--scan_mask", "ae.ckpt"),
    "cli: mask of a folder": _cli(*_TRAIN, "--scan_mask", "."),
    "cli: max_time": _cli(*_TRAIN, "--max_time", "soon"),
    "cli: checkpoint": _cli(*_TRAIN, "--checkpoint", "a.npy"),
    "cli: resume a model": _cli(*_TRAIN, "--resume", "ae.ckpt"),
    "cli: embed with data as model": _cli("embed", "--data", "a.npy", "--model", "a.npy"),
    "cli: embed to png": _cli("embed", "--data", "a.npy", "--model", "ae.ckpt", "--output", "a.png"),
    "cli: embed over a file": _cli("embed", "--data", "a.npy", "--model", "ae.ckpt", "--output", "a.npy"),
    "cli: reconstruct to nowhere": _cli("reconstruct", "--data", "a.npy", "--model", "ae.ckpt", "--output", "b/a.npy"),
    "cli: report to txt": _cli("report", "ae.ckpt", "--data", "a.npy", "--output", "a.txt"),
    "cli: info of nothing": _cli("info", "nothing.npy"),
    "cli: info of nothing.ckpt": _cli("info", "nothing.ckpt"),
    "cli: demo in a file": _cli("demo", "--output_dir", "a.npy"),
    "cli: demo of a seed": _cli("demo", "--seed", "-5"),
}  # fmt: skip
