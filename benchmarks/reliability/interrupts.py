"""Ctrl-C at many moments in one interactive session: is the session usable afterwards?"""

from __future__ import annotations

import code
import importlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["MOMENTS", "measure", "section", "target"]

_LIMIT = 900.0  # seconds for a session
_PATIENCE = 20.0  # seconds within which Ctrl-C has to give the session back


class Moment(NamedTuple):
    """When Ctrl-C is pressed.

    Parameters
    ----------
    cell : str
        What runs in the session; names are those of `_Session`.
    where : str
        Function, from the package on, in which it is pressed.
    call : int
        In which call of it.
    """

    cell: str
    where: str
    call: int = 1


_QUICK = "latent_dim=4, epochs=3, batch_size=16, progress=False"
MOMENTS = {
    "opening the data": Moment(f"train(scan, {_QUICK})", "training.fit.as_scan"),
    "looking through the data": Moment(f"train(scan, {_QUICK})", "training.fit.inspect"),
    "statistics": Moment(f"train(scan, {_QUICK})", "preprocessing.Preprocessing.fit"),
    "sample": Moment(f"train(scan, {_QUICK})", "training.run.sample_with_neighbour_means"),
    "principal components": Moment(f"train(scan, {_QUICK})", "context.randomised_svd"),
    "initial weights": Moment(f"train(scan, {_QUICK})", "training.module.Autoencoder.initialise"),
    "asking for batches": Moment(f"train(scan, {_QUICK})", "training.data.ScanDataModule.train_dataloader", 2),
    "first step": Moment(f"train(scan, output_dir=folder, {_QUICK})", "training.module.Autoencoder.training_step"),
    "middle of an epoch": Moment(
        f"train(scan, output_dir=folder, {_QUICK})", "training.module.Autoencoder.training_step", 10
    ),
    "gradient step": Moment(f"train(scan, {_QUICK})", "training.run._running_mean", 8),
    "validation": Moment(
        f"train(scan, output_dir=folder, {_QUICK})", "training.module.Autoencoder.validation_step", 2
    ),
    "history": Moment(f"train(scan, {_QUICK})", "training.callbacks.HistoryRecorder.on_train_epoch_end", 2),
    "curves": Moment(f"train(scan, output_dir=folder, {_QUICK})", "training.curves.Curves._append", 3),
    "checkpoint half written": Moment(f"train(scan, output_dir=folder, {_QUICK})", "atomic._to_disk", 4),
    "moving earlier results": Moment(
        f"train(scan, output_dir=earlier, {_QUICK})", "training.run.Curves"
    ),
    "best weights": Moment(
        f"train(scan, output_dir=folder, {_QUICK})", "training.module.Autoencoder.load_from_checkpoint"
    ),
    "summary": Moment(f"train(scan, {_QUICK})", "training.run.summarise"),
    "loader processes": Moment(
        f"train(scan, workers=2, {_QUICK})", "training.module.Autoencoder.training_step", 4
    ),
    "reading ahead of a streamed run": Moment(f"train(streamed, {_QUICK})", "training.reader.PatternReader.batch", 5),
    "resuming": Moment(
        f"train(scan, resume_from=earlier / 'checkpoints' / 'last.ckpt', {_QUICK})", "checkpoint.read_checkpoint"
    ),
    "choosing latent_dim": Moment(
        "train(scan, latent_dim='auto', max_patterns=500, batch_size=16, progress=False)",
        "training.module.Autoencoder.training_step", 40,
    ),
    "comparison with PCA and NMF": Moment(f"train(scan, baselines=True, {_QUICK})", "evidence.nmf"),
    "embed": Moment("model.embed(scan)", "training.module.Autoencoder.encode_batch"),
    "embed a HyperSpy signal": Moment("signal.embed(model)", "training.module.Autoencoder.encode_batch"),
    "reconstruct": Moment("model.reconstruct(scan)", "model.LatentModel.reconstruct_batch"),
    "reconstruct into a file": Moment(
        "model.reconstruct(scan, out=folder / 'rec.npy')", "model.LatentModel.reconstruct_batch"
    ),
    "report": Moment("write_report(model, scan, folder / 'report.html')", "report.picture"),
    "save": Moment("model.save(folder / 'ae.ckpt')", "atomic._to_disk"),
    "load": Moment("latentstem.load(saved)", "training.module.build_network"),
    "simulate": Moment("latentstem.simulate((6, 7), (16, 20))", "simulation._detect"),
}  # fmt: skip
_CLOCK = 12  # moments by the clock, spread over a training


