"""Training: from a scan to a model."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import (
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    Timer,
    TQDMProgressBar,
)
from pytorch_lightning.loggers import TensorBoardLogger

from ..checkpoint import read_checkpoint
from ..config import TrainingConfig
from ..errors import ArgumentError, CheckpointError, ModelMismatchError, TrainingError
from ..model import LatentModel
from ..quality import Quality, inspect
from ..scan import Scan, as_scan
from ..summary import summarise
from .callbacks import HistoryRecorder
from .data import ScanDataModule, in_memory, split_positions
from .module import Autoencoder
from .resolve import resolve

__all__ = ["train_autoencoder"]

log = logging.getLogger("latentstem")

#: what a checkpoint's weights fix, so that fine-tuning takes it from there
_STRUCTURE = ("network", "latent_dim", "preprocessing", "reconstruction", "context", "bin", "crop")
#: what may differ when a run is resumed
_RESUMABLE = {"epochs", "max_patterns", "max_time", "device", "workers"}
_VALIDATIONS = 20  # in a run that is budgeted in patterns


def train_autoencoder(
    data: Any,
    *,
    scan_shape: tuple[int, int] | None = None,
    scan_mask: Any = None,
    pattern_mask: Any = None,
    preset: str = "default",
    config: TrainingConfig | None = None,
    output_dir: str | Path | None = None,
    init_from: str | Path | None = None,
    resume_from: str | Path | None = None,
    baselines: bool = False,
    progress: bool = True,
    **training_arguments: Any,
) -> LatentModel:
    """Train an autoencoder on a 4D-STEM scan.

    Parameters
    ----------
    data : DataCube, Signal2D, array or path
        Anything `as_scan` reads.
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
        Where TensorBoard logs (``tb_logs``) and checkpoints (``checkpoints/best.ckpt``, ``last.ckpt``) go. Without
        it nothing is written.
    init_from : str or Path, optional
        Checkpoint whose weights training starts from, with a fresh optimiser: fine-tuning.
    resume_from : str or Path, optional
        Checkpoint (``checkpoints/last.ckpt``) of a run to continue exactly where it stopped.
    baselines : bool
        Compare with PCA and NMF when done, and keep what is found as ``model.evidence``; see `report.evidence`.
    progress : bool
        Show a progress bar and the summary.
    **training_arguments
        Fields of `TrainingConfig`, such as ``latent_dim=16, epochs=30``.

    Returns
    -------
    LatentModel

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
    """
    if init_from is not None and resume_from is not None:
        raise ArgumentError(
            "init_from and resume_from contradict each other",
            expected="one of them",
            received="both",
            advice="init_from starts afresh from weights; resume_from continues an interrupted run.",
        )
    start = resume_from if resume_from is not None else init_from
    content = None if start is None else read_checkpoint(start)
    config = _config(content, preset, config, training_arguments, resumed=resume_from is not None)
    accelerator = _accelerator(config.device)
    scan = as_scan(data, scan_shape, scan_mask=scan_mask, pattern_mask=pattern_mask)
    quality = inspect(scan)
    for line in quality.lines():
        log.info(line)
    with torch.random.fork_rng(devices=[]), _quiet_lightning():
        torch.manual_seed(config.seed)
        model = _Run(config, scan, quality, output_dir, progress).fit(
            accelerator, content, init_from, resume_from
        )
    if baselines:
        from ..report import evidence

        model.evidence = evidence(model, scan)
        if progress:
            print(model.evidence["verdict"])
    return model


class _Run:
    """One training run."""

    def __init__(
        self,
        config: TrainingConfig,
        scan: Scan,
        quality: Quality,
        output_dir: str | Path | None,
        progress: bool,
    ) -> None:
        self.training, self.validation = split_positions(scan, config.validation_fraction, config.seed)
        self.config, self.choices = resolve(config, scan, quality, len(self.training))
        self.scan, self.quality = in_memory(scan), quality
        self.output_dir, self.progress = None if output_dir is None else Path(output_dir), progress
        for choice in self.choices:
            log.info(choice)
        if progress:
            for line in [*quality.lines(), *self.choices]:
                print(line)

    def fit(
        self,
        accelerator: str,
        content: dict[str, Any] | None,
        init_from: str | Path | None,
        resume_from: str | Path | None,
    ) -> LatentModel:
        cfg = self.config
        module = Autoencoder(cfg.model_dump(), self.scan.pattern_shape, self.scan.signature(), self.choices)
        steps_per_pass = max(1, len(self.training) // cfg.batch_size)
        if cfg.epochs is not None:
            steps_per_epoch, epochs = steps_per_pass, cfg.epochs
        else:
            steps = -(-cfg.max_patterns // cfg.batch_size)
            epochs = min(_VALIDATIONS, steps)
            steps_per_epoch = -(-steps // epochs)
        module.total_steps = steps_per_epoch * epochs
        self._prepare(module, content, init_from)
        batches = ScanDataModule(
            self.scan,
            self.training,
            self.validation,
            context=cfg.context,
            batch_size=cfg.batch_size,
            steps_per_epoch=steps_per_epoch,
            workers=cfg.workers,
            seed=cfg.seed,
        )
        with _folder(self.output_dir) as folder:
            best = ModelCheckpoint(
                folder, "best", monitor="val/loss", save_last=True, enable_version_counter=False,
                save_on_train_epoch_end=True,
            )  # fmt: skip
            trainer = self._trainer(accelerator, epochs, best)
            try:
                trainer.fit(module, batches, ckpt_path=resume_from, weights_only=True)
            except TrainingError as error:
                if not best.best_model_path:
                    raise
                warnings.warn(str(error), stacklevel=4)
                module.history["unstable_at_step"] = [float(trainer.global_step)]
            except (MemoryError, torch.OutOfMemoryError) as error:
                raise _out_of_memory(error, cfg) from error
            if best.best_model_path:
                history = module.history
                module = Autoencoder.load_from_checkpoint(best.best_model_path)
                module.history = history
        module = module.cpu().eval()
        quality = [module.image_quality(batch) for batch in batches.validation[:1]]
        for name, value in quality[0].items():
            module.history.setdefault(f"final/{name}", []).append(value)
        latents = torch.cat([module.encode_batch(batch) for batch in batches.validation])
        summary = summarise(module.history, cfg, latents.numpy(), self.choices)
        if self.progress:
            print(summary)
        return LatentModel(module, summary)

    def _prepare(
        self, module: Autoencoder, content: dict[str, Any] | None, init_from: str | Path | None
    ) -> None:
        module.preprocessing.detector.set_mask(self.scan.pattern_mask)
        sample = module.preprocessing.fit(
            self.scan, self.training, counts=self.quality.counts, seed=self.config.seed
        )
        if content is None:
            module.initialise(sample)
        elif init_from is not None:
            _load_weights(module, content, init_from)

    def _trainer(self, accelerator: str, epochs: int, best: ModelCheckpoint) -> L.Trainer:
        cfg = self.config
        callbacks: list[L.Callback] = [HistoryRecorder(), best]
        if cfg.patience is not None:
            callbacks.append(EarlyStopping("val/loss", patience=cfg.patience))
        if cfg.max_time is not None:
            callbacks.append(Timer(cfg.max_time, interval="step", verbose=False))
        if self.progress:
            callbacks.append(TQDMProgressBar(leave=True))
        logger: TensorBoardLogger | bool = False
        if self.output_dir is not None:
            logger = TensorBoardLogger(self.output_dir, "tb_logs", default_hp_metric=False)
            callbacks.append(LearningRateMonitor("step"))
        return L.Trainer(
            accelerator=accelerator,
            devices=1,
            precision=cfg.precision,
            max_epochs=epochs,
            gradient_clip_val=cfg.gradient_clip or None,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            callbacks=callbacks,
            logger=logger,
            log_every_n_steps=1,
            enable_progress_bar=self.progress,
            enable_model_summary=False,
        )


def _config(
    content: dict[str, Any] | None,
    preset: str,
    config: TrainingConfig | None,
    arguments: dict[str, Any],
    resumed: bool,
) -> TrainingConfig:
    """The configuration that is asked for, with what a checkpoint fixes taken from there."""
    if config is not None and (arguments or preset != "default"):
        raise ArgumentError(
            "config and training arguments contradict each other",
            expected="either config, or preset and training arguments",
            received=f"config and {', '.join(arguments) or f'preset={preset!r}'}",
            advice="Use TrainingConfig.from_arguments(preset, ...) to make one config of them.",
        )
    if content is None:
        return config or TrainingConfig.from_arguments(preset, **arguments)
    stored = content["hyper_parameters"]["config"]
    asked = arguments
    if config is not None:
        asked = config.model_dump(exclude_unset=True)
    checked = TrainingConfig.from_arguments(preset, **asked)
    fixed = set(TrainingConfig.model_fields) - _RESUMABLE if resumed else set(_STRUCTURE)
    for name in sorted(fixed & set(asked)):
        if getattr(checked, name) not in (TrainingConfig(**stored).__getattribute__(name), "auto"):
            raise ModelMismatchError(
                f"{name} differs from the checkpoint's",
                expected=f"{name}={stored[name]!r}, which the checkpoint was trained with",
                received=f"{name}={asked[name]!r}",
                advice=f"Leave {name} out"
                + (
                    ", or use init_from to start afresh from the weights."
                    if resumed
                    else ", or train from scratch."
                ),
            )
    if resumed:
        kept = {name: getattr(checked, name) for name in _RESUMABLE & set(asked)}
        return TrainingConfig(**{**stored, **kept})
    return checked.model_copy(
        update={name: TrainingConfig(**stored).__getattribute__(name) for name in _STRUCTURE}
    )


def _load_weights(module: Autoencoder, content: dict[str, Any], path: str | Path) -> None:
    """Weights of a checkpoint; the statistics stay those of the new data."""
    if "state_dict" not in content:
        raise CheckpointError(
            "the checkpoint has no weights",
            expected="a state_dict",
            received=f"'{path}'",
            advice="Give a file written by LatentModel.save or by training.",
        )
    shape = tuple(content["hyper_parameters"]["pattern_shape"])
    if not module.network.any_shape and shape != module.preprocessing.detector.pattern_shape:
        raise ModelMismatchError(
            "the pattern shape differs from the checkpoint's",
            expected=f"patterns of {shape[0]} x {shape[1]} pixels, which network='compact' was made for",
            received="{} x {} pixels".format(*module.preprocessing.detector.pattern_shape),
            advice="Crop the detector to that shape, or train from scratch, or use network='resnet', "
            "which takes any pattern shape.",
        )
    weights = {
        name[8:]: value for name, value in content["state_dict"].items() if name.startswith("network.")
    }
    module.network.load_state_dict(weights)


def _accelerator(device: str) -> str:
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    available["gpu"] = any(available.values())
    if not available.get(device, True):
        raise ArgumentError(
            f"there is no {device} device",
            expected="a device of this machine: "
            + ", ".join(["auto", "cpu", *(n for n, ok in available.items() if ok)]),
            received=f"device={device!r}",
            advice="Use device='cpu' or 'auto'.",
        )
    return device


def _out_of_memory(error: BaseException, config: TrainingConfig) -> TrainingError:
    return TrainingError(
        "out of memory",
        expected="enough memory for one step",
        received=str(error).splitlines()[0] if str(error) else type(error).__name__,
        advice=f"Reduce batch_size (it is {config.batch_size}), set bin=2, use device='cpu', or preset='low-memory'.",
    )


@contextlib.contextmanager
def _folder(output_dir: Path | None) -> Iterator[Path]:
    """Where checkpoints go: under the output folder, or for the run alone."""
    if output_dir is not None:
        yield output_dir / "checkpoints"
        return
    with tempfile.TemporaryDirectory(prefix="latentstem-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without Lightning's hints on hardware and loaders, which are no news to a microscopist."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "pytorch_lightning")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning")
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
