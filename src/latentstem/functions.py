"""The functions ``train_autoencoder``, ``embed`` and ``reconstruct``, on which the methods of host objects are built.

torch is imported when they are called, so that importing them is quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import TrainingConfig
from .util.argument_checks import reject_unknown_kwargs

if TYPE_CHECKING:
    import pytorch_lightning as L

    from .inference.embedding import Embedding
    from .inference.model import LatentModel

__all__ = ["as_model", "embed", "reconstruct", "train_autoencoder", "training_argument_names"]


def training_argument_names() -> list[str]:
    """Names of all keyword arguments of `train_autoencoder`."""
    parameters = signature(train_autoencoder).parameters.values()
    keywords = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    return [*keywords, *TrainingConfig.model_fields]


@reject_unknown_kwargs(training_argument_names)
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
        Anything `as_scan` reads. From a series (a list, or a 5-D array), one model learns from all scans.
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
        Folder for a one-time copy of data that are slow to read (HDF5, zarr or lazy, in chunks). It is as large as the
        patterns; this size is stated, and must fit on the disk, before copying begins. An interrupted copy is
        continued, a finished one used again, until the file changes. Delete it when it is no longer needed.
    init_from : str or Path, optional
        Checkpoint whose weights training starts from, with a fresh optimiser: fine-tuning.
    resume_from : str or Path, optional
        Checkpoint (``checkpoints/last.ckpt``) of a run to continue exactly where it stopped: on the same machine with
        as many threads, it ends with the same latents as a run without interruption. Exceptions: `max_time`, which
        starts again and changes the learning-rate schedule, and a scan in chunks that fits into memory in only one of
        the two runs.
    baselines : bool
        Compare with PCA and NMF after training, and keep the result as ``model.evidence``; see `report.evidence`.
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
    from .inference.model import LatentModel
    from .report import evidence
    from .training.fit import fit

    def compare_baselines(result: Any, scan: Any) -> dict[str, Any]:
        comparison = evidence(LatentModel(*result), scan)
        if progress:
            print(comparison["verdict"])
        return comparison

    result, comparison = fit(
        data,
        scan_shape=scan_shape,
        scan_mask=scan_mask,
        pattern_mask=pattern_mask,
        preset=preset,
        config=config,
        output_dir=output_dir,
        cache_dir=cache_dir,
        init_from=init_from,
        resume_from=resume_from,
        progress=progress,
        callbacks=callbacks,
        training_arguments=training_arguments,
        evaluate=compare_baselines if baselines else None,
    )
    return LatentModel(*result, comparison)


def embed(data: Any, model: LatentModel | str | Path, **arguments: Any) -> Embedding:
    """Latents of a scan; see `LatentModel.embed`. The model may be the path of a checkpoint."""
    return as_model(model).embed(data, **arguments)


def reconstruct(data: Any, model: LatentModel | str | Path, **arguments: Any) -> Any:
    """Reconstructed patterns of a scan; see `LatentModel.reconstruct`. The model may be the path of a checkpoint."""
    return as_model(model).reconstruct(data, **arguments)


def as_model(model: LatentModel | str | Path) -> LatentModel:
    """Return a model; load it if a path is given."""
    from .inference.model import LatentModel, load

    return model if isinstance(model, LatentModel) else load(model)