def measure(quick: bool) -> dict[str, Any]:
    """One session for all moments, in a process of its own."""
    names = list(MOMENTS)[::6] if quick else list(MOMENTS)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="latentstem-interrupts-") as folder:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_session, args=(names, 2 if quick else _CLOCK, folder, sender))
        process.start()
        sender.close()
        found = []
        with suppress(EOFError):
            while receiver.poll(_LIMIT):
                found.append(receiver.recv())
                print(found[-1], flush=True)
        process.join(_PATIENCE)
    return {"moments": found, "asked": len(names) + (2 if quick else _CLOCK), "status": process.exitcode}


def target(where: str) -> tuple[Any, str]:
    """The object that holds a function of the package, and its name there."""
    parts = where.split(".")
    for n in range(len(parts) - 1, 0, -1):
        with suppress(ModuleNotFoundError):
            holder = importlib.import_module(".".join(("latentstem", *parts[:n])))
            break
    else:
        raise LookupError(where)
    for name in parts[n:-1]:
        holder = getattr(holder, name)
    getattr(holder, parts[-1])
    return holder, parts[-1]


class _Interpreter(code.InteractiveInterpreter):
    """Runs cells; an error in one ends the cell, not the session, as in a notebook."""

    raised: BaseException | None = None

    def showtraceback(self) -> None:
        self.raised = sys.exc_info()[1]

    def cell(self, source: str) -> BaseException | None:
        """What the cell ended with."""
        self.raised = None
        self.runcode(compile(source, "<cell>", "exec"))
        raised, self.raised = self.raised, None
        return raised


@contextmanager
def _pressed(where: str, call: int) -> Iterator[list[float]]:
    """Ctrl-C in a call of a function; gives when it was."""
    holder, name = target(where)
    own = vars(holder)[name]
    original, calls, when = getattr(holder, name), [0], []
    lock = threading.Lock()

    def pressing(*args: Any, **kwargs: Any) -> Any:
        with lock:
            calls[0] += 1
            now = calls[0] == call
        if now:
            when.append(time.perf_counter())
            signal.raise_signal(signal.SIGINT)
        return original(*args, **kwargs)

    if isinstance(own, classmethod):
        setattr(holder, name, staticmethod(pressing))
    else:
        setattr(holder, name, pressing)
    try:
        yield when
    finally:
        setattr(holder, name, own)


@contextmanager
def _pressed_after(seconds: float) -> Iterator[list[float]]:
    when: list[float] = []

    def press() -> None:
        when.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(seconds, press)
    timer.start()
    try:
        yield when
    finally:
        timer.cancel()
        timer.join()


