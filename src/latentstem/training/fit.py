"""Training: from a scan to a model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytorch_lightning as L
import torch

from ..config import TrainingConfig
from ..io.local_copy import cache_scan
from ..io.open import as_scan
from ..nn.autoencoder import Autoencoder
from ..nn.preprocessing import Detector
from ..scan.scan import Scan
from ..util.folders import is_inside, keep_earlier_results
from ..util.whole_file import require_writable_folder
from .processes import Team, in_processes, is_first_process, processes_of
from .run import Run, Trained, read_scan
from .sanity_checks import check_callbacks
from .session_state import accelerator as find_accelerator
from .session_state import surroundings_kept
from .start_checkpoint import Start, requested_config
from .summary import Summary

__all__ = ["fit"]

log = logging.getLogger("latentstem")


def fit(
    data: Any,
    *,
    scan_shape: tuple[int, int] | None = None,
    scan_mask: Any = None,
    pattern_mask: Any = None,
    preset: str = "default",
    config: TrainingConfig | None = None,
    output_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    init_from: str | Path | None = None,
    resume_from: str | Path | None = None,
    progress: bool = True,
    callbacks: Sequence[L.Callback] = (),
    training_arguments: Mapping[str, Any] = MappingProxyType({}),
    afterwards: Callable[[Trained, Scan], dict[str, Any]] | None = None,
) -> tuple[Trained, dict[str, Any] | None]:
    """Train an autoencoder; see `latentstem.train_autoencoder`.

    Parameters
    ----------
    afterwards : callable, optional
        Measures something of what was trained and of its scan, in the first of several processes: plain values.

    Returns
    -------
    Trained
        In each of several processes, the same.
    dict or None
        What `afterwards` found.
    """
    check_callbacks(callbacks)
    asked = requested_config(None, preset, config, dict(training_arguments))
    accelerator = find_accelerator(asked.device)
    strategy, choice = processes_of(asked, accelerator)

    def opened(init_from: str | Path | None, resume_from: str | Path | None) -> _Opened:
        start = Start.read(init_from, resume_from)
        settled = requested_config(start, preset, config, dict(training_arguments))
        if strategy != "none":
            settled = settled.model_copy(update={"device": asked.device})
        scan = as_scan(data, scan_shape, scan_mask=scan_mask, pattern_mask=pattern_mask)
        if start is not None:
            start.check(scan)
        Detector(scan.pattern_shape, settled.bin, settled.crop)  # refuses what does not fit
        if cache_dir is not None:
            scan = cache_scan(scan, cache_dir, progress=progress and is_first_process(asked))
        return _Opened(start, settled, find_accelerator(settled.device), scan)

    first = None
    if is_first_process(asked):
        first = opened(init_from, resume_from)
        if output_dir is not None:
            require_writable_folder(output_dir)

    def run(team: Team) -> _Result:
        paths = team.shared(lambda: (init_from, resume_from))  # the first process may have moved them
        found = first or opened(*paths)
        aside = _keep_earlier_results(output_dir, resume_from) if team.first else nullcontext()
        told = [choice] if choice else []
        trained = _train(team, found, output_dir, progress and team.first, callbacks, aside, told)
        return trained, afterwards(trained, found.scan) if afterwards and team.first else None

    if strategy == "none":
        return run(Team())

    def content(team: Team) -> bytes:
        result = run(team)
        return team.shared(lambda: _packed(*result))

    return _unpacked(in_processes(strategy, asked, accelerator, content))


_Result = tuple[Trained, dict[str, Any] | None]


class _Opened(NamedTuple):
    start: Start | None
    config: TrainingConfig
    accelerator: str
    scan: Scan


def _train(
    team: Team,
    opened: _Opened,
    output_dir: str | Path | None,
    progress: bool,
    callbacks: Sequence[L.Callback],
    aside: AbstractContextManager[Any],
    choices: list[str],
) -> Trained:
    start, config, accelerator, scan = opened
    scan, quality, reading = read_scan(team, scan)
    for line in quality.lines() if team.first else ():
        log.info(line)
    with surroundings_kept():
        run = Run(team, config, scan, quality, output_dir, progress, callbacks, choices, reading)
        if config.latent_dim == "auto":
            run.choose_latent_dim(accelerator)
        with aside:
            return run.fit(accelerator, start)


def _packed(trained: Trained, found: dict[str, Any] | None) -> bytes:
    """What was trained and found, as it travels between processes."""
    buffer = BytesIO()
    torch.save(trained.autoencoder.content(summary=trained.summary.as_dict(), evidence=found), buffer)
    return buffer.getvalue()


def _unpacked(packed: bytes) -> _Result:
    content = torch.load(BytesIO(packed), weights_only=True)
    autoencoder = Autoencoder.from_content(content, "another process")
    ours = content["latentstem"]
    return Trained(autoencoder, Summary(**ours["summary"])), ours["evidence"]


def _keep_earlier_results(
    output_dir: str | Path | None, resume_from: str | Path | None
) -> AbstractContextManager[Path | None]:
    """Keep the files of an earlier run in the output folder, unless it is that run that goes on."""
    if output_dir is None or (resume_from is not None and is_inside(resume_from, output_dir)):
        return nullcontext()
    return keep_earlier_results(Path(output_dir), ("checkpoints", "tb_logs"), log.warning)
