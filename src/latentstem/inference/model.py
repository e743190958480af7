"""The model that a user has after training, which embeds and reconstructs scans."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..config import TrainingConfig
from ..errors import ModelMismatchError
from ..io.checkpoint import read_checkpoint, write_checkpoint
from ..io.open import as_scan
from ..nn.autoencoder import Autoencoder
from ..nn.preprocessing import patterns_to_tensor
from ..scan.scan import Scan
from ..training.summary import Summary
from ..util.argument_checks import reject_unknown_kwargs
from .block_predictor import BlockPredictor
from .blockwise import predict
from .embedding import Embedding
from .reconstruction import reconstruct as reconstruct_scan
from .series import accepts_series
from .smoothing import check_radius

__all__ = ["LatentModel", "load"]

_DECODE_BATCH = 256  # latents that are decoded together


class LatentModel:
    """A trained autoencoder.

    Parameters
    ----------
    autoencoder : Autoencoder
        Network, preprocessing and configuration.
    summary : Summary
        Results of training: figures, success criteria and advice.
    evidence : dict, optional
        Result of `latentstem.report.evidence`, as plain values.
    """

    def __init__(
        self, autoencoder: Autoencoder, summary: Summary, evidence: dict[str, Any] | None = None
    ) -> None:
        self.autoencoder, self.summary, self.evidence = autoencoder.eval(), summary, evidence

    @property
    def config(self) -> TrainingConfig:
        """Resolved training configuration (no ``auto`` left)."""
        return self.autoencoder.config

    @property
    def history(self) -> dict[str, list[float]]:
        """Loss terms, metrics and learning rate per epoch, by name."""
        return self.autoencoder.history

    @property
    def context(self) -> int:
        """Radius of the neighbourhood that the encoder sees, in scan positions."""
        return self.config.context

    @property
    def pattern_shape(self) -> tuple[int, int]:
        """Detector rows and columns (H, W) of the patterns the model is for."""
        return self.autoencoder.preprocessing.detector.pattern_shape

    @property
    def scan_signature(self) -> dict[str, Any]:
        """Shape, dtype and axes of the scan it was trained on."""
        return dict(self.autoencoder.hyper_parameters["scan"])

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the packages that trained it."""
        return dict(self.autoencoder.versions)

    @reject_unknown_kwargs()
    @accepts_series
    def embed(
        self,
        data: Any,
        *,
        scan_shape: tuple[int, int] | None = None,
        scan_mask: Any = None,
        smooth: int | None = None,
        client: Any = None,
        progress: bool = False,
    ) -> Embedding:
        """Latents of a scan, computed block by block.

        Parameters
        ----------
        data : DataCube, Signal2D, array or path
            Anything `as_scan` reads, with patterns of the shape the model is for. For a series (a list, or a 5-D
            array) a list is returned, and `scan_shape`, `scan_mask` and `out` are lists.
        scan_shape, scan_mask
            See `as_scan`. Excluded scan positions are NaN and are not used as neighbours.
        smooth : int, optional
            Smoothing radius in scan positions: latents are averaged over similar neighbours only, see
            `latentstem.inference.smoothing.smooth_maps`. Default: the model's `context`. 0: no smoothing, the latents
            that `reconstruct` decodes.
        client : distributed.Client, optional
            Compute on the workers of this cluster. Without it dask.distributed is not used, even if a default client
            exists.
        progress : bool
            Show a progress bar.

        Returns
        -------
        Embedding
            ``.maps`` is an ndarray, shape (Ny, Nx, k), float32.

        Raises
        ------
        ModelMismatchError
            If the patterns have another shape than the model is for.
        ArgumentError
            If `smooth` is not a valid radius.
        """
        smooth = check_radius(self.context if smooth is None else smooth)
        scan = self.open_matching_scan(data, scan_shape, scan_mask)
        predictor = BlockPredictor(self.autoencoder, decode=False, source=scan.source)
        maps = predict(predictor, scan, client=client, progress=progress)
        provenance = {**self.describe(), "applied_to": scan.signature()}
        return Embedding(maps, scan.axes[:2], provenance).smoothed(smooth)

    @reject_unknown_kwargs()
    @accepts_series
    def reconstruct(
        self,
        data: Any,
        *,
        scan_shape: tuple[int, int] | None = None,
        scan_mask: Any = None,
        out: str | Path | None = None,
        overwrite: bool = False,
        client: Any = None,
        progress: bool = False,
    ) -> Any:
        """Reconstructed, denoised patterns of a scan, in the data's own units.

        Parameters
        ----------
        data, scan_shape, scan_mask, client, progress
            See `embed`.
        out : path, optional
            Output file, written block by block: ``.npy``, ``.npz``, ``.hspy``, ``.zspy``, or ``.h5`` (py4DSTEM). It
            appears only when complete.
        overwrite : bool
            Replace an existing file. The file from which `data` is read is never replaced.

        Returns
        -------
        array, shape (Ny, Nx, H, W), float32
            On the original detector grid: bins are spread evenly over their pixels, excluded pixels and pixels outside
            `crop` are 0, excluded scan positions NaN. An array in memory, or, with `out`, the read-only array in the
            file: a memory map (``.npy``, ``.npz``, ``.h5``), an ``h5py.Dataset`` (``.hspy``) or a ``zarr.Array``
            (``.zspy``).

        Raises
        ------
        ModelMismatchError
            If the patterns have another shape than the model is for.
        ArgumentError
            If memory or disk space is insufficient.
        FileError
            If nothing can be written to `out`.
        """
        scan = self.open_matching_scan(data, scan_shape, scan_mask)
        return reconstruct_scan(
            self.autoencoder, scan, out=out, overwrite=overwrite, client=client, progress=progress
        )

    def decode(self, latents: Any) -> np.ndarray:
        """Decode latents to patterns.

        Parameters
        ----------
        latents : array, shape (..., k)

        Returns
        -------
        ndarray, shape (..., H, W), float32
        """
        try:
            latents = torch.as_tensor(np.asarray(latents, dtype=np.float32))
        except (TypeError, ValueError):
            latents = torch.empty(0)
        if latents.ndim == 0 or latents.shape[-1] != self.config.latent_dim:
            raise ModelMismatchError(
                "latents do not fit the model",
                expected=f"{self.config.latent_dim} latents along the last axis",
                received=f"shape {tuple(latents.shape)}",
                advice="Give latents as in embed(...).maps.",
            )
        latents_2d = latents.reshape(-1, latents.shape[-1])
        patterns = [self.autoencoder.decode_patterns(batch) for batch in latents_2d.split(_DECODE_BATCH)] or [
            torch.empty(0, *self.pattern_shape)
        ]
        return torch.cat(patterns).numpy().reshape(*latents.shape[:-1], *self.pattern_shape)

    def save(self, path: str | Path) -> Path:
        """Write the model to one ``.ckpt`` file (atomically). Using it needs no training data."""
        return write_checkpoint(self._to_checkpoint(), path)

    def _to_checkpoint(self) -> dict[str, Any]:
        """The whole model, as tensors and plain values."""
        return self.autoencoder.content(summary=self.summary.as_dict(), evidence=self.evidence)

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_checkpoint, (self._to_checkpoint(), "another process")

    def describe(self) -> dict[str, Any]:
        """Configuration, preprocessing, training scan and versions, as plain values."""
        provenance = self.autoencoder.provenance()
        return {
            "format_version": provenance["format_version"],
            "config": self.config.model_dump(mode="json"),
            "preprocessing": self.autoencoder.preprocessing.describe(),
            "trained_on": self.scan_signature,
            "versions": provenance["versions"],
        }

    def __repr__(self) -> str:
        cfg, (height, width) = self.config, self.pattern_shape
        return f"LatentModel({cfg.network}, {cfg.latent_dim} latents, {height} x {width} pixels, {cfg.reconstruction})"

    def open_matching_scan(self, data: Any, scan_shape: tuple[int, int] | None, scan_mask: Any) -> Scan:
        """Open data as a scan and check that its patterns fit the model; see `embed`."""
        scan = as_scan(data, scan_shape, scan_mask=scan_mask)
        training_scan = self.scan_signature.get("name")
        if scan.pattern_shape != self.pattern_shape:
            raise ModelMismatchError(
                "the pattern shape does not fit the model",
                expected="{} x {} pixels, as in the training scan {!r}".format(
                    *self.pattern_shape, training_scan
                ),
                received=f"{scan.pattern_shape[0]} x {scan.pattern_shape[1]} pixels in {scan.name!r}",
                advice="Crop or bin the detector to that shape, or train on this scan.",
            )
        self._warn_if_intensities_differ(scan)
        return scan

    def _warn_if_intensities_differ(self, scan: Scan) -> None:
        """Warn if the mean intensity is ten times that of the training scan, or a tenth."""
        included = np.flatnonzero(~scan.excluded)
        sample = included[np.linspace(0, len(included) - 1, min(64, len(included))).astype(int)]
        values = self.autoencoder.values(patterns_to_tensor(scan.read(sample)))
        mean = float(values.sum((1, 2)).mean())
        training_mean = float(self.autoencoder.preprocessing.mean_total)
        if training_mean > 0 and np.isfinite(mean) and not 0.1 < mean / training_mean < 10:
            warnings.warn(
                f"The patterns of {scan.name!r} ({scan.dtype}) have a mean total intensity of {mean:.3g}, the training "
                f"scan ({self.scan_signature.get('dtype')}) of {training_mean:.3g}: latents may be meaningless. Train on "
                "this scan, or fine-tune with init_from.",
                stacklevel=4,
            )


def load(path: str | Path) -> LatentModel:
    """Load a model; nothing in the file is executed.

    Parameters
    ----------
    path : str or Path
        Path of a checkpoint written by `LatentModel.save` or by training.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, not of this package, or of a newer format.
    """
    return _from_checkpoint(read_checkpoint(path), path)


def _from_checkpoint(content: dict[str, Any], origin: str | Path) -> LatentModel:
    metadata = content["latentstem"]
    summary = metadata.get("summary") or {"figures": {}, "verdicts": {}, "advice": [], "choices": []}
    autoencoder = Autoencoder.from_checkpoint_dict(content, origin)
    return LatentModel(autoencoder, Summary(**summary), metadata.get("evidence"))