def _session(names: list[str], by_the_clock: int, folder: str, sender: Any) -> None:
    """What happens in the process: each moment in turn, and after each a look around."""
    import dask.array as da
    import hyperspy.api as hs
    from latentstem.report.report.report import write_report

    import latentstem
    from latentstem.training import run

    in_memory = run.in_memory
    place = Path(folder)
    scan = latentstem.simulate((12, 10), (16, 20), dose=300, n_grains=3).counts
    scan.flags.writeable = False
    train = latentstem.train_autoencoder
    streamed = latentstem.as_scan(da.from_array(scan, chunks=(5, 4, 16, 20)))
    run.in_memory = lambda given: given if given.source is streamed.source else in_memory(given)
    options: dict[str, Any] = {"latent_dim": 4, "epochs": 3, "batch_size": 16, "progress": False}
    model = train(scan, **options)
    names_in_cells = {
        "latentstem": latentstem, "train": train, "write_report": write_report, "scan": scan, "streamed": streamed,
        "model": model, "signal": hs.signals.Signal2D(scan), "saved": model.save(place / "saved.ckpt"),
        "folder": place / "output", "earlier": place / "earlier",
    }  # fmt: skip
    shell = _Interpreter(names_in_cells)
    look = _Look(model, scan, lambda: train(scan, **options), place)

    def earlier_run() -> None:
        shutil.rmtree(place / "earlier", ignore_errors=True)
        train(scan, output_dir=place / "earlier", **options)

    earlier_run()
    for cell in dict.fromkeys(
        moment.cell for moment in MOMENTS.values() if moment in map(MOMENTS.get, names)
    ):
        shell.cell(cell)  # what is imported late is imported now
        shutil.rmtree(place / "output", ignore_errors=True)
    earlier_run()
    look.before()
    moments: list[tuple[str, str, Callable[[], Any]]] = [
        (name, MOMENTS[name].cell, lambda m=MOMENTS[name]: _pressed(m.where, m.call)) for name in names
    ]
    begun = time.perf_counter()
    cell = f"train(scan, output_dir=folder, {_QUICK})"
    shell.cell(cell)
    whole = time.perf_counter() - begun
    shutil.rmtree(place / "output", ignore_errors=True)
    for number in range(by_the_clock):
        after = 0.9 * whole * (number + 0.5) / by_the_clock
        moments.append((f"after {after:.2f} s of training", cell, lambda after=after: _pressed_after(after)))
    for name, cell, press in moments:
        (place / "output").mkdir()
        with press() as when:
            raised = shell.cell(cell)
            back = time.perf_counter() - when[0] if when else float("nan")
        found = {"moment": name, "ended with": type(raised).__name__, "seconds": back, "pressed": bool(when)}
        sender.send(found | {"wrong": look.around()})
        shutil.rmtree(place / "output")
        if not (place / "earlier" / "checkpoints").is_dir() or (place / "earlier" / "earlier-1").exists():
            earlier_run()


class _Look:
    """Whether the session is as it was."""

    def __init__(self, model: Any, scan: np.ndarray, train: Callable[[], Any], place: Path) -> None:
        self._model, self._scan, self._train, self._place = model, scan, train, place
        self._maps, self._copy = model.embed(scan).maps, scan.copy()

    def before(self) -> None:
        from .surroundings import snapshot

        tempfile.tempdir = str(self._place / "tmp")
        (self._place / "tmp").mkdir()
        self._before = snapshot()

    def around(self) -> list[str]:
        """What is not as it should be."""
        import latentstem

        from .surroundings import snapshot

        after = snapshot()
        wrong = [name for name, value in self._before.items() if after[name] != value]
        wrong += [f"temporary {path.name}" for path in (self._place / "tmp").iterdir()]
        wrong += [f"half a file {path.name}" for path in self._place.rglob(".*") if ".part" in path.name]
        for path in self._place.rglob("*.ckpt"):
            try:
                latentstem.load(path)
            except ValueError as error:
                wrong.append(f"{path.name}: {error}")
        if not np.array_equal(self._model.embed(self._scan).maps, self._maps):
            wrong.append("embed")
        if not np.array_equal(self._train().embed(self._scan).maps, self._maps):
            wrong.append("training")
        if not np.array_equal(self._scan, self._copy):
            wrong.append("data")
        return wrong


def section(values: dict[str, Any]) -> str:
    """The part of the page."""
    moments = values["moments"]
    pressed = [moment for moment in moments if moment["pressed"]]
    good = [m for m in pressed if not m["wrong"] and m["ended with"] in ("KeyboardInterrupt", "NoneType")]
    clean = sum(moment["ended with"] == "KeyboardInterrupt" for moment in pressed)
    slowest = max((moment["seconds"] for moment in pressed), default=0.0)
    named = ", ".join(m["moment"] for m in moments if not m["moment"].startswith("after "))
    lines = [
        "## Ctrl-C\n",
        f"Ctrl-C was pressed at {len(pressed)} moments of one interactive session: {named}; and "
        f"{sum(m['moment'].startswith('after ') for m in pressed)} times by the clock in a training. "
        f"{clean} cells ended with KeyboardInterrupt, after {slowest:.1f} s at most; {len(pressed) - clean} with something "
        f"else. After {len(good)} of them the same session embedded and trained to the latents it had before, with "
        "nothing of the surroundings changed (random numbers, threads, processes, loggers, warnings, signals, "
        "environment, ...), no temporary files and no half-written ones; every checkpoint that was there loaded.\n",
    ]
    bad = [f"- {moment}" for moment in pressed if moment not in good]
    if values["status"] != 0:
        bad.append(f"- the session ended with status {values['status']}")
    if bad:
        lines.append("\n".join(bad) + "\n")
    return "\n".join(lines)
