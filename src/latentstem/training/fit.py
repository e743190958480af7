"""Training: from data to a model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytorch_lightning as L

from ..config import TrainingConfig
from ..errors import ArgumentError, StorageError
from ..io.local_copy import cache_scan
from ..io.open import as_scan
from ..nn.detector import Detector
from ..scan.scan import Scan
from ..util.folders import is_inside, keep_earlier_results
from ..util.paths import local_path
from ..util.whole_file import require_writable_folder
from .process_group import ProcessGroup, choose_strategy, is_rank_zero, launch
from .run import TrainingResult, TrainingRun, read_scan
from .session_state import check_accelerator, restore_session_state
from .start_checkpoint import StartCheckpoint, merge_config

__all__ = ["fit"]

log = logging.getLogger("latentstem")

_Result = tuple[TrainingResult, dict[str, Any] | None]


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
    evaluate: Callable[[TrainingResult, Scan], dict[str, Any]] | None = None,
) -> _Result:
    """Train an autoencoder; see `latentstem.train_autoencoder`.

    Parameters
    ----------
    evaluate : callable, optional
        Called on rank 0 with the result and the scan after training; returns plain values.

    Returns
    -------
    TrainingResult
        The same in each of several processes.
    dict or None
        Result of `evaluate`.
    """
    _check_callbacks(callbacks)
    requested_config = merge_config(None, preset, config, dict(training_arguments))
    requested_accelerator = check_accelerator(requested_config.device)
    strategy, choice = choose_strategy(requested_config, requested_accelerator)
    folder = None if output_dir is None else local_path(output_dir, StorageError)

    def prepare_inputs(
        init_from: str | Path | None, resume_from: str | Path | None
    ) -> tuple[StartCheckpoint | None, TrainingConfig, str, Scan]:
        start = StartCheckpoint.read(init_from, resume_from)
        merged_config = merge_config(start, preset, config, dict(training_arguments))
        if strategy != "none":
            merged_config = merged_config.model_copy(update={"device": requested_config.device})
        scan = as_scan(data, scan_shape, scan_mask=scan_mask, pattern_mask=pattern_mask)
        if start is not None:
            start.check(scan)
        # raises if bin or crop do not fit
        Detector(scan.pattern_shape, merged_config.bin, merged_config.crop)
        if cache_dir is not None:
            scan = cache_scan(scan, cache_dir, progress=progress and is_rank_zero(requested_config))
        return start, merged_config, check_accelerator(merged_config.device), scan

    rank_zero_inputs = None
    if is_rank_zero(requested_config):
        rank_zero_inputs = prepare_inputs(init_from, resume_from)
        if folder is not None:
            require_writable_folder(folder)

    def train_on_rank(group: ProcessGroup) -> _Result:
        paths = group.broadcast(lambda: (init_from, resume_from))  # rank 0 may have moved these files
        start, merged_config, accelerator, scan = rank_zero_inputs or prepare_inputs(*paths)
        earlier_results: AbstractContextManager[object] = nullcontext()
        resumes_there = resume_from is not None and folder is not None and is_inside(resume_from, folder)
        if group.is_rank_zero and folder is not None and not resumes_there:
            earlier_results = keep_earlier_results(folder, ("checkpoints", "tb_logs"), log.warning)
        loaded_scan, quality, pass_seconds = read_scan(group, scan)
        for line in quality.lines() if group.is_rank_zero else ():
            log.info(line)
        with restore_session_state():
            run = TrainingRun(
                group,
                merged_config,
                loaded_scan,
                quality,
                output_dir=folder,
                progress=progress and group.is_rank_zero,
                callbacks=callbacks,
                choices=[choice] if choice else [],
                pass_seconds=pass_seconds,
            )
            if merged_config.latent_dim == "auto":
                run.choose_latent_dim(accelerator)
            with earlier_results:
                result = run.fit(accelerator, start)
        del run, loaded_scan  # frees patterns in memory before `evaluate` reads the scan
        return result, evaluate(
            result, quality.without_gaps(scan)
        ) if evaluate and group.is_rank_zero else None

    if strategy == "none":
        return train_on_rank(ProcessGroup())
    return launch(strategy, requested_config, requested_accelerator, train_on_rank)


def _check_callbacks(callbacks: Any) -> None:
    """Raise an ArgumentError unless these are Lightning callbacks."""
    is_list = isinstance(callbacks, (list, tuple))
    if not is_list or not all(isinstance(callback, L.Callback) for callback in callbacks):
        kinds = sorted({type(callback).__name__ for callback in callbacks}) if is_list else []
        raise ArgumentError(
            "invalid callbacks",
            expected="a list of pytorch_lightning.Callback",
            received=type(callbacks).__name__ + (f" of {', '.join(kinds)}" if is_list else ""),
            advice="Give instances of classes that extend pytorch_lightning.Callback.",
        )
