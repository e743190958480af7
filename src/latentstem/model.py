"""What a user holds after training: a model that embeds and reconstructs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm.auto import tqdm

from .checkpoint import read_checkpoint, write_checkpoint
from .config import TrainingConfig
from .embedding import Embedding
from .errors import ModelMismatchError
from .preprocessing import as_tensor
from .scan import Scan, as_scan
from .series import for_each_scan
from .summary import Summary
from .training.module import Autoencoder
from .training.reader import Batch, PatternReader

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LatentModel", "embed", "load", "reconstruct"]

_BATCH = 256  # patterns that go through the network together


class LatentModel:
    """A trained autoencoder.

    Parameters
    ----------
    module : Autoencoder
        Network, preprocessing and configuration.
    summary : Summary
        What came of training.
    evidence : dict, optional
        What `latentstem.report.evidence` measured, in plain values.
    """

    def __init__(self, module: Autoencoder, summary: Summary, evidence: dict[str, Any] | None = None) -> None:
        self.module, self.summary, self.evidence = module.eval(), summary, evidence

    @property
    def config(self) -> TrainingConfig:
        """What was trained, nothing left at ``auto``."""
        return self.module.config

    @property
    def history(self) -> dict[str, list[float]]:
        """Series of every loss term, metric and learning rate, one value an epoch."""
        return self.module.history

    @property
    def context(self) -> int:
        """Radius of the neighbourhood that the encoder sees, in scan positions."""
        return self.config.context

    @property
    def pattern_shape(self) -> tuple[int, int]:
        """Detector rows and columns (H, W) of the patterns the model is for."""
        return self.module.preprocessing.detector.pattern_shape

    @property
    def scan_signature(self) -> dict[str, Any]:
        """Shape, dtype and axes of the scan it was trained on."""
        return dict(self.module.hparams["scan"])

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the packages that trained it."""
        return dict(self.module.versions)

    @for_each_scan
    def embed(
        self,
        data: Any,
        *,
        scan_shape: tuple[int, int] | None = None,
        scan_mask: Any = None,
        progress: bool = False,
    ) -> Embedding:
        """Latents of a scan.

        Parameters
        ----------
        data : DataCube, Signal2D, array or path
            Anything `as_scan` reads, with patterns of the shape the model is for.
        scan_shape, scan_mask
            See `as_scan`. Latents of excluded scan positions are NaN, and they are nobody's context.
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
        """
        scan = self.fitting_scan(data, scan_shape, scan_mask)
        maps = self._apply(scan, self.module.encode_batch, (int(self.config.latent_dim),), progress)
        provenance = {**self.describe(), "applied_to": scan.signature()}
        return Embedding(maps, scan.axes[:2], provenance)

    @for_each_scan
    def reconstruct(
        self,
        data: Any,
        *,
        scan_shape: tuple[int, int] | None = None,
        scan_mask: Any = None,
        progress: bool = False,
    ) -> np.ndarray:
        """Reconstructed, denoised patterns of a scan, in the data's own units.

        Parameters
        ----------
        data, scan_shape, scan_mask, progress
            See `embed`.

        Returns
        -------
        ndarray, shape (Ny, Nx, H, W), float32
            On the original detector grid: bins are spread evenly over their pixels, and excluded pixels and pixels
            outside `crop` are 0. Excluded scan positions are NaN.
        """
        scan = self.fitting_scan(data, scan_shape, scan_mask)
        return self._apply(scan, self.reconstruct_batch, scan.pattern_shape, progress)

    def embed_array(self, patterns: np.ndarray) -> np.ndarray:
        """Latents (Ny, Nx, k) of patterns (Ny, Nx, H, W), unchecked: for blocks of a scan."""
        return self._apply(
            _unchecked(patterns), self.module.encode_batch, (int(self.config.latent_dim),), False
        )

    def reconstruct_array(self, patterns: np.ndarray, scan_mask: np.ndarray | None = None) -> np.ndarray:
        """Reconstructions (Ny, Nx, H, W) of patterns of that shape, unchecked: for blocks of a scan.

        Where `scan_mask`, shape (Ny, Nx), is True, the result is NaN, and the pattern is nobody's context.
        """
        if scan_mask is not None and scan_mask.all():
            return np.full(patterns.shape, np.nan, np.float32)
        scan = _unchecked(patterns, scan_mask)
        return self._apply(scan, self.reconstruct_batch, patterns.shape[2:], False)

    def reader(self, scan: Scan, *, whole: bool = False) -> PatternReader:
        """What reads the patterns of a scan with the context that this model looks at; `whole` to read all of it."""
        return PatternReader(scan, self.module.context, self.module.preprocessing.detector, whole=whole)

    def decode(self, latents: Any) -> np.ndarray:
        """Patterns that latents stand for.

        Parameters
        ----------
        latents : array, shape (..., k)

        Returns
        -------
        ndarray, shape (..., H, W), float32
        """
        latents = torch.as_tensor(np.asarray(latents, dtype=np.float32))
        if latents.ndim == 0 or latents.shape[-1] != self.config.latent_dim:
            raise ModelMismatchError(
                "latents do not fit the model",
                expected=f"{self.config.latent_dim} latents along the last axis",
                received=f"shape {tuple(latents.shape)}",
                advice="Give latents as embed(...).maps holds them.",
            )
        flat = latents.reshape(-1, latents.shape[-1])
        parts = [self._decoded(part) for part in flat.split(_BATCH)] or [torch.empty(0, *self.pattern_shape)]
        return torch.cat(parts).numpy().reshape(*latents.shape[:-1], *self.pattern_shape)

    def save(self, path: str | Path) -> Path:
        """Write the model to one ``.ckpt`` file, which needs no training data to be used.

        Written beside and renamed, so that a file of that name is always whole.
        """
        return write_checkpoint(
            {
                "pytorch-lightning_version": self.versions["pytorch-lightning"],
                "state_dict": self.module.state_dict(),
                "hyper_parameters": dict(self.module.hparams),
                "latentstem": {
                    **self.module.provenance(),
                    "summary": self.summary.as_dict(),
                    "evidence": self.evidence,
                },
            },
            path,
        )

    def describe(self) -> dict[str, Any]:
        """Configuration, preprocessing, training scan and versions, as plain values."""
        provenance = self.module.provenance()
        return {
            "format_version": provenance["format_version"],
            "config": self.config.model_dump(mode="json"),
            "preprocessing": self.module.preprocessing.describe(),
            "trained_on": self.scan_signature,
            "versions": provenance["versions"],
        }

    def __repr__(self) -> str:
        cfg, (height, width) = self.config, self.pattern_shape
        return f"LatentModel({cfg.network}, {cfg.latent_dim} latents, {height} x {width} pixels, {cfg.reconstruction})"

    def fitting_scan(self, data: Any, scan_shape: tuple[int, int] | None, scan_mask: Any) -> Scan:
        """The scan of any data, if its patterns are of the shape the model is for; see `embed`."""
        scan = as_scan(data, scan_shape, scan_mask=scan_mask)
        trained = self.scan_signature
        if scan.pattern_shape != self.pattern_shape:
            raise ModelMismatchError(
                "the patterns are of another shape than the model is for",
                expected="{} x {} pixels, as in the training scan {!r}".format(
                    *self.pattern_shape, trained.get("name")
                ),
                received=f"{scan.pattern_shape[0]} x {scan.pattern_shape[1]} pixels in {scan.name!r}",
                advice="Crop or bin the detector to that shape, or train on this scan.",
            )
        self._compare_range(scan)
        return scan

    def _compare_range(self, scan: Scan) -> None:
        """Warn where the intensities are far from those of the training scan."""
        included = np.arange(scan.n_positions)
        if scan.scan_mask is not None:
            included = included[~scan.scan_mask.ravel()]
        sample = included[np.linspace(0, len(included) - 1, min(64, len(included))).astype(int)]
        values = self.module.values(as_tensor(scan.read(sample)))
        mean, trained = float(values.sum((1, 2)).mean()), float(self.module.preprocessing.mean_total)
        if trained > 0 and not 0.1 < mean / trained < 10:
            warnings.warn(
                f"The patterns of {scan.name!r} ({scan.dtype}) sum to {mean:.3g} on average, those of the training "
                f"scan ({self.scan_signature.get('dtype')}) to {trained:.3g}: latents may mean little. Train on this "
                "scan, or fine-tune with init_from.",
                stacklevel=4,
            )

    def _apply(
        self, scan: Scan, function: Callable[[Batch], torch.Tensor], shape: tuple[int, ...], progress: bool
    ) -> np.ndarray:
        """A function of batches at every scan position that is not excluded."""
        reader, scored = self.reader(scan, whole=True), self.module.network.components > 0
        out = np.full((scan.n_positions, *shape), np.nan, np.float32)
        excluded = reader.excluded.ravel()
        with tqdm(total=scan.n_positions, disable=not progress, unit="pattern") as bar:
            for block in scan.blocks(_BATCH):
                for at in range(0, len(block), _BATCH):
                    positions = block[at : at + _BATCH]
                    positions = positions[~excluded[positions]]
                    if len(positions):
                        out[positions] = function(reader(positions, patterns=not scored)).numpy()
                    bar.update(len(block[at : at + _BATCH]))
        return out.reshape(*scan.scan_shape, *shape)

    def reconstruct_batch(self, batch: Batch) -> torch.Tensor:
        """Reconstructions (B, H, W) of one batch that `reader` has read."""
        return self._decoded(self.module.encode_batch(batch))

    @torch.no_grad()
    def _decoded(self, latents: torch.Tensor) -> torch.Tensor:
        return self.module.preprocessing.detector.restore(self.module.decode(latents))


