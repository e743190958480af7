"""One training run: a scan and its configuration, and the model that comes of them."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from ..config import TrainingConfig
from ..errors import CheckpointError, TrainingError
from ..io.checkpoint import FORMAT_VERSION
from ..nn.autoencoder import Autoencoder
from ..nn.batches import PatternBatch
from ..nn.preprocessing import patterns_to_tensor
from ..nn.scan_scores import ScanScores, sample_with_neighbour_means
from ..scan.quality import Quality, measure_quality
from ..scan.scan import Scan
from ..util.disk import require_disk_space
from .callbacks import Bar, Checkpoints, HistoryRecorder, Patience, StopTogether, TimeLimit, WholeFiles
from .data_module import ScanDataModule, fits_in_memory, in_memory, split_positions
from .estimate import estimate
from .latent_axes import latent_axes
from .latent_dim_search import choose_latent_dim
from .processes import Team
from .resolve import resolve
from .sanity_checks import refuse_diverged
from .session_state import folder as checkpoint_folder
from .session_state import guard_loaders
from .start_checkpoint import Start
from .summary import Summary, summarise
from .tensorboard_logger import Curves
from .training_module import TrainingModule

__all__ = ["Run", "Trained", "read_scan"]

log = logging.getLogger("latentstem")

_SAMPLE = 2048  # patterns that the network starts from
_SAMPLE_VALUES = 2**26  # detector values of those, at most
_PASSES = 50  # over the scan, in a run that nothing else is asked of; many more and noise is learnt
_BUDGET = 60_000, 300_000  # patterns that such a run sees, at least and at most
_VALIDATIONS = 20  # in a run that is budgeted in patterns
_TRIAL = 240  # steps of each short training that chooses the number of latents
_TRIAL_HELD_OUT = 512  # held-out patterns that such are compared on
_AVERAGE = 0.995  # of the running mean of the weights, per step


class Trained(NamedTuple):
    """What came of a run.

    Parameters
    ----------
    autoencoder : Autoencoder
        On the CPU.
    summary : Summary
        Empty in all processes but the first.
    """

    autoencoder: Autoencoder
    summary: Summary


class Run:
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
        self.scan, self.quality = scan, quality
        self.output_dir, self.progress = None if output_dir is None else Path(output_dir), progress
        for choice in self.choices if team.first else ():
            log.info(choice)
        if progress:
            for line in [*quality.lines(), *self.choices]:
                print(line)

    def choose_latent_dim(self, accelerator: str) -> None:
        """Settle ``latent_dim="auto"`` by short trainings without a progress bar or files."""
        trial = {
            "max_patterns": _TRIAL * self.config.batch_size,
            "epochs": None,
            "max_time": None,
            "realtime_metrics": False,
            "devices": 1,
            "num_nodes": 1,
        }
        held_out = self.validation[:: -(-len(self.validation) // _TRIAL_HELD_OUT)]
        parts = np.array_split(held_out, -(-len(held_out) // 16))

        def losses_of(size: int) -> np.ndarray:
            config = self.config.model_copy(update={**trial, "latent_dim": size})
            found = Run(Team(), config, self.scan, self.quality).fit(accelerator, None).autoencoder
            scores = ScanScores.measure(self.scan, found.principal_components, found.preprocessing.detector)
            batches = (PatternBatch(patterns_to_tensor(self.scan.read(part)), scores(part)) for part in parts)
            trained = TrainingModule(found)
            return np.array([trained.validation_loss([batch]) for batch in batches])

        size, why = self.team.shared(lambda: choose_latent_dim(losses_of))
        self.config = self.config.model_copy(update={"latent_dim": size})
        self.choices.append(f"latent_dim={size}: {why}")
        if self.team.first:
            log.info(self.choices[-1])
        if self.progress:
            print(self.choices[-1])

    def fit(self, accelerator: str, start: Start | None) -> Trained:
        """Train. In other processes than the first, the autoencoder is as its last step left it, without a summary."""
        cfg = self.config
        module = Autoencoder(
            cfg.model_dump(),
            self.scan.pattern_shape,
            self.scan.signature(),
            self.choices,
            FORMAT_VERSION if start is None else start.module.format_version,
        )
        steps_per_pass = max(1, len(self.training) // cfg.batch_size)
        if cfg.epochs is not None:
            steps_per_epoch, epochs = steps_per_pass, cfg.epochs
        else:
            budget = cfg.max_patterns or int(np.clip(_PASSES * len(self.training), *_BUDGET))
            steps = -(-budget // cfg.batch_size)
            epochs = min(_VALIDATIONS, steps)
            steps_per_epoch = -(-steps // epochs)
        training_module = TrainingModule(module)
        training_module.total_steps = steps_per_epoch * epochs
        done = start if start is not None and start.resumed else None
        epochs_left = (
            epochs
            if done is None
            else -(-max(0, training_module.total_steps - done.steps) // steps_per_epoch)
        )
        if self.reading is not None:
            patterns = cfg.batch_size * steps_per_epoch * epochs_left
            self.team.shared(lambda: self._foresee(module, patterns, accelerator))
        if self.team.first:
            self._prepare(module, start)
        module.load_state_dict(self.team.shared(module.state_dict))
        batches = ScanDataModule(
            self.scan,
            ScanScores.measure(self.scan, module.principal_components, module.preprocessing.detector),
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
                trainer.fit(
                    training_module,
                    batches,
                    ckpt_path=None if done is None else done.path,
                    weights_only=True,
                )
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
            elif best.best_score is not None and not self._better(training_module, trainer, batches, best):
                module = self._best(module, best) if self.team.first else module
        module = module.cpu().eval()
        if not self.team.first:
            return Trained(module, Summary({}, {}, [], []))
        refuse_diverged(module, batches.validation[0], self.quality, cfg)
        penalised = cfg.lambda_act or cfg.lambda_sim or cfg.lambda_div  # and so have axes of their own
        if module.network.n_components and not (
            penalised or module.has_axes or (start and not start.resumed)
        ):
            axes = latent_axes(module, batches.scores, self.training, cfg.seed)
            if axes is not None:
                module.set_axes(**axes)
                best.keep_axes(axes)
        for name, value in module.image_quality(batches.validation[0]).items():
            module.history.setdefault(f"final/{name}", []).append(value)
        latents = torch.cat([module.encode_batch(batch) for batch in batches.validation])
        batches.release()
        summary = summarise(module.history, cfg, latents.numpy(), self.choices)
        if self.progress:
            print(summary)
        return Trained(module, summary)

    def _foresee(self, module: Autoencoder, patterns: int, accelerator: str) -> None:
        """Refuse a run that cannot fit, and say what a long or large one will take."""
        on_gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
        found = estimate(module, self.scan, patterns, self.reading or 0.0, on_gpu=on_gpu)
        found.require_memory(self.config.batch_size)
        if self.output_dir is not None:
            require_disk_space(self.output_dir, found.disk)
        for line in found.lines(self.scan):
            log.info(line)
            if self.progress:
                print(line)

    def _better(
        self, module: TrainingModule, trainer: L.Trainer, batches: ScanDataModule, best: Checkpoints
    ) -> bool:
        """Whether a run that its time limit stopped between validations ended better than it was before."""
        score = best.best_score
        if self.config.max_time is None or score is None or "unstable_at_step" in module.autoencoder.history:
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
        single, mean = sample_with_neighbour_means(self.scan, np.sort(chosen), detector)
        enough = len(chosen) > 1  # one pattern has no principal components to start from
        if start is None:
            if enough and module.network.n_components:
                module.principal_components.fit(single, mean, counts=counts, seed=cfg.seed)
            if enough:
                module.initialise(mean)
        else:
            module.preprocessing.load_statistics(start.module.preprocessing)
            module.network.load_state_dict(start.module.network.state_dict())
            if module.network.n_components:
                module.principal_components.load_state_dict(start.module.principal_components.state_dict())
                module.principal_components.measure_noise(single)

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


def read_scan(team: Team, scan: Scan) -> tuple[Scan, Quality, float]:
    """Copy a scan into memory, if it fits, and measure its quality there, so that files are read once.

    Returns
    -------
    scan : Scan
        In memory, if it fits.
    quality : Quality
    seconds : float
        Time that reading took.
    """
    fits = team.shared(lambda: fits_in_memory(scan, team.size // team.nodes))
    start = time.perf_counter()
    scan = in_memory(scan) if fits else scan
    quality: Quality = team.shared(lambda: measure_quality(scan))
    return scan, quality, time.perf_counter() - start


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
