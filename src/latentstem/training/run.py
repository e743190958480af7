"""One training run, from scan and configuration to model."""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytorch_lightning as L
import torch

from ..config import TrainingConfig
from ..errors import CheckpointError, TrainingError
from ..io.checkpoint import FORMAT_VERSION
from ..nn.autoencoder import Autoencoder
from ..nn.batches import PatternBatch
from ..nn.preprocessing import patterns_to_tensor
from ..nn.scan_scores import ScanScores
from ..scan.quality import Quality, measure_quality
from ..scan.scan import Scan
from ..util.disk import require_disk_space
from .checkpoint_callback import BestAndLastCheckpoint
from .data_module import ScanDataModule, fits_in_memory, in_memory, split_positions
from .estimate import estimate
from .initialise import initialise
from .latent_axes import principal_latent_axes
from .process_group import ProcessGroup
from .resolve import choose_latent_dim, plan_steps, resolve
from .session_state import protect_dataloader_setup
from .start_checkpoint import StartCheckpoint
from .summary import Summary, check_not_diverged, summarise
from .trainer import build_trainer
from .training_module import TrainingModule

__all__ = ["TrainingResult", "TrainingRun", "read_scan"]

log = logging.getLogger("latentstem")

_TRIAL_STEPS = 240  # of each trial training that chooses the number of latents
_TRIAL_VALIDATION_PATTERNS = 512


class TrainingResult(NamedTuple):
    """Result of a run."""

    autoencoder: Autoencoder  # on the CPU
    summary: Summary  # empty on all ranks but 0


