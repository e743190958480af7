"""The checkpoint that a run starts from, and the user's arguments combined with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import FIXED_BY_WEIGHTS, RESUMABLE, TrainingConfig
from ..errors import ArgumentError, ArgumentText, CheckpointError, ModelMismatchError
from ..io.checkpoint import read_checkpoint
from ..nn.autoencoder import Autoencoder
from ..scan.scan import Scan
from ..util.paths import local_path

__all__ = ["StartCheckpoint", "merge_config"]

#: fields always taken from the call, never from the checkpoint
_LAUNCH_ARGUMENTS = {"devices", "strategy", "num_nodes"}


@dataclass(frozen=True)
class StartCheckpoint:
    """A checkpoint to start from."""

    path: Path
    autoencoder: Autoencoder
    resumed: bool  # True: resume the run. False: fine-tune from its weights.
    epochs: int = 0  # finished ones of the run; the last may be shortened
    steps: int = 0  # of the run

    @classmethod
    def read(cls, init_from: str | Path | None, resume_from: str | Path | None) -> StartCheckpoint | None:
        """Read the requested checkpoint, if any.

        Raises
        ------
        ArgumentError
            If two are requested.
        CheckpointError
            If it cannot be read, or is a saved model where a run is to be resumed.
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
        autoencoder = Autoencoder.from_checkpoint_dict(content, resume_from)
        groups = content["optimizer_states"][0]["param_groups"]
        if (autoencoder.network.optimiser == "muon") != ("matrices" in groups[0]):
            raise CheckpointError(
                "the run cannot be resumed",
                expected=f"a run that was trained with {autoencoder.network.optimiser}, as this version does",
                received=f"'{resume_from}', of version {autoencoder.versions['latentstem']}, with another optimiser",
                advice=ArgumentText("Use {init_from} to start afresh from its weights.", init_from=None),
            )
        epochs = content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        return cls(Path(resume_from), autoencoder, True, epochs, content["global_step"])

    def check(self, scan: Scan) -> None:
        """Raise a ModelMismatchError unless the scan is that of the run to resume, and its patterns fit the weights."""
        shape = self.autoencoder.preprocessing.detector.pattern_shape
        trained_on = self.autoencoder.hyper_parameters["scan"]
        expected = (*trained_on["scan_shape"], *trained_on["pattern_shape"]) if self.resumed else None
        received = (*scan.scan_shape, *scan.pattern_shape)
        if expected is not None and received != expected:
            describe = "a {} x {} scan of {} x {} pixels".format
            raise ModelMismatchError(
                "the scan differs from the one of the run to resume",
                expected=describe(*expected),
                received=describe(*received),
                advice=ArgumentText(
                    "Give the data of that run, or use {init_from} to start afresh from the weights.",
                    init_from=None,
                ),
            )
        if not self.autoencoder.network.shape_independent and shape != scan.pattern_shape:
            raise ModelMismatchError(
                "the pattern shape differs from the checkpoint's",
                expected=f"patterns of {shape[0]} x {shape[1]} pixels, which the network was made for",
                received=f"{scan.pattern_shape[0]} x {scan.pattern_shape[1]} pixels",
                advice="Crop the data to that shape, or train from scratch, or use network='resnet', which takes "
                "any pattern shape.",
            )


def merge_config(
    start: StartCheckpoint | None, preset: str, config: TrainingConfig | None, arguments: dict[str, Any]
) -> TrainingConfig:
    """The requested configuration, in which the fields that are fixed by the checkpoint have its values.

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
    stored_config = dict(start.autoencoder.config)
    requested = arguments if config is None else config.model_dump(exclude_unset=True)
    requested_config = dict(TrainingConfig.from_arguments(preset, **requested))
    fixed_fields = set(FIXED_BY_WEIGHTS)
    if start.resumed:
        fixed_fields = stored_config.keys() - RESUMABLE - _LAUNCH_ARGUMENTS
    for name in sorted(fixed_fields & requested.keys()):
        if requested_config[name] not in (stored_config[name], "auto"):
            remedy = (
                "use {init_from} to start afresh from the weights" if start.resumed else "train from scratch"
            )
            raise ModelMismatchError(
                f"{name} differs from the checkpoint's",
                expected=f"{name}={stored_config[name]!r}, which the checkpoint was trained with",
                received=f"{name}={requested[name]!r}",
                advice=ArgumentText(f"Leave {name} out, or {remedy}.", init_from=None),
            )
    if start.resumed:
        changed_fields = (RESUMABLE & requested.keys()) | _LAUNCH_ARGUMENTS
        return TrainingConfig(**stored_config | {name: requested_config[name] for name in changed_fields})
    return TrainingConfig(**requested_config | {name: stored_config[name] for name in FIXED_BY_WEIGHTS})
