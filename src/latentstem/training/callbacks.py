"""What is recorded while a run goes on."""

from __future__ import annotations

import pytorch_lightning as L

from .module import Autoencoder

__all__ = ["HistoryRecorder"]


class HistoryRecorder(L.Callback):
    """Keeps the metrics of every epoch in the model's history, and the weights of the terms in the logger."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Append one value to each series."""
        if not isinstance(pl_module, Autoencoder):
            return
        config = pl_module.config
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        values["epoch"] = trainer.current_epoch
        values["patterns_seen"] = trainer.global_step * config.batch_size
        values["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        for name, value in values.items():
            pl_module.history.setdefault(name, []).append(value)
        if trainer.logger is not None:
            weights = {
                f"weights/{name}": getattr(config, name)
                for name in ("lambda_act", "lambda_sim", "lambda_div")
            }
            trainer.logger.log_metrics(
                {"learning_rate": values["learning_rate"], **weights}, step=trainer.global_step
            )
