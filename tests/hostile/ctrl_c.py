"""Ctrl-C, pressed in a chosen call of a chosen function of the package, in a session like a notebook's."""

from __future__ import annotations

import code
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

__all__ = ["MOMENTS", "QUICK", "Interpreter", "ctrl_c_after", "ctrl_c_in_call", "find_function"]


class Moment(NamedTuple):
    """When Ctrl-C is pressed.

    Parameters
    ----------
    cell : str
        What runs in the session; names are those of the session in `benchmarks.reliability.interrupts`.
    where : str
        Function, from the package on, in which it is pressed.
    call : int
        In which call of it.
    """

    cell: str
    where: str
    call: int = 1


QUICK = "latent_dim=4, epochs=3, batch_size=16, progress=False"
MOMENTS = {
    "opening the data": Moment(f"train(scan, {QUICK})", "training.fit.as_scan"),
    "looking through the data": Moment(f"train(scan, {QUICK})", "training.run.measure_quality"),
    "statistics": Moment(f"train(scan, {QUICK})", "nn.preprocessing.Preprocessing.fit"),
    "sample": Moment(f"train(scan, {QUICK})", "training.initialise.sample_with_neighbour_means"),
    "principal components": Moment(f"train(scan, {QUICK})", "nn.principal_components.randomised_svd"),
    "initial weights": Moment(f"train(scan, {QUICK})", "nn.autoencoder.Autoencoder.initialise"),
    "asking for batches": Moment(f"train(scan, {QUICK})", "training.data_module.ScanDataModule.train_dataloader", 2),
    "first step": Moment(f"train(scan, output_dir=folder, {QUICK})", "training.training_module.TrainingModule.training_step"),
    "middle of an epoch": Moment(
        f"train(scan, output_dir=folder, {QUICK})", "training.training_module.TrainingModule.training_step", 10
    ),
    "gradient step": Moment(f"train(scan, {QUICK})", "training.trainer._update_average", 8),
    "validation": Moment(
        f"train(scan, output_dir=folder, {QUICK})", "training.training_module.TrainingModule.validation_step", 2
    ),
    "history": Moment(f"train(scan, {QUICK})", "training.trainer.HistoryRecorder.on_train_epoch_end", 2),
    "curves": Moment(f"train(scan, output_dir=folder, {QUICK})", "training.tensorboard_logger.EventFileLogger._append", 3),
    "checkpoint half written": Moment(f"train(scan, output_dir=folder, {QUICK})", "util.whole_file._fsync_tree", 4),
    "moving earlier results": Moment(
        f"train(scan, output_dir=earlier, {QUICK})", "training.trainer.EventFileLogger"
    ),
    "best weights": Moment(
        f"train(scan, output_dir=folder, {QUICK})", "nn.autoencoder.Autoencoder.load_from_checkpoint"
    ),
    "summary": Moment(f"train(scan, {QUICK})", "training.run.summarise"),
    "loader processes": Moment(
        f"train(scan, workers=2, {QUICK})", "training.training_module.TrainingModule.training_step", 4
    ),
    "reading ahead of a streamed run": Moment(f"train(streamed, {QUICK})", "training.data_module._ShuffleBuffer.pop", 5),
    "resuming": Moment(
        f"train(scan, resume_from=earlier / 'checkpoints' / 'last.ckpt', {QUICK})", "training.start_checkpoint.read_checkpoint"
    ),
    "choosing latent_dim": Moment(
        "train(scan, latent_dim='auto', max_patterns=500, batch_size=16, progress=False)",
        "training.training_module.TrainingModule.training_step", 40,
    ),
    "comparison with PCA and NMF": Moment(f"train(scan, baselines=True, {QUICK})", "report.baseline_comparison.nmf"),
    "embed": Moment("model.embed(scan)", "nn.autoencoder.Autoencoder.encode_batch"),
    "embed a HyperSpy signal": Moment("signal.embed(model)", "nn.autoencoder.Autoencoder.encode_batch"),
    "reconstruct": Moment("model.reconstruct(scan)", "nn.autoencoder.Autoencoder.decode_patterns"),
    "reconstruct into a file": Moment(
        "model.reconstruct(scan, out=folder / 'rec.npy')", "nn.autoencoder.Autoencoder.decode_patterns"
    ),
    "report": Moment("write_report(model, scan, folder / 'report.html')", "inference.model.LatentModel.embed"),
    "save": Moment("model.save(folder / 'ae.ckpt')", "util.whole_file._fsync_tree"),
    "load": Moment("latentstem.load(saved)", "nn.autoencoder.build_network"),
    "simulate": Moment("latentstem.simulate((6, 7), (16, 20))", "simulation.simulate._record_counts"),
}  # fmt: skip


def find_function(where: str) -> tuple[Any, str]:
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


class Interpreter(code.InteractiveInterpreter):
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
def ctrl_c_in_call(where: str, call: int) -> Iterator[list[float]]:
    """Ctrl-C in a call of a function; gives when it was."""
    holder, name = find_function(where)
    own = vars(holder)[name]
    original, calls, when = getattr(holder, name), [0], []
    lock = threading.Lock()

    def press_and_call(*args: Any, **kwargs: Any) -> Any:
        with lock:
            calls[0] += 1
            now = calls[0] == call
        if now:
            when.append(time.perf_counter())
            signal.raise_signal(signal.SIGINT)
        return original(*args, **kwargs)

    if isinstance(own, classmethod):
        setattr(holder, name, staticmethod(press_and_call))
    else:
        setattr(holder, name, press_and_call)
    try:
        yield when
    finally:
        setattr(holder, name, own)


@contextmanager
def ctrl_c_after(seconds: float) -> Iterator[list[float]]:
    """Ctrl-C after so many seconds; gives when it was."""
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
