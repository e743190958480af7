"""The Lightning module: steps, logs and the optimiser of an `Autoencoder`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import pytorch_lightning as L
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from ..errors import TrainingError
from ..nn.autoencoder import Autoencoder
from ..nn.batches import PatternBatch
from ..nn.stored_names import keep_stored_names
from .muon import Muon

__all__ = ["TrainingModule"]


class TrainingModule(L.LightningModule):
    """Trains an autoencoder.

    Parameters
    ----------
    autoencoder : Autoencoder
        The network and its objective. Its weights go into Lightning's checkpoints under the same
        names as in a saved model.
    """

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        # a frame is given, otherwise Lightning keeps a reference cycle through its own stack frame
        frame = inspect.currentframe()
        self.save_hyperparameters(autoencoder.hyper_parameters, logger=False, frame=frame)
        self.autoencoder, self.config = autoencoder, autoencoder.config
        self.total_steps = 1
        self.elapsed_fraction = 0.0  # of the time limit, if there is one
        self._sums: dict[str, Tensor | float] = {}  # over the steps of an epoch
        keep_stored_names(self, {"autoencoder.": ""})

    def training_step(self, batch: PatternBatch, batch_idx: int) -> Tensor:
        """One step; every term is added to the sums of the epoch."""
        terms = self.autoencoder.loss(batch, self._generator(self.global_step, self.global_rank))
        self._require_finite(terms["loss"])
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()
        self._sums["steps"] = self._sums.get("steps", 0) + 1
        return terms["loss"]

    def pop_epoch_means(self) -> dict[str, Tensor | float]:
        """Mean of each term over the steps since the last call."""
        sums, self._sums = self._sums, {}
        steps = sums.pop("steps", 1)
        return {f"train/{name}": value / steps for name, value in sums.items()}

    def validation_step(self, batch: PatternBatch, batch_idx: int) -> None:
        """Objective on held-out positions, with fixed random numbers for the thinning."""
        terms = self.autoencoder.loss(batch, self._generator(-1 - batch_idx))
        self._require_finite(terms["loss"])
        # every rank validates on all held-out patterns, so the synchronised mean equals the single-process value
        values = {f"val/{name}": value for name, value in terms.items()}
        self.log_dict(values, batch_size=len(batch.patterns), sync_dist=True)
        if self.config.realtime_metrics and batch_idx == 0:
            quality = self.autoencoder.image_quality(batch)
            self.log_dict({f"val/{k}": v for k, v in quality.items()}, batch_size=1, sync_dist=True)

    @torch.no_grad()
    def validation_loss(self, batches: Iterable[PatternBatch]) -> float:
        """Mean loss over all held-out patterns, as `validation_step` logs it."""
        losses, sizes = [], []
        for i, batch in enumerate(batches):
            losses.append(float(self.autoencoder.loss(batch, self._generator(-1 - i))["loss"]))
            sizes.append(len(batch.patterns))
        return sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / sum(sizes)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The network's optimiser, with warm-up and the configured schedule, stepped at every batch.

        Weight decay applies to weight matrices and kernels only.
        """
        network, layers = self.autoencoder.network, (nn.Linear, nn.Conv2d)
        matrices = [layer.weight for layer in network.modules() if isinstance(layer, layers)]
        matrix_ids = {id(weight) for weight in matrices}
        other_weights = [weight for weight in self.parameters() if id(weight) not in matrix_ids]
        rate, decay = self.config.learning_rate, self.config.weight_decay
        optimiser: torch.optim.Optimizer
        if network.optimiser == "muon":
            optimiser = Muon(matrices, other_weights, rate, decay)
        else:
            optimiser = torch.optim.AdamW(
                [{"params": matrices, "weight_decay": decay}, {"params": other_weights, "weight_decay": 0.0}],
                lr=rate,
                betas=(0.9, 0.99),
                fused=self.config.precision == "32-true",  # fused: no clipping in mixed precision
            )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, self._learning_rate_factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add provenance and the state of the epoch, as plain values and tensors."""
        epoch_state = {"total_steps": self.total_steps, "sums": dict(self._sums)}
        checkpoint["latentstem"] = self.autoencoder.provenance() | epoch_state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the history and the running sums of an unfinished epoch when training is resumed."""
        metadata = checkpoint["latentstem"]
        self.autoencoder.history = {name: list(values) for name, values in metadata["history"].items()}
        self._sums = dict(metadata.get("sums", {}))

    def _require_finite(self, loss: Tensor) -> None:
        """Raise if the loss is not finite on any rank."""
        if self.trainer.strategy.reduce_boolean_decision(bool(torch.isfinite(loss))):
            return
        raise TrainingError(
            "training became unstable",
            expected="a finite loss",
            received=f"{loss.item()} at step {self.global_step}",
            advice=f"Lower learning_rate (it is {self.config.learning_rate:g}; try a tenth), reduce batch_size, or "
            "check the data for extreme values.",
        )

    def _learning_rate_factor(self, step: int) -> float:
        warm_up = min(1.0, (step + 1) / max(1, min(50, self.total_steps // 10)))
        if self.config.schedule == "constant":
            return warm_up
        progress = min(1.0, max(step / self.total_steps, self.elapsed_fraction))
        return warm_up * (0.02 + 0.98 * (1 + torch.cos(torch.tensor(progress * torch.pi)).item()) / 2)

    def _generator(self, number: int, rank: int = 0) -> torch.Generator:
        # Seeded by the step number, so that a resumed run draws the same numbers; each rank has its own stream.
        # PyTorch's CPU generator uses only the lowest 32 bits of a seed.
        seed = (self.config.seed * 1_000_003 + number + rank * 0x9E3779B1) % 2**32
        return torch.Generator(device=self.device).manual_seed(seed)
