"""The Lightning module: preprocessing, network and objective. It never sees a host's object or the data module."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as L
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from ..checkpoint import altered, read_checkpoint
from ..config import TrainingConfig
from ..context import Context
from ..draws import drawn_from
from ..errors import TrainingError
from ..losses import Objective
from ..metrics import image_quality
from ..networks import build_network
from ..preprocessing import Detector, Preprocessing
from .counts import split_counts
from .optimiser import Muon
from .reader import Batch

__all__ = ["FORMAT_VERSION", "Autoencoder"]

#: version of the checkpoint layout; a newer one is refused
FORMAT_VERSION = 2


class Autoencoder(L.LightningModule):
    """Autoencoder of diffraction patterns.

    Parameters
    ----------
    config : dict
        A resolved `TrainingConfig` (nothing left at ``auto``) as plain values.
    pattern_shape : (int, int)
        Detector rows and columns (H, W).
    scan : dict, optional
        `Scan.signature` of the training data.
    choices : list of str, optional
        What ``auto`` chose, and why.
    format_version : int
        Of the checkpoint that its weights are from: a network goes on as it began.
    """

    def __init__(
        self,
        config: dict[str, Any],
        pattern_shape: tuple[int, int],
        scan: dict[str, Any] | None = None,
        choices: list[str] | None = None,
        format_version: int = FORMAT_VERSION,
    ) -> None:
        super().__init__()
        self.format_version = format_version
        pattern_shape = (int(pattern_shape[0]), int(pattern_shape[1]))
        self.save_hyperparameters(
            {
                "config": config,
                "pattern_shape": list(pattern_shape),
                "scan": scan or {},
                "choices": choices or [],
            },
            logger=False,
            frame=inspect.currentframe(),  # else Lightning's own frame refers to itself, and to all of its callers
        )
        self.config = cfg = TrainingConfig(**config)
        self.preprocessing = Preprocessing(cfg.preprocessing, Detector(pattern_shape, cfg.bin, cfg.crop))
        with drawn_from(cfg.seed):
            self.network = build_network(
                cfg.network,
                self.preprocessing.shape,
                int(cfg.latent_dim),
                context=cfg.context,
                counts=cfg.reconstruction == "poisson",
                smooth=format_version == 1,
            )
        self.context = Context(self.preprocessing, self.network.components, cfg.context)
        self.objective = Objective(cfg.reconstruction, cfg.lambda_act, cfg.lambda_sim, cfg.lambda_div)
        self.history: dict[str, list[float]] = {}
        self.versions = {
            name: version(name) for name in ("latentstem", "torch", "pytorch-lightning", "numpy")
        }
        self.has_axes = False  # whether the latents are in the axes that they end up in
        self.total_steps = 1
        self.time_share = 0.0  # of the time limit, if there is one
        self._sums: dict[str, Tensor | float] = {}  # over the steps of an epoch
        self.float()  # also where the user's default is another

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path, *args: Any, **kwargs: Any) -> Autoencoder:  # type: ignore[override]
        """Load a checkpoint; nothing in it is executed.

        Parameters
        ----------
        checkpoint_path : str or Path
            A file written by `LatentModel.save` or by training.

        Raises
        ------
        CheckpointError
            If the file is missing, damaged, not of this package, or of a newer format.
        """
        return cls.from_content(read_checkpoint(checkpoint_path), checkpoint_path)

    @classmethod
    def from_content(cls, content: dict[str, Any], path: str | Path) -> Autoencoder:
        """The module of a checkpoint that has been read."""
        try:
            made_of = content["hyper_parameters"] | {
                "format_version": content["latentstem"]["format_version"]
            }
            with torch.device("meta"):  # without memory: what is asked for may be absurdly large
                expected = {name: tensor.shape for name, tensor in cls(**made_of).state_dict().items()}
            stored = {name: tensor.shape for name, tensor in content["state_dict"].items()}
            for name in sorted(expected.keys() | stored.keys()):
                if expected.get(name) != stored.get(name):
                    shapes = (
                        None if of is None else tuple(of) for of in (stored.get(name), expected.get(name))
                    )
                    raise ValueError("{} is of shape {} and not {}".format(name, *shapes))
            model = cls(**made_of)
            model.load_state_dict(content["state_dict"])
            ours = content["latentstem"]
            model.history = {name: list(values) for name, values in ours["history"].items()}
            model.versions = dict(ours["versions"])
            if ours.get("axes") is not None:
                model.set_axes(**ours["axes"])
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise altered(path, error) from None
        return model.eval()

    # ---- patterns to latents and back ----

    def values(self, patterns: Tensor) -> Tensor:
        """Patterns (B, H, W) to detector values on the network's pixels (B, h, w)."""
        return self.preprocessing.detector(patterns)

    def encode(self, values: Tensor, rings: Tensor | None = None, members: Tensor | None = None) -> Tensor:
        """Latents (B, k) of detector values.

        Parameters
        ----------
        values : Tensor, shape (B, h, w)
        rings, members : Tensor, optional
            Of their surroundings; see `Batch`.
        """
        if self.network.components:
            return self.network.encode(self.context.scores(values), rings, members)
        x = torch.where(self.preprocessing.detector.used > 0, self.preprocessing(values), 0.0)
        return self.network.encode(x)

    @torch.no_grad()
    def encode_batch(self, batch: Batch) -> Tensor:
        """Patterns as they were recorded, with their surroundings, to latents (B, k)."""
        if batch.scores is not None:
            return self.network.encode(batch.scores, batch.rings, batch.members)
        return self.encode(self.values(batch.recorded))

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, k) to expected detector values (B, h, w)."""
        return self._expected(self.network.decode(latents))

    def _expected(self, output: Tensor) -> Tensor:
        # Poisson: the network gives the square root of the expected counts, for which the Fisher information is
        # constant and which is never negative; else it gives the preprocessed pattern.
        if self.config.reconstruction != "poisson":
            return self.preprocessing.inverse(output)
        return self.preprocessing.fitted_range[1] * output.square()

    def _output(self, values: Tensor) -> Tensor:
        """What the network should give for these detector values."""
        if self.config.reconstruction != "poisson":
            return self.preprocessing(values)
        return (values / self.preprocessing.fitted_range[1]).sqrt()

    @torch.no_grad()
    def initialise(self, mean: Tensor) -> None:
        """Let the network start from a sample of detector values (n, h, w), averaged with their neighbours."""
        unit = None
        if self.config.reconstruction == "poisson":  # one electron, in the space of the network's output
            unit = (self.preprocessing.unit / self.preprocessing.fitted_range[1]).sqrt()
        self.network.initialise(self._output(mean), unit)

    def set_axes(self, centre: Tensor, axes: Tensor) -> None:
        """Express latents in other axes, to which training does not come back; see `Network.set_axes`.

        Raises
        ------
        ValueError
            If there is not one finite axis for each latent.
        """
        k = self.network.latent_dim
        fit = centre.shape == (k,) and axes.shape == (k, k) and centre.dtype == axes.dtype == torch.float64
        if not (fit and torch.isfinite(centre).all() and torch.isfinite(torch.linalg.inv(axes)).all()):
            raise ValueError(f"{tuple(axes.shape)} are no axes of {k} latents")
        self.network.set_axes(centre, axes)
        self.has_axes = True

    # ---- Lightning ----

    def losses(
        self, batch: Batch, generator: torch.Generator, agreed: Callable[[bool], bool] = bool
    ) -> dict[str, Tensor]:
        """The terms of the objective for one batch.

        Parameters
        ----------
        batch : Batch
        generator : torch.Generator
            Of the thinning.
        agreed : callable
            Makes of whether the loss is finite here whether it is so in all processes.

        Raises
        ------
        TrainingError
            If their sum is not finite.
        """
        values, rings = self.values(batch.recorded), batch.rings
        cfg, pre = self.config, self.preprocessing
        seen, target, share = values, values, 1.0
        if cfg.split_counts:
            seen, target = split_counts(values, generator)
            seen, share = seen * 2, 0.5
            if rings is not None and batch.members is not None:  # as noisy as the halves that are seen
                noise = torch.empty_like(rings).normal_(generator=generator)
                rings = rings + batch.members.sqrt()[:, :, None] * self.context.noise * noise
        latents = self.encode(seen, rings, batch.members).float()
        output = self.network.decode(latents).float()
        if cfg.reconstruction == "poisson":
            predicted = (share * pre.fitted_range[1] / pre.unit) * output.square()
            target = target / pre.unit
        else:
            predicted, target = output, pre(target)
        # a hundredth of the mean count, and no more than matters at usual doses
        floor = (0.01 * pre.mean_value / pre.unit).clamp(max=1e-4)
        terms = self.objective(predicted, target, pre.detector.used, latents, floor)
        if not agreed(bool(torch.isfinite(terms["loss"]))):
            raise TrainingError(
                "training became unstable",
                expected="a finite loss",
                received=f"{terms['loss'].item()} at step {self.global_step}",
                advice=f"Lower learning_rate (it is {cfg.learning_rate:g}; try a tenth), reduce batch_size, or "
                "check the data's normalisation.",
            )
        return terms

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step; every term is added to the sums of the epoch."""
        agreed = self.trainer.strategy.reduce_boolean_decision
        terms = self.losses(batch, self._generator(self.global_step, self.global_rank), agreed)
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()
        self._sums["steps"] = self._sums.get("steps", 0) + 1
        return terms["loss"]

    def taken_means(self) -> dict[str, Tensor | float]:
        """Mean of each term over the steps since the last call."""
        sums, self._sums = self._sums, {}
        steps = sums.pop("steps", 1)
        return {f"train/{name}": value / steps for name, value in sums.items()}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The same objective on held-out scan positions, always with the same thinning."""
        terms = self.losses(batch, self._generator(-1 - batch_idx))
        # every process sees all held-out patterns: their mean is what one process finds, and the same for all
        found = {f"val/{name}": value for name, value in terms.items()}
        self.log_dict(found, batch_size=len(batch.recorded), sync_dist=True)
        if self.config.realtime_metrics and batch_idx == 0:
            quality = {f"val/{name}": value for name, value in self.image_quality(batch).items()}
            self.log_dict(quality, batch_size=1, sync_dist=True)

    @torch.no_grad()
    def validation_loss(self, batches: Iterable[Batch]) -> float:
        """The loss that `validation_step` logs, of all held-out patterns."""
        losses, weights = [], []
        for i, batch in enumerate(batches):
            losses.append(float(self.losses(batch, self._generator(-1 - i))["loss"]))
            weights.append(len(batch.recorded))
        return sum(loss * n for loss, n in zip(losses, weights, strict=True)) / sum(weights)

    @torch.no_grad()
    def image_quality(self, batch: Batch, limit: int = 128) -> dict[str, float]:
        """PSNR and SSIM of the reconstructions of at most `limit` patterns, in the preprocessed space."""
        batch = batch.take(slice(limit))
        values, pre = self.values(batch.recorded), self.preprocessing
        low, high = (float(v) for v in pre(pre.fitted_range.reshape(2, 1, 1)).flatten())
        restored = pre(self.decode(self.encode_batch(batch)))
        return image_quality(restored, pre(values), high - low, pre.detector.used > 0)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The network's optimiser, with warm-up and the configured schedule, stepped at every batch.

        Only layers' weights decay.
        """
        layers = (nn.Linear, nn.Conv2d)
        matrices = [layer.weight for layer in self.network.modules() if isinstance(layer, layers)]
        chosen = {id(weight) for weight in matrices}
        others = [weight for weight in self.parameters() if id(weight) not in chosen]
        rate, decay = self.config.learning_rate, self.config.weight_decay
        optimiser: torch.optim.Optimizer
        if self.network.optimiser == "muon":
            optimiser = Muon(matrices, others, rate, decay)
        else:
            optimiser = torch.optim.AdamW(
                [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}],
                lr=rate,
                betas=(0.9, 0.99),
                fused=self.config.precision == "32-true",  # a fused one cannot be clipped in mixed precision
            )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, self._learning_rate_factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _learning_rate_factor(self, step: int) -> float:
        warm_up = min(1.0, (step + 1) / max(1, min(50, self.total_steps // 10)))
        if self.config.schedule == "constant":
            return warm_up
        progress = min(1.0, max(step / self.total_steps, self.time_share))
        return warm_up * (0.02 + 0.98 * (1 + torch.cos(torch.tensor(progress * torch.pi)).item()) / 2)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what makes the checkpoint complete: format, history, versions; plain values and tensors only."""
        checkpoint["latentstem"] = self.provenance()
        checkpoint["latentstem"] |= {"total_steps": self.total_steps, "sums": dict(self._sums)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the history up again when training is resumed, and the sums over the steps of an unfinished epoch."""
        self.history = {name: list(values) for name, values in checkpoint["latentstem"]["history"].items()}
        self._sums = dict(checkpoint["latentstem"].get("sums", {}))

    def provenance(self) -> dict[str, Any]:
        """Format, history and versions, as plain values."""
        return {
            "format_version": self.format_version,
            "history": {name: list(values) for name, values in self.history.items()},
            "versions": dict(self.versions),
        }

    def _generator(self, number: int, rank: int = 0) -> torch.Generator:
        # The step's own number seeds it, so that a resumed run draws what an uninterrupted one would have drawn;
        # processes draw apart. On a CPU, PyTorch heeds the lowest 32 bits alone.
        seed = (self.config.seed * 1_000_003 + number + rank * 0x9E3779B1) % 2**32
        return torch.Generator(device=self.device).manual_seed(seed)
