"""Training and embedding in the background: generators of events."""

from __future__ import annotations

import gc
import logging
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from .events import Comparing, Embedded, Event, Failed, Finished, Stopped
from .interrupt import Interrupted, InterruptibleSource, run_until_stopped

if TYPE_CHECKING:
    from latentstem import LatentModel, Scan, TrainingConfig

__all__ = ["embed_events", "import_training", "train_events"]

log = logging.getLogger("latentstem")


def train_events(
    scan: Scan,
    config: TrainingConfig,
    *,
    stop: threading.Event,
    start_from: LatentModel | Path | None = None,
    output_dir: str | Path | None = None,
    baselines: bool = False,
) -> Iterator[Event]:
    """Train in a thread, and yield its events.

    Parameters
    ----------
    scan : Scan
        With its masks.
    config : TrainingConfig
        Configuration of the run.
    stop : threading.Event
        Set it to end the run with the best model so far. Use a new one for each run.
    start_from : LatentModel or Path, optional
        A model whose weights a new run starts from, or the ``last.ckpt`` of a run to resume.
    output_dir : str or Path, optional
        Folder for logs and checkpoints.
    baselines : bool
        Compare with PCA and NMF at the end; the result is in ``model.evidence``.

    Yields
    ------
    Progress, Validated, Comparing
        During the run.
    Finished, Stopped or Failed
        Exactly one of these, as the last event. Closing the generator earlier stops the run and waits for its thread.
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
    except BaseException:  # the generator was closed
        stop.set()
        raise
    finally:
        thread.join()


def embed_events(scan: Scan, model: LatentModel, stop: threading.Event) -> Iterator[Event]:
    """Compute the latents of a scan in the calling thread; see `LatentModel.embed`.

    Parameters
    ----------
    scan : Scan
        With its masks.
    model : LatentModel
        Trained on patterns of this shape.
    stop : threading.Event
        Set it to cancel.

    Yields
    ------
    Embedded, Stopped or Failed
        Exactly one.
    """
    try:
        yield Embedded(model, model.embed(replace(scan, source=InterruptibleSource(scan.source, stop))))
    except Interrupted:
        yield Stopped(None)
    except Exception as error:
        yield Failed(_log_error(error))


def import_training() -> None:
    """Import what training needs in a thread, because it takes seconds."""

    def work() -> None:
        # imports trigger full garbage collections, which would block all threads for half a second
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            import latentstem.report
            import latentstem.training.fit  # noqa: F401
        finally:
            if was_enabled:
                gc.enable()

    if "latentstem.training.fit" not in sys.modules:
        threading.Thread(target=work, name="latentstem-importing").start()


def _train(events: SimpleQueue[Event], *run: Any) -> None:
    """Run, and make sure that the last event is a final one."""
    try:
        events.put(_run(events, *run))
    except Interrupted:
        events.put(Stopped(None))
    except BaseException as error:
        events.put(Failed(_log_error(error)))


def _log_error(error: BaseException) -> BaseException:
    """Log an error, and release the network and the patterns that its frames refer to."""
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
    # torch and Lightning take seconds to import
    from latentstem import LatentModel, train_autoencoder
    from latentstem.report import evidence

    from .training_callback import TrainingCallback

    source = InterruptibleSource(scan.source, stop)
    scan = replace(scan, source=source)

    def on_prepared() -> None:
        source.active = False  # from now on, stopping ends the run with a model

    callback = TrainingCallback(events.put, stop, on_prepared)
    with tempfile.TemporaryDirectory(prefix="latentstem-") as folder:
        resume_from = None if isinstance(start_from, LatentModel) else start_from
        init_from = None
        if isinstance(start_from, LatentModel):
            init_from = start_from.save(Path(folder) / "start.ckpt")
        # run_until_stopped, because a scan that was copied into memory is not read through `source` any more
        model = run_until_stopped(
            lambda: train_autoencoder(
                scan, config=config, output_dir=output_dir, progress=False, callbacks=[callback],
                init_from=init_from, resume_from=resume_from,
            ),
            source,
        )  # fmt: skip
    if model is None:
        return Stopped(None)
    if baselines and not stop.is_set():
        events.put(Comparing())
        model.evidence = run_until_stopped(lambda: evidence(model, scan), stop)
    if stop.is_set():
        return Stopped(model if callback.has_stepped else None)
    return Finished(model)
