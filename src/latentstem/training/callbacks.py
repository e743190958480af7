"""What is recorded while a run goes on, and what stops it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as L
from pytorch_lightning.callbacks import ModelCheckpoint, Timer

from .module import Autoencoder

__all__ = ["Checkpoints", "HistoryRecorder", "TimeLimit"]


class Checkpoints(ModelCheckpoint):
    """Keeps ``best.ckpt``, of the lowest validation loss, and ``last.ckpt``.

    Parameters
    ----------
    folder : Path
        Where they go.
    resumed : Path, optional
        Checkpoint of the run that is continued. The best one is looked for beside it.
    """

    def __init__(self, folder: Path, resumed: Path | None = None) -> None:
        super().__init__(
            folder,
            "best",
            monitor="val/loss",
            save_last=True,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self._resumed = resumed

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the best checkpoint of the interrupted run, wherever that was."""
        best = Path(self.dirpath or "") / "best.ckpt"
        before = best if self._resumed is None else self._resumed.with_name("best.ckpt")
        if not before.is_file():
            return
        if before.resolve() != best.resolve():
            best.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(before, best)
        paths = {"dirpath": self.dirpath, "last_model_path": ""}
        paths |= dict.fromkeys(("best_model_path", "kth_best_model_path"), str(best))
        super().load_state_dict(
            {**state_dict, **paths, "best_k_models": {str(best): state_dict["best_model_score"]}}
        )


class TimeLimit(Timer):
    """Stops training after some time, which a resumed run has anew."""

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Tell the learning-rate schedule how much of the time is over."""
        remaining = self.time_remaining() or 0.0
        if isinstance(pl_module, Autoencoder):
            elapsed = self.time_elapsed()
            pl_module.time_share = elapsed / max(elapsed + remaining, 1e-9)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Forget the time that is over."""


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