def load(path: str | Path) -> LatentModel:
    """Load a model; nothing in the file is executed.

    Parameters
    ----------
    path : str or Path
        A checkpoint written by `LatentModel.save` or by training.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, not of this package, or of a newer format.
    """
    content = read_checkpoint(path)
    stored = content["latentstem"].get("summary") or {
        "figures": {},
        "verdicts": {},
        "advice": [],
        "choices": [],
    }
    return LatentModel(
        Autoencoder.from_content(content, path), Summary(**stored), content["latentstem"].get("evidence")
    )


def embed(data: Any, model: LatentModel | str | Path, **arguments: Any) -> Embedding:
    """Latents of a scan; see `LatentModel.embed`. The model may be the path of a checkpoint."""
    return _model(model).embed(data, **arguments)


def reconstruct(data: Any, model: LatentModel | str | Path, **arguments: Any) -> np.ndarray:
    """Reconstructed patterns of a scan; see `LatentModel.reconstruct`. The model may be the path of a checkpoint."""
    return _model(model).reconstruct(data, **arguments)


def _model(model: LatentModel | str | Path) -> LatentModel:
    return model if isinstance(model, LatentModel) else load(model)


def _unchecked(patterns: np.ndarray, scan_mask: np.ndarray | None = None) -> Scan:
    from .adapters.arrays import MemorySource, default_axes

    source = MemorySource(patterns)
    return Scan(source, default_axes(source.shape), scan_mask=scan_mask)
