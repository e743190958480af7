"""Training: from a scan to a model."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as L

from ..atomic import require_folder
from ..config import TrainingConfig
from ..model import LatentModel, load
from ..names import names_checked, training_names
from ..preprocessing import Detector
from ..quality import inspect
from ..results import earlier_set_aside, lies_in
from ..scan import Scan, as_scan
from .cache import cached
from .guard import check_callbacks
from .processes import Team, in_processes, is_first_process, processes_of
from .run import Run
from .start import Start, requested_config
from .surroundings import accelerator as find_accelerator
from .surroundings import surroundings_kept

__all__ = ["train_autoencoder"]

log = logging.getLogger("latentstem")


@names_checked(training_names)
def train_autoencoder(
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
    baselines: bool = False,
    progress: bool = True,
    callbacks: Sequence[L.Callback] = (),
    **training_arguments: Any,
) -> LatentModel:
    """Train an autoencoder on a 4D-STEM scan.

    Parameters
    ----------
    data : DataCube, Signal2D, array or path, or a list of such
        Anything `as_scan` reads. Of a series (a list, or an array of five dimensions), one model learns from all scans.
    scan_shape : (int, int), optional
        Scan rows and columns, where the data are a stack of patterns.
    scan_mask : array of bool, shape (Ny, Nx), optional
        True excludes a scan position from training, statistics and metrics.
    pattern_mask : array of bool, shape (H, W), optional
        True excludes a detector pixel.
    preset : str
        Where the training arguments start from: ``default``, ``reference``, ``fast``, ``quality``, ``low-memory``.
    config : TrainingConfig, optional
        A whole configuration, instead of `preset` and training arguments.
    output_dir : str or Path, optional
        Where TensorBoard logs (``tb_logs``) and checkpoints (``checkpoints/best.ckpt``, ``last.ckpt``) go.
        Without it nothing is kept. ``last.ckpt`` is renewed at each validation and every two minutes. What an earlier
        run left there is moved into ``earlier-1`` (2, 3, ...) in that folder, unless `resume_from` lies there.
    cache_dir : str or Path, optional
        Folder for a one-time copy of data that are slow to read (HDF5, zarr or lazy, in chunks): as large as the
        patterns themselves, which is stated and must fit on the disk before it is begun. An interrupted copy is
        continued, a finished one used again, until the file changes. Delete it when it is no longer needed.
    init_from : str or Path, optional
        Checkpoint whose weights training starts from, with a fresh optimiser: fine-tuning.
    resume_from : str or Path, optional
        Checkpoint (``checkpoints/last.ckpt``) of a run to continue exactly where it stopped: on the same machine with
        as many threads, it ends with the same latents as a run in one go. Not so with `max_time`, which begins anew
        and bends the learning rate, or where a scan in chunks fits into memory in only one of the two runs.
    baselines : bool
        Compare with PCA and NMF when done, and keep what is found as ``model.evidence``; see `report.evidence`.
    progress : bool
        Show a progress bar and the summary.
    callbacks : sequence of pytorch_lightning.Callback
        Called while training goes on, at validations with the weights that are validated. One that sets
        ``trainer.should_stop = True`` ends the run after the step: the model is the best one until then.
    **training_arguments
        Fields of `TrainingConfig`, such as ``latent_dim=16, epochs=30``.

    Returns
    -------
    LatentModel
        With ``devices`` > 1 in a script, in each of the processes, which all go on with the script.

    Raises
    ------
    ArgumentError
        For training arguments that are unknown, out of range, contradictory, or impossible with these data.
    DataValueError, ScanDimensionError, MaskError, ...
        For data that cannot be trained on; see `as_scan`.
    CheckpointError, ModelMismatchError
        For a checkpoint that cannot be read, or does not fit the data or the arguments.
    TrainingError
        If the loss is not finite before there is a good checkpoint, or memory runs out.
    StorageError
        If nothing can be written to `output_dir`, or its disk is full. It says what is kept.
    """
    check_callbacks(callbacks)
    asked = requested_config(None, preset, config, training_arguments)
    accelerator = find_accelerator(asked.device)
    strategy, choice = processes_of(asked, accelerator)

    def opened(init_from: str | Path | None, resume_from: str | Path | None) -> _Opened:
        start = Start.read(init_from, resume_from)
        settled = requested_config(start, preset, config, training_arguments)
        if strategy != "none":
            settled = settled.model_copy(update={"device": asked.device})
        scan = as_scan(data, scan_shape, scan_mask=scan_mask, pattern_mask=pattern_mask)
        if start is not None:
            start.check(scan)
        Detector(scan.pattern_shape, settled.bin, settled.crop)  # refuses what does not fit
        if cache_dir is not None:
            scan = cached(scan, cache_dir, progress=progress and is_first_process(asked))
        return _Opened(start, settled, find_accelerator(settled.device), scan)

    first = None
    if is_first_process(asked):
        first = opened(init_from, resume_from)
        if output_dir is not None:
            require_folder(output_dir)

    def trained(team: Team) -> LatentModel | None:
        paths = team.shared(lambda: (init_from, resume_from))  # the first process may have moved them
        found = first or opened(*paths)
        aside = _earlier_set_aside(output_dir, resume_from) if team.first else nullcontext()
        told = [choice] if choice else []
        model = _train(team, found, output_dir, progress and team.first, callbacks, aside, told)
        if model is not None and baselines:
            from ..report import evidence

            model.evidence = evidence(model, found.scan)
            if progress:
                print(model.evidence["verdict"])
        return model

    if strategy == "none":
        alone = trained(Team())
        if alone is None:
            raise RuntimeError("a process that is alone has its model")
        return alone

    def content(team: Team) -> bytes:
        model = trained(team)
        return team.shared(lambda: _packed(model))

    return _unpacked(in_processes(strategy, asked, accelerator, content))


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
) -> LatentModel | None:
    """The model, in the first process of a team."""
    start, config, accelerator, scan = opened
    begin = time.perf_counter()
    quality = team.shared(lambda: inspect(scan))
    reading = time.perf_counter() - begin
    for line in quality.lines() if team.first else ():
        log.info(line)
    with surroundings_kept():
        run = Run(team, config, scan, quality, output_dir, progress, callbacks, choices, reading)
        if config.latent_dim == "auto":
            run.choose_latent_dim(accelerator)
        with aside:
            return run.fit(accelerator, start)


def _packed(model: LatentModel | None) -> bytes:
    """A model as the content of its file, which travels between processes."""
    if model is None:
        raise RuntimeError("the first process has the model")
    with tempfile.TemporaryDirectory(prefix="latentstem-") as folder:
        return model.save(Path(folder) / "ae.ckpt").read_bytes()


def _unpacked(content: bytes) -> LatentModel:
    with tempfile.TemporaryDirectory(prefix="latentstem-") as folder:
        path = Path(folder) / "ae.ckpt"
        path.write_bytes(content)
        return load(path)


def _earlier_set_aside(
    output_dir: str | Path | None, resume_from: str | Path | None
) -> AbstractContextManager[Path | None]:
    """Keep the files of an earlier run in the output folder, unless it is that run that goes on."""
    if output_dir is None or (resume_from is not None and lies_in(resume_from, output_dir)):
        return nullcontext()
    return earlier_set_aside(Path(output_dir), ("checkpoints", "tb_logs"), log.warning)
