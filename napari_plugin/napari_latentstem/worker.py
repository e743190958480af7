"""Training and embedding in the background, without Qt: a run tells of itself in events."""

from __future__ import annotations

import gc
import logging
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from .interrupt import Interrupted, Interruptible, unless_stopped

if TYPE_CHECKING:
    from latentstem import Embedding, LatentModel, Scan, TrainingConfig

__all__ = [
    "Comparing",
    "Embedded",
    "Event",
    "Failed",
    "Finished",
    "Progress",
    "Stopped",
    "Validated",
    "embed_events",
    "import_training",
    "train_events",
]

log = logging.getLogger("latentstem")


@dataclass(frozen=True)
class Progress:
    """How far training has come.

    Parameters
    ----------
    step, steps : int
        Steps done, and steps of the whole run.
    seconds_left : float
        Until its end, as far as can be told.
    train_loss : float
        Loss of this step.
    """

    step: int
    steps: int
    seconds_left: float
    train_loss: float


@dataclass(frozen=True, eq=False)
class Validated:
    """A validation is over.

    Parameters
    ----------
    epoch : int
        Its number, from 0.
    history : dict of str to list of float
        All series until now; see `LatentModel.history`.
    latent_maps : ndarray, shape (Ny, Nx, k), float32
        Latents of the model so far, coarser than the scan so that they take little time: on a grid of scan positions,
        each for its surroundings, or of some parts of a scan that is streamed from disk. NaN elsewhere.
    """

    epoch: int
    history: dict[str, list[float]]
    latent_maps: np.ndarray


@dataclass(frozen=True)
class Comparing:
    """The model is trained, and being compared with PCA and NMF."""


@dataclass(frozen=True, eq=False)
class Finished:
    """The run came to its end, with this model."""

    model: LatentModel


@dataclass(frozen=True, eq=False)
class Stopped:
    """The run was stopped; the model is the best one until then, None if there had been no step."""

    model: LatentModel | None


@dataclass(frozen=True, eq=False)
class Failed:
    """The run ended with this error."""

    error: BaseException


@dataclass(frozen=True, eq=False)
class Embedded:
    """The latents of a scan have been computed with a model."""

    model: LatentModel
    embedding: Embedding


Event = Progress | Validated | Comparing | Finished | Stopped | Failed | Embedded


def train_events(
    scan: Scan,
    config: TrainingConfig,
    *,
    stop: threading.Event,
    start_from: LatentModel | Path | None = None,
    output_dir: str | Path | None = None,
    baselines: bool = False,
) -> Iterator[Event]:
    """Train in a thread, and tell what goes on.

    Parameters
    ----------
    scan : Scan
        With its masks.
    config : TrainingConfig
        What to run.
    stop : threading.Event
        Set it to end the run with the best model so far. It is for one run alone.
    start_from : LatentModel or Path, optional
        A model whose weights a fresh run starts from, or the ``last.ckpt`` of a run to go on with exactly.
    output_dir : str or Path, optional
        Where logs and checkpoints go.
    baselines : bool
        Compare with PCA and NMF in the end; the verdict is in ``model.evidence``.

    Yields
    ------
    Progress, Validated, Comparing
        While it goes on.
    Finished, Stopped or Failed
        Exactly one of these, as the last event. Closing the generator before stops the run and waits for its thread.
    """
    events: SimpleQueue[Event] = SimpleQueue()
    thread = threading.Thread(
        target=_train,
        args=(events, scan, config, stop, start_from, output_dir, baselines),
        name="latentstem-training",
    )
    thread.start()
    try:
        while True:
            event = events.get()
            yield event
            if isinstance(event, Finished | Stopped | Failed):
                return
    except BaseException:  # the generator was closed, or thrown into
        stop.set()
        raise
    finally:
        thread.join()


def import_training() -> None:
    """Import what training needs, which takes seconds, in a thread; it is ready then when it is needed."""

    def work() -> None:
        # A full collection, of which imports cause some, would hold up all other threads for half a second.
        collecting = gc.isenabled()
        gc.disable()
        try:
            import latentstem.report
            import latentstem.training.fit  # noqa: F401
        finally:
            if collecting:
                gc.enable()

    if "latentstem.training.fit" not in sys.modules:
        threading.Thread(target=work, name="latentstem-importing").start()


def embed_events(scan: Scan, model: LatentModel, stop: threading.Event) -> Iterator[Event]:
    """Compute the latents of a scan, see `LatentModel.embed`; here, in the thread that iterates.

    Parameters
    ----------
    scan : Scan
        With its masks.
    model : LatentModel
        What they are computed with.
    stop : threading.Event
        Set it to give up.

    Yields
    ------
    Embedded, Stopped or Failed
        Exactly one.
    """
    try:
        yield Embedded(model, model.embed(replace(scan, source=Interruptible(scan.source, stop))))
    except Interrupted:
        yield Stopped(None)
    except Exception as error:
        yield Failed(_told(error))


def _train(events: SimpleQueue[Event], *run: Any) -> None:
    """Whatever happens, the last event is a terminal one."""
    try:
        events.put(_run(events, *run))
    except Interrupted:
        events.put(Stopped(None))
    except BaseException as error:
        events.put(Failed(_told(error)))


def _told(error: BaseException) -> BaseException:
    """The error, without what its frames hold: the network, the patterns."""
    log.info("Work on a scan failed.", exc_info=error)
    traceback.clear_frames(error.__traceback__)
    return error


def _run(
    events: SimpleQueue[Event],
    scan: Scan,
    config: TrainingConfig,
    stop: threading.Event,
    start_from: LatentModel | Path | None,
    output_dir: str | Path | None,
    baselines: bool,
) -> Event:
    # here, because torch and Lightning take seconds to import
    from latentstem.report.report.report import evidence

    from latentstem import LatentModel, train_autoencoder

    from .watch import Watch

    source = Interruptible(scan.source, stop)
    scan = replace(scan, source=source)

    def began() -> None:
        source.active = False  # from now on there is a model to keep

    watch = Watch(events.put, stop, began)
    with tempfile.TemporaryDirectory(prefix="latentstem-") as folder:
        start: dict[str, Path] = {}
        if isinstance(start_from, LatentModel):
            start["init_from"] = start_from.save(Path(folder) / "start.ckpt")
        elif start_from is not None:
            start["resume_from"] = start_from
        # what is read into memory at first is not given up by its source: the search for a number of latents
        model = unless_stopped(
            lambda: train_autoencoder(
                scan, config=config, output_dir=output_dir, progress=False, callbacks=[watch], **start
            ),
            source,
        )
    if model is None:
        return Stopped(None)
    if baselines and not stop.is_set():
        events.put(Comparing())
        model.evidence = unless_stopped(lambda: evidence(model, scan), stop)
    if stop.is_set():
        return Stopped(model if watch.stepped else None)
    return Finished(model)
