"""Training: from a scan to a model."""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from ..atomic import require_folder
from ..config import TrainingConfig
from ..disk import require_disk
from ..errors import CheckpointError, TrainingError
from ..model import LatentModel, load
from ..names import names_checked, training_names
from ..preprocessing import Detector
from ..quality import Quality, inspect
from ..results import earlier_set_aside, lies_in
from ..scan import Scan, as_scan
from ..summary import summarise
from .cache import cached
from .callbacks import Bar, Checkpoints, HistoryRecorder, Patience, StopTogether, TimeLimit, WholeFiles
from .curves import Curves
from .data import ScanDataModule, fits_in_memory, in_memory, split_positions
from .estimate import estimate
from .guard import check_callbacks, refuse_diverged
from .module import Autoencoder
from .processes import Team, in_processes, is_first_process, processes_of
from .reader import PatternReader, sample_with_means
from .resolve import resolve
from .size import choose_latent_dim
from .start import Start, requested_config
from .surroundings import accelerator as find_accelerator
from .surroundings import folder as checkpoint_folder
from .surroundings import guard_loaders, surroundings_kept

__all__ = ["train_autoencoder"]

log = logging.getLogger("latentstem")

_SAMPLE = 2048  # patterns that the network starts from
_SAMPLE_VALUES = 2**26  # detector values of those, at most
_PASSES = 30  # over the scan, in a run that nothing else is asked of; many more and noise is learnt
_BUDGET = 60_000, 300_000  # patterns that such a run sees, at least and at most
_VALIDATIONS = 20  # in a run that is budgeted in patterns
_TRIAL = 30_000  # patterns of each short training that chooses the number of latents
_TRIAL_HELD_OUT = 512  # held-out patterns that such are compared on
_AVERAGE = 0.995  # of the running mean of the weights, per step


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
        run = _Run(team, config, scan, quality, output_dir, progress, callbacks, choices, reading)
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


