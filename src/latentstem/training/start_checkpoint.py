"""Where a run starts from: what the user asked for, and what a checkpoint gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import TrainingConfig
from ..errors import ArgumentError, ArgumentText, CheckpointError, ModelMismatchError
from ..io.checkpoint import read_checkpoint
from ..nn.autoencoder import Autoencoder
from ..scan.scan import Scan
from ..util.paths import local_path

__all__ = ["Start", "requested_config"]

#: what a checkpoint's weights fix, so that fine-tuning takes it from there
_STRUCTURE = ("network", "latent_dim", "preprocessing", "reconstruction", "context", "bin", "crop")
#: what may differ when a run is resumed
_RESUMABLE = {"epochs", "max_patterns", "max_time", "device", "workers"}
#: what is asked for at each call, whatever the checkpoint's run had
_PLACE = {"devices", "strategy", "num_nodes"}


@dataclass(frozen=True)
class Start:
    """A checkpoint to start from.

    Parameters
    ----------
    path : Path
        Where it is.
    module : Autoencoder
        What it holds.
    resumed : bool
        Whether its run is continued, rather than a new one started from its weights.
    epochs, steps : int
        How many epochs that were validated, the last of them perhaps cut short, and steps its run has done.
    """

    path: Path
    module: Autoencoder
    resumed: bool
    epochs: int = 0
    steps: int = 0

    @classmethod
    def read(cls, init_from: str | Path | None, resume_from: str | Path | None) -> Start | None:
        """The checkpoint that is asked for, if any.

        Raises
        ------
        ArgumentError
            If two are asked for.
        CheckpointError
            If it cannot be read, or holds a finished model where a run is to be resumed.
        """
        if init_from is not None and resume_from is not None:
            raise ArgumentError(
                ArgumentText(
                    "{init_from} and {resume_from} contradict each other", init_from=None, resume_from=None
                ),
                expected="one of them",
                received="both",
                advice=ArgumentText(
                    "{init_from} starts afresh from weights; {resume_from} continues an interrupted run.",
                    init_from=None,
                    resume_from=None,
                ),
            )
        if init_from is not None:
            path = local_path(init_from, CheckpointError)
            return cls(path, Autoencoder.load_from_checkpoint(init_from), resumed=False)
        if resume_from is None:
            return None
        content = read_checkpoint(resume_from)
        if "optimizer_states" not in content:
            raise CheckpointError(
                "the checkpoint cannot be resumed",
                expected="a checkpoint of a run: checkpoints/last.ckpt under its output_dir",
                received=f"'{resume_from}', a saved model",
                advice=ArgumentText("Use {init_from} to start afresh from its weights.", init_from=None),
            )
        module = Autoencoder.from_content(content, resume_from)
        groups = content["optimizer_states"][0]["param_groups"]
        if (module.network.optimiser == "muon") != ("matrices" in groups[0]):
            raise CheckpointError(
                "the run cannot be resumed",
                expected=f"a run that was trained with {module.network.optimiser}, as this version does",
                received=f"'{resume_from}', of version {module.versions['latentstem']}, with another optimiser",
                advice=ArgumentText("Use {init_from} to start afresh from its weights.", init_from=None),
            )
        epochs = content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        return cls(Path(resume_from), module, True, epochs, content["global_step"])

    def check(self, scan: Scan) -> None:
        """Refuse a scan that the run cannot go on with, or whose patterns the weights cannot take.

        Raises
        ------
        ModelMismatchError
        """
        shape, stored = self.module.preprocessing.detector.pattern_shape, self.module.hyper_parameters["scan"]
        if self.resumed and list(scan.scan_shape) + list(scan.pattern_shape) != (
            stored["scan_shape"] + stored["pattern_shape"]
        ):
            raise ModelMismatchError(
                "the scan differs from the one of the run to resume",
                expected=_shown(stored["scan_shape"], stored["pattern_shape"]),
                received=_shown(scan.scan_shape, scan.pattern_shape),
                advice=ArgumentText(
                    "Give the data of that run, or use {init_from} to start afresh from the weights.",
                    init_from=None,
                ),
            )
        if not self.module.network.shape_independent and shape != scan.pattern_shape:
            raise ModelMismatchError(
                "the pattern shape differs from the checkpoint's",
                expected=f"patterns of {shape[0]} x {shape[1]} pixels, which the network was made for",
                received=f"{scan.pattern_shape[0]} x {scan.pattern_shape[1]} pixels",
                advice="Crop the data to that shape, or train from scratch, or use network='resnet', which takes "
                "any pattern shape.",
            )


def _shown(scan_shape: Any, pattern_shape: Any) -> str:
    return "a {} x {} scan of {} x {} pixels".format(*scan_shape, *pattern_shape)


def requested_config(
    start: Start | None, preset: str, config: TrainingConfig | None, arguments: dict[str, Any]
) -> TrainingConfig:
    """The configuration that is asked for, with what a checkpoint fixes taken from there.

    Raises
    ------
    ArgumentError
        For arguments that are unknown, out of range or contradictory.
    ModelMismatchError
        For arguments that contradict the checkpoint.
    """
    if config is not None and (arguments or preset != "default"):
        raise ArgumentError(
            "config and training arguments contradict each other",
            expected="either config, or preset and training arguments",
            received=f"config and {', '.join(arguments) or f'preset={preset!r}'}",
            advice="Use TrainingConfig.from_arguments(preset, ...) to make one config of them.",
        )
    if start is None:
        return config or TrainingConfig.from_arguments(preset, **arguments)
    stored = dict(start.module.config)
    asked = arguments if config is None else config.model_dump(exclude_unset=True)
    checked = dict(TrainingConfig.from_arguments(preset, **asked))
    fixed = stored.keys() - _RESUMABLE - _PLACE if start.resumed else set(_STRUCTURE)
    for name in sorted(fixed & asked.keys()):
        if checked[name] not in (stored[name], "auto"):
            remedy = (
                "use {init_from} to start afresh from the weights" if start.resumed else "train from scratch"
            )
            raise ModelMismatchError(
                f"{name} differs from the checkpoint's",
                expected=f"{name}={stored[name]!r}, which the checkpoint was trained with",
                received=f"{name}={asked[name]!r}",
                advice=ArgumentText(f"Leave {name} out, or {remedy}.", init_from=None),
            )
    if start.resumed:
        taken = (_RESUMABLE & asked.keys()) | _PLACE
        return TrainingConfig(**stored | {name: checked[name] for name in taken})
    return TrainingConfig(**checked | {name: stored[name] for name in _STRUCTURE})