def read_scan(group: ProcessGroup, scan: Scan) -> tuple[Scan, Quality, float]:
    """Load a scan into memory, if it fits, and measure its quality there, so that files are read once.

    Returns the scan, without its gaps, its quality, and the seconds that reading took.
    """
    fits = group.broadcast(lambda: fits_in_memory(scan, group.world_size // group.nodes))
    start = time.perf_counter()
    scan = in_memory(scan) if fits else scan
    quality: Quality = group.broadcast(lambda: measure_quality(scan))
    return quality.without_gaps(scan), quality, time.perf_counter() - start


class TrainingRun:
    """One training run.

    `pass_seconds` are the seconds to read the scan once; without them, memory and disk space are not checked. The
    attribute `config` is the resolved configuration, and `choices` has a sentence for each choice of `resolve`.
    """

    def __init__(
        self,
        group: ProcessGroup,
        config: TrainingConfig,
        scan: Scan,
        quality: Quality,
        output_dir: Path | None = None,
        progress: bool = False,
        callbacks: Sequence[L.Callback] = (),
        choices: Sequence[str] = (),
        pass_seconds: float | None = None,
    ) -> None:
        self.group, self.scan, self.quality, self.pass_seconds = group, scan, quality, pass_seconds
        self.output_dir, self.progress, self.callbacks = output_dir, progress, callbacks
        self.training, self.validation = split_positions(scan, config.validation_fraction, config.seed)
        self.config, new_choices = resolve(config, scan, quality, len(self.training), group.world_size)
        self.choices = [*choices, *new_choices]
        on_cpu = config.device == "cpu" or not torch.cuda.is_available()
        if group.world_size > 1 and on_cpu and config.workers:
            # loader processes that are forked while gloo's threads run sometimes hang at start
            self.config = self.config.model_copy(update={"workers": 0})
            self.choices.append("workers=0: each process prefetches in a thread")
        if progress:
            for line in quality.lines():
                print(line)
        self._announce(*self.choices)

    def choose_latent_dim(self, accelerator: str) -> None:
        """Resolve ``latent_dim="auto"`` by short trial trainings."""
        trial = {
            "max_patterns": _TRIAL_STEPS * self.config.batch_size,
            "epochs": None,
            "max_time": None,
            "realtime_metrics": False,
            "devices": 1,
            "num_nodes": 1,
        }
        held_out = self.validation[:: -(-len(self.validation) // _TRIAL_VALIDATION_PATTERNS)]
        parts = np.array_split(held_out, -(-len(held_out) // 16))

        def trial_losses(latent_dim: int) -> np.ndarray:
            config = self.config.model_copy(update={**trial, "latent_dim": latent_dim})
            run = TrainingRun(ProcessGroup(), config, self.scan, self.quality)
            autoencoder = run.fit(accelerator, None).autoencoder
            scores = ScanScores.measure(
                self.scan, autoencoder.principal_components, autoencoder.preprocessing.detector
            )
            module = TrainingModule(autoencoder)
            batches = (PatternBatch(patterns_to_tensor(self.scan.read(part)), scores(part)) for part in parts)
            return np.array([module.validation_loss([batch]) for batch in batches])

        latent_dim, reason = self.group.broadcast(lambda: choose_latent_dim(trial_losses))
        self.config = self.config.model_copy(update={"latent_dim": latent_dim})
        self.choices.append(f"latent_dim={latent_dim}: {reason}")
        self._announce(self.choices[-1])

    def fit(self, accelerator: str, start: StartCheckpoint | None) -> TrainingResult:
        """Train. On other ranks than 0, the autoencoder has the weights of the last step, and there is no summary."""
        cfg, group = self.config, self.group
        resumed = start if start is not None and start.resumed else None
        autoencoder = Autoencoder(
            cfg.model_dump(),
            self.scan.pattern_shape,
            self.scan.signature(),
            self.choices,
            FORMAT_VERSION if start is None else start.autoencoder.format_version,
        )
        plan = plan_steps(cfg, len(self.training))
        epochs_left = plan.epochs_left(resumed.steps if resumed else 0)
        if self.pass_seconds is not None:
            patterns = cfg.batch_size * plan.steps_per_epoch * epochs_left
            group.broadcast(lambda: self._check_resources(autoencoder, patterns, accelerator))
        if group.is_rank_zero:
            weights = None if start is None else start.autoencoder
            initialise(autoencoder, self.scan, self.training, self.quality.counts, weights)
        autoencoder.load_state_dict(group.broadcast(autoencoder.state_dict))
        self.module = TrainingModule(autoencoder)
        self.module.total_steps = plan.total_steps
        self.data = ScanDataModule(
            self.scan,
            ScanScores.measure(
                self.scan, autoencoder.principal_components, autoencoder.preprocessing.detector
            ),
            self.training,
            self.validation,
            cfg,
            group,
            plan.steps_per_epoch,
        )
        with ExitStack() as stack:
            folder = group.broadcast(lambda: self._checkpoint_folder(stack))
            path = None if resumed is None else resumed.path
            save_last = self.output_dir is not None
            self.checkpoints = BestAndLastCheckpoint(folder, path, save_last=save_last)
            self.trainer = build_trainer(
                autoencoder,
                self.checkpoints,
                self.callbacks,
                group=group,
                accelerator=accelerator,
                max_epochs=epochs_left + (resumed.epochs if resumed else 0),
                output_dir=self.output_dir,
                progress=self.progress,
            )
            self._train(resumed)
            autoencoder = self._best_autoencoder(resumed)
        autoencoder = autoencoder.cpu().eval()
        if not group.is_rank_zero:
            return TrainingResult(autoencoder, Summary({}, {}, [], []))
        check_not_diverged(autoencoder, self.data.validation[0], self.quality, cfg)
        if start is None or start.resumed:  # fine-tuned latents keep their axes
            self._rotate_latents(autoencoder)
        return TrainingResult(autoencoder, self._summarise(autoencoder))

    def _announce(self, *messages: str) -> None:
        for message in messages if self.group.is_rank_zero else ():
            log.info(message)
            if self.progress:
                print(message)

    def _check_resources(self, autoencoder: Autoencoder, patterns: int, accelerator: str) -> None:
        """Raise if the run does not fit into memory or disk; report the estimate of long or large runs."""
        on_gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
        resources = estimate(autoencoder, self.scan, patterns, self.pass_seconds or 0.0, on_gpu=on_gpu)
        resources.require_memory(self.config.batch_size)
        if self.output_dir is not None:
            require_disk_space(self.output_dir, resources.disk)
        self._announce(*resources.messages(self.scan))

    def _checkpoint_folder(self, stack: ExitStack) -> Path:
        """Checkpoint folder: in the output folder, or temporary, until `stack` is closed."""
        if self.output_dir is not None:
            return self.output_dir / "checkpoints"
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="latentstem-")))

    def _train(self, resumed: StartCheckpoint | None) -> None:
        """Run the trainer, and explain its errors. After an unstable step, the best checkpoint remains."""
        protect_dataloader_setup(self.trainer)
        path = None if resumed is None else resumed.path
        try:
            self.trainer.fit(self.module, self.data, ckpt_path=path, weights_only=True)
        except TrainingError as error:
            if self.checkpoints.best_score is None:
                raise
            warnings.warn(f"{error} Returning the best model before that step.", stacklevel=5)
            self.module.autoencoder.history["unstable_at_step"] = [float(self.trainer.global_step)]
        except (MemoryError, RuntimeError) as error:
            # torch has no exception type for main memory: its CPU allocator raises a RuntimeError with these words
            is_known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
            if not is_known and "allocate memory" not in str(error):
                raise
            raise TrainingError(
                "out of memory",
                expected="enough memory for one step",
                received=str(error).splitlines()[0] if str(error) else type(error).__name__,
                advice=f"Reduce batch_size (it is {self.config.batch_size}), set bin=2, use device='cpu', or "
                "preset='low-memory'.",
            ) from error
        except SystemExit as error:  # Lightning turns KeyboardInterrupt into SystemExit
            cause = error.__context__
            raise (cause if isinstance(cause, KeyboardInterrupt) else error) from None
        finally:
            self.data.stop_prefetch()

    def _best_autoencoder(self, resumed: StartCheckpoint | None) -> Autoencoder:
        """The autoencoder with the best weights, and the history of the whole run."""
        last, score = self.module.autoencoder, self.checkpoints.best_score
        if resumed is not None and self.trainer.global_step == resumed.steps and score is None:
            return resumed.autoencoder  # the resumed run was already finished
        if score is None:
            return last
        if self.config.max_time is not None and "unstable_at_step" not in last.history:
            # the time limit may have stopped the run between validations
            loss = self.group.broadcast(lambda: self.module.validation_loss(self.data.validation))
            if loss < score:
                self.checkpoints.save_best(self.trainer, loss)
                return last
        if not self.group.is_rank_zero:
            return last
        try:
            best = Autoencoder.load_from_checkpoint(self.checkpoints.best)
        except CheckpointError as error:
            if "unstable_at_step" in last.history:
                raise
            warnings.warn(f"{error} Returning the model of the last step instead.", stacklevel=5)
            return last
        best.history = last.history
        return best

    def _rotate_latents(self, autoencoder: Autoencoder) -> None:
        """Change the latent basis to its principal axes; not if there are penalties, which shape each latent."""
        if not autoencoder.network.n_components or autoencoder.penalties or autoencoder.latents_rotated:
            return
        axes = principal_latent_axes(autoencoder, self.data.scores, self.training, self.config.seed)
        if axes is not None:
            autoencoder.rotate_latents(**axes)
            self.checkpoints.save_latent_axes(axes)

    def _summarise(self, autoencoder: Autoencoder) -> Summary:
        for name, value in autoencoder.image_quality(self.data.validation[0]).items():
            autoencoder.history.setdefault(f"final/{name}", []).append(value)
        latents = torch.cat([autoencoder.encode_batch(batch) for batch in self.data.validation])
        self.data.free()
        summary = summarise(autoencoder.history, self.config, latents.numpy(), self.choices)
        if self.progress:
            print(summary)
        return summary