class _Run:
    """One training run."""

    def __init__(
        self,
        team: Team,
        config: TrainingConfig,
        scan: Scan,
        quality: Quality,
        output_dir: str | Path | None = None,
        progress: bool = False,
        callbacks: Sequence[L.Callback] = (),
        choices: Sequence[str] = (),
        reading: float | None = None,
    ) -> None:
        self.reading = reading  # seconds that it took to read the scan
        self.team, self.callbacks = team, callbacks
        self.training, self.validation = split_positions(scan, config.validation_fraction, config.seed)
        self.config, chosen = resolve(config, scan, quality, len(self.training), team.size)
        self.choices = [*choices, *chosen]
        on_cpu = config.device == "cpu" or not torch.cuda.is_available()
        if team.size > 1 and on_cpu and config.workers:
            # forked beside gloo's threads, a loader process now and then hangs before it has begun
            self.config = self.config.model_copy(update={"workers": 0})
            self.choices.append("workers=0: each of the processes reads ahead by itself")
        fits = team.shared(lambda: fits_in_memory(scan, team.size // team.nodes))
        self.scan, self.quality = in_memory(scan) if fits else scan, quality
        self.output_dir, self.progress = None if output_dir is None else Path(output_dir), progress
        for choice in self.choices if team.first else ():
            log.info(choice)
        if progress:
            for line in [*quality.lines(), *self.choices]:
                print(line)

    def choose_latent_dim(self, accelerator: str) -> None:
        """Settle ``latent_dim="auto"`` by short trainings without a progress bar or files."""
        trial = {"max_patterns": _TRIAL, "epochs": None, "max_time": None, "realtime_metrics": False}
        trial |= {"devices": 1, "num_nodes": 1}
        held_out = self.validation[:: -(-len(self.validation) // _TRIAL_HELD_OUT)]
        parts = np.array_split(held_out, -(-len(held_out) // 16))

        def losses_of(size: int) -> np.ndarray:
            config = self.config.model_copy(update={**trial, "latent_dim": size})
            model = _Run(Team(), config, self.scan, self.quality).fit(accelerator, None)
            if model is None:
                raise RuntimeError("a process that is alone has its model")
            reader = model.reader(self.scan)
            return np.array([model.module.validation_loss([reader(part)]) for part in parts])

        size, why = self.team.shared(lambda: choose_latent_dim(losses_of))
        self.config = self.config.model_copy(update={"latent_dim": size})
        self.choices.append(f"latent_dim={size}: {why}")
        if self.team.first:
            log.info(self.choices[-1])
        if self.progress:
            print(self.choices[-1])

    def fit(self, accelerator: str, start: Start | None) -> LatentModel | None:
        """Train; the model is the first process's."""
        cfg = self.config
        module = Autoencoder(cfg.model_dump(), self.scan.pattern_shape, self.scan.signature(), self.choices)
        steps_per_pass = max(1, len(self.training) // cfg.batch_size)
        if cfg.epochs is not None:
            steps_per_epoch, epochs = steps_per_pass, cfg.epochs
        else:
            budget = cfg.max_patterns or int(np.clip(_PASSES * len(self.training), *_BUDGET))
            steps = -(-budget // cfg.batch_size)
            epochs = min(_VALIDATIONS, steps)
            steps_per_epoch = -(-steps // epochs)
        module.total_steps = steps_per_epoch * epochs
        done = start if start is not None and start.resumed else None
        epochs_left = (
            epochs if done is None else -(-max(0, module.total_steps - done.steps) // steps_per_epoch)
        )
        if self.reading is not None:
            patterns = cfg.batch_size * steps_per_epoch * epochs_left
            self.team.shared(lambda: self._foresee(module, patterns, accelerator))
        if self.team.first:
            self._prepare(module, start)
        module.load_state_dict(self.team.shared(module.state_dict))
        batches = ScanDataModule(
            PatternReader(self.scan, module.context, module.preprocessing.detector, whole=True),
            self.training,
            self.validation,
            batch_size=cfg.batch_size,
            steps_per_epoch=steps_per_epoch,
            workers=cfg.workers,
            seed=cfg.seed,
            share=(self.team.rank, self.team.size),
        )
        with ExitStack() as stack:
            folder = self.team.shared(lambda: stack.enter_context(checkpoint_folder(self.output_dir)))
            resumed, keeps = None if done is None else done.path, self.output_dir is not None
            best = Checkpoints(folder, resumed, self.team.first, resumable=keeps)
            trainer = self._trainer(accelerator, epochs_left + (done.epochs if done else 0), best)
            guard_loaders(trainer)
            try:
                trainer.fit(module, batches, ckpt_path=None if done is None else done.path, weights_only=True)
            except TrainingError as error:
                if best.best_score is None:
                    raise
                warnings.warn(f"{error} The model is the best one before that.", stacklevel=4)
                module.history["unstable_at_step"] = [float(trainer.global_step)]
            except (MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                raise _out_of_memory(error, cfg) from error
            except SystemExit as end:  # Lightning ends the process when it is interrupted
                raise (end.__context__ if isinstance(end.__context__, KeyboardInterrupt) else end) from None
            finally:
                batches.close()
            if done is not None and trainer.global_step == done.steps and best.best_score is None:
                module = done.module  # nothing was left to do
            elif best.best_score is not None and not self._better(module, trainer, batches, best):
                module = self._best(module, best) if self.team.first else module
        if not self.team.first:
            return None
        module = module.cpu().eval()
        refuse_diverged(module, batches.validation[0], self.quality, cfg)
        for name, value in module.image_quality(batches.validation[0]).items():
            module.history.setdefault(f"final/{name}", []).append(value)
        latents = torch.cat([module.encode_batch(batch) for batch in batches.validation])
        batches.release()
        summary = summarise(module.history, cfg, latents.numpy(), self.choices)
        if self.progress:
            print(summary)
        return LatentModel(module, summary)

    def _foresee(self, module: Autoencoder, patterns: int, accelerator: str) -> None:
        """Refuse a run that cannot fit, and say what a long or large one will take."""
        on_gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
        found = estimate(module, self.scan, patterns, self.reading or 0.0, on_gpu=on_gpu)
        found.require_memory(self.config.batch_size)
        if self.output_dir is not None:
            require_disk(self.output_dir, found.disk)
        for line in found.lines(self.scan):
            log.info(line)
            if self.progress:
                print(line)

    def _better(
        self, module: Autoencoder, trainer: L.Trainer, batches: ScanDataModule, best: Checkpoints
    ) -> bool:
        """Whether a run that its time limit stopped between validations ended better than it was before."""
        score = best.best_score
        if self.config.max_time is None or score is None or "unstable_at_step" in module.history:
            return False
        loss = self.team.shared(lambda: module.validation_loss(batches.validation))
        if loss < score:
            best.keep_best(trainer, loss)
        return loss < score

    def _best(self, last: Autoencoder, best: Checkpoints) -> Autoencoder:
        """The best weights that were kept, with the history of the whole run."""
        try:
            module = Autoencoder.load_from_checkpoint(best.best)
        except CheckpointError as error:
            if "unstable_at_step" in last.history:
                raise
            warnings.warn(f"{error} The model is that of the last step instead.", stacklevel=5)
            return last
        module.history = last.history
        return module

    def _prepare(self, module: Autoencoder, start: Start | None) -> None:
        """Statistics of the data, and the weights to start from."""
        cfg, counts = self.config, self.quality.counts
        module.preprocessing.detector.set_mask(self.scan.pattern_mask)
        module.preprocessing.fit(self.scan, self.training, counts=counts, seed=cfg.seed)
        detector = module.preprocessing.detector
        most = min(_SAMPLE, max(64, _SAMPLE_VALUES // int(np.prod(detector.shape))))
        chosen = np.random.default_rng([cfg.seed, 5]).permutation(self.training)[:most]
        single, mean = sample_with_means(self.scan, np.sort(chosen), detector)
        enough = len(chosen) > 1  # one pattern has no principal components to start from
        if start is None:
            if enough and module.network.components:
                module.context.fit(single, mean, counts=counts, seed=cfg.seed)
            if enough:
                module.initialise(mean)
        else:
            module.preprocessing.adopt(start.module.preprocessing)
            module.network.load_state_dict(start.module.network.state_dict())
            if module.network.components:
                module.context.load_state_dict(start.module.context.state_dict())
                module.context.measure_noise(single)

    def _trainer(self, accelerator: str, max_epochs: int, best: Checkpoints) -> L.Trainer:
        cfg = self.config
        # those of the caller before the one that puts the averaged weights aside after a validation
        callbacks: list[L.Callback] = [HistoryRecorder(), best, *self.callbacks]
        if cfg.network == "compact":
            # Validated and kept are running means of the weights: in long runs noise is learnt before the learning
            # rate is low, and the mean is as good as if it had been lowered at each validation.
            callbacks.append(WeightAveraging(multi_avg_fn=_running_mean))
        if cfg.patience is not None:
            callbacks.append(Patience(cfg.patience))
        if cfg.max_time is not None:
            callbacks.append(TimeLimit(cfg.max_time, interval="step", verbose=False))
        if self.progress:
            callbacks.append(Bar())
        if self.team.size > 1:
            callbacks.append(StopTogether())
        # the weights of neighbours and of the background
        unused = cfg.network == "compact" and (cfg.context == 0 or cfg.reconstruction != "poisson")
        unlogged = self.output_dir is None or not self.team.first
        logger = None if unlogged else Curves(Path(self.output_dir or "") / "tb_logs")
        return L.Trainer(
            accelerator=accelerator,
            **self.team.trainer_arguments(unused),
            precision=cfg.precision,
            max_epochs=max_epochs,
            gradient_clip_val=cfg.gradient_clip or None,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            callbacks=callbacks,
            plugins=[WholeFiles()] if self.output_dir else [],
            logger=logger or False,
            log_every_n_steps=1,
            enable_progress_bar=self.progress,
            enable_model_summary=False,
        )


@torch.no_grad()
def _running_mean(mean: list[Tensor], weights: list[Tensor], number: Tensor) -> None:
    """Exponential running mean over a tenth of the steps so far, at most 1 / (1 - _AVERAGE) steps."""
    torch._foreach_lerp_(mean, weights, 1 - min(_AVERAGE, (1 + float(number)) / (10 + float(number))))


def _is_out_of_memory(error: BaseException) -> bool:
    kinds = (MemoryError, torch.cuda.OutOfMemoryError)
    return isinstance(error, kinds) or "allocate memory" in str(error)  # torch's words on a CPU


def _out_of_memory(error: BaseException, config: TrainingConfig) -> TrainingError:
    return TrainingError(
        "out of memory",
        expected="enough memory for one step",
        received=str(error).splitlines()[0] if str(error) else type(error).__name__,
        advice=f"Reduce batch_size (it is {config.batch_size}), set bin=2, use device='cpu', or "
        "preset='low-memory'.",
    )
