"""Ctrl-C at many moments in one interactive session: is the session usable afterwards?"""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from hostile.ctrl_c import MOMENTS, QUICK, Interpreter, ctrl_c_after, ctrl_c_in_call
from hostile.process_snapshot import snapshot

__all__ = ["measure", "section"]

_LIMIT = 900.0  # seconds for a session
_PATIENCE = 20.0  # seconds within which Ctrl-C has to give the session back
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


def _session(names: list[str], by_the_clock: int, folder: str, sender: Any) -> None:
    """In the process: Ctrl-C at each moment in turn, and after each the checks of the session."""
    import dask.array as da
    import hyperspy.api as hs

    import latentstem
    from latentstem.report.report import write_report
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
    shell = Interpreter(names_in_cells)
    checks = _Checks(model, scan, lambda: train(scan, **options), place)

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
    checks.before()
    moments: list[tuple[str, str, Callable[[], Any]]] = [
        (name, MOMENTS[name].cell, lambda m=MOMENTS[name]: ctrl_c_in_call(m.where, m.call)) for name in names
    ]
    begun = time.perf_counter()
    cell = f"train(scan, output_dir=folder, {QUICK})"
    shell.cell(cell)
    whole = time.perf_counter() - begun
    shutil.rmtree(place / "output", ignore_errors=True)
    for number in range(by_the_clock):
        after = 0.9 * whole * (number + 0.5) / by_the_clock
        moments.append((f"after {after:.2f} s of training", cell, lambda after=after: ctrl_c_after(after)))
    for name, cell, press in moments:
        (place / "output").mkdir()
        with press() as when:
            raised = shell.cell(cell)
            back = time.perf_counter() - when[0] if when else float("nan")
        found = {"moment": name, "ended with": type(raised).__name__, "seconds": back, "pressed": bool(when)}
        sender.send(found | {"wrong": checks.failed()})
        shutil.rmtree(place / "output")
        if not (place / "earlier" / "checkpoints").is_dir() or (place / "earlier" / "earlier-1").exists():
            earlier_run()


class _Checks:
    """Whether the session is as it was."""

    def __init__(self, model: Any, scan: np.ndarray, train: Callable[[], Any], place: Path) -> None:
        self._model, self._scan, self._train, self._place = model, scan, train, place
        self._maps, self._copy = model.embed(scan).maps, scan.copy()

    def before(self) -> None:
        tempfile.tempdir = str(self._place / "tmp")
        (self._place / "tmp").mkdir()
        self._before = snapshot()

    def failed(self) -> list[str]:
        """What is not as it should be."""
        import latentstem

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
        f"{clean} calls ended with KeyboardInterrupt, after {slowest:.1f} s at most; {len(pressed) - clean} with something "
        f"else. After {len(good)} of them the same session embedded and trained to the latents it had before, with "
        "nothing else of the process changed (random numbers, threads, processes, loggers, warnings, signals, "
        "environment, ...), no temporary files and no half-written ones; every checkpoint that was there loaded.\n",
    ]
    bad = [f"- {moment}" for moment in pressed if moment not in good]
    if values["status"] != 0:
        bad.append(f"- the session ended with status {values['status']}")
    if bad:
        lines.append("\n".join(bad) + "\n")
    return "\n".join(lines)
