"""The autoencoder: preprocessing, network and objective. It does not depend on scans, hosts or Lightning."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import TrainingConfig
from ..io.checkpoint import FORMAT_VERSION, corrupt_checkpoint_error, read_checkpoint
from .batches import PatternBatch, ScoreBatch
from .detector import Detector
from .likelihoods import build_likelihood
from .metrics import image_quality
from .neighbourhood import ring_count
from .networks import build_network
from .penalties import penalties
from .preprocessing import Preprocessing
from .principal_components import PrincipalComponents
from .random_init import random_init
from .stored_names import keep_stored_names
from .thinning import thin_counts

__all__ = ["Autoencoder"]

_ENCODE_BATCH = 128  # patterns that are encoded together


class Autoencoder(nn.Module):
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
        Format of the checkpoint the weights come from. It selects the network's variant and is kept when the model is
        saved again.

    Attributes
    ----------
    hyper_parameters : dict
        The parameters above, as plain values, for checkpoints.
    history : dict of str to list of float
        Losses and metrics of training, one value per epoch.
    versions : dict of str to str
        Versions of the packages that trained it.
    latents_rotated : bool
        Whether the latent basis has been changed by `rotate_latents`.
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
        self.hyper_parameters: dict[str, Any] = {
            "config": config,
            "pattern_shape": list(pattern_shape),
            "scan": scan or {},
            "choices": choices or [],
        }
        self.config = cfg = TrainingConfig(**config)
        self.preprocessing = Preprocessing(cfg.preprocessing, Detector(pattern_shape, cfg.bin, cfg.crop))
        self.likelihood = build_likelihood(cfg.reconstruction, self.preprocessing)
        with random_init(cfg.seed):
            self.network = build_network(
                cfg.network,
                self.preprocessing.shape,
                int(cfg.latent_dim),
                context=cfg.context,
                counts=self.likelihood.counts,
                format_version=format_version,
            )
        radius = cfg.context if self.network.n_components else 0
        self.principal_components = PrincipalComponents(self.preprocessing, self.network.n_components, radius)
        self.penalty_weights: dict[str, float] = {
            term.weight: getattr(cfg, term.weight) for term in penalties().values()
        }
        self.penalties = {
            name: term for name, term in penalties().items() if self.penalty_weights[term.weight]
        }
        self.history: dict[str, list[float]] = {}
        self.versions = {
            name: version(name) for name in ("latentstem", "torch", "pytorch-lightning", "numpy")
        }
        self.latents_rotated = False
        self.float()  # also if the user's default dtype differs
        keep_stored_names(self, {"principal_components.": "context."})

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path) -> Autoencoder:
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
        return cls.from_checkpoint_dict(read_checkpoint(checkpoint_path), checkpoint_path)

    @classmethod
    def from_checkpoint_dict(cls, content: dict[str, Any], path: str | Path) -> Autoencoder:
        """Build the autoencoder of a checkpoint that has been read."""
        try:
            metadata = content["latentstem"]
            init_arguments = content["hyper_parameters"] | {"format_version": metadata["format_version"]}
            # on the meta device (no memory): a damaged file may ask for a huge network
            with torch.device("meta"):
                expected = {name: tensor.shape for name, tensor in cls(**init_arguments).state_dict().items()}
            stored = {name: tensor.shape for name, tensor in content["state_dict"].items()}
            for name in sorted(expected.keys() | stored.keys()):
                if expected.get(name) != stored.get(name):
                    shapes = (stored.get(name), expected.get(name))
                    sizes = (None if shape is None else tuple(shape) for shape in shapes)
                    raise ValueError("{} is of shape {} and not {}".format(name, *sizes))
            model = cls(**init_arguments)
            model.load_state_dict(content["state_dict"])
            model.history = {name: list(values) for name, values in metadata["history"].items()}
            model.versions = dict(metadata["versions"])
            if metadata.get("axes") is not None:
                model.rotate_latents(**metadata["axes"])
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise corrupt_checkpoint_error(path, error) from None
        return model.eval()

    def provenance(self) -> dict[str, Any]:
        """Format version, history and package versions, as plain values."""
        return {
            "format_version": self.format_version,
            "history": {name: list(values) for name, values in self.history.items()},
            "versions": dict(self.versions),
        }

    def content(self, **results: Any) -> dict[str, Any]:
        """Content of a checkpoint, as tensors and plain values, with results of training."""
        return {
            "pytorch-lightning_version": self.versions["pytorch-lightning"],
            "state_dict": self.state_dict(),
            "hyper_parameters": dict(self.hyper_parameters),
            "latentstem": {**self.provenance(), **results},
        }

    def values(self, patterns: Tensor) -> Tensor:
        """Crop, mask and bin patterns (B, H, W) to detector values (B, h, w)."""
        return self.preprocessing.detector(patterns)

    def encode(self, values: Tensor, neighbours: ScoreBatch | None = None) -> Tensor:
        """Encode detector values to latents (B, k).

        Parameters
        ----------
        values : Tensor, shape (B, h, w)
        neighbours : ScoreBatch, optional
            Ring sums of the patterns' similar neighbours; without it, no neighbours are used.
        """
        if not self.network.n_components:
            x = torch.where(self.preprocessing.detector.used > 0, self.preprocessing(values), 0.0)
            return self.network.encode(x)
        scores = self.principal_components.scores(values)
        if neighbours is None:
            neighbours = ScoreBatch.without_neighbours(scores, ring_count(self.principal_components.radius))
        return self.network.encode_scores(neighbours._replace(scores=scores))

    @torch.no_grad()
    def encode_batch(self, batch: PatternBatch) -> Tensor:
        """Encode a batch to latents (B, k)."""
        if self.network.n_components:
            return self.network.encode_scores(batch.scores)
        return self.encode(self.values(batch.patterns))

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (B, k) to expected detector values (B, h, w)."""
        return self.likelihood.expected(self.network.decode(latents))

    @torch.no_grad()
    def decode_patterns(self, latents: Tensor) -> Tensor:
        """Decode latents (B, k) to patterns (B, H, W) on the whole detector, 0 at excluded pixels."""
        return self.preprocessing.detector.to_detector(self.decode(latents))

    def loss(self, batch: PatternBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Encode and decode a batch, and return the terms of the `objective` by name; ``loss`` is their weighted sum.

        Parameters
        ----------
        batch : PatternBatch
            Recorded patterns and their scores.
        generator : torch.Generator
            Source of randomness for thinning, on the patterns' device.
        """
        values, neighbours = self.values(batch.patterns), batch.scores
        encoder_input, target, dose_fraction = values, values, 1.0
        if self.config.split_counts:
            encoder_input, target = thin_counts(values, generator)
            encoder_input, dose_fraction = encoder_input * 2, 0.5
            # add noise to the ring sums, so that they are as noisy as those of thinned patterns
            if neighbours.ring_sums.numel():
                noise = torch.empty_like(neighbours.ring_sums).normal_(generator=generator)
                noise = neighbours.ring_counts.sqrt()[:, :, None] * self.principal_components.noise * noise
                neighbours = neighbours._replace(ring_sums=neighbours.ring_sums + noise)
        latents = self.encode(encoder_input, neighbours).float()
        return self.objective(self.network.decode(latents).float(), target, latents, dose_fraction)

    def objective(
        self, output: Tensor, target: Tensor, latents: Tensor, dose_fraction: float = 1.0
    ) -> dict[str, Tensor]:
        """The terms of the objective by name; ``loss`` is their weighted sum.

        Parameters
        ----------
        output : Tensor, shape (B, h, w)
            Output of the network.
        target : Tensor, shape (B, h, w)
            Detector values to predict.
        latents : Tensor, shape (B, k)
        dose_fraction : float
            Dose of `target` relative to the recorded patterns; 0.5 for thinned counts.
        """
        used, error = self.preprocessing.detector.used, self.likelihood.error(output, target, dose_fraction)
        terms = {self.likelihood.name: (error.sum(0) * used).sum() / (used.sum() * len(target))}
        total = terms[self.likelihood.name]
        for name, term in self.penalties.items():
            terms[name] = term(latents)
            total = total + self.penalty_weights[term.weight] * terms[name]
        return {"loss": total, **terms}

    @torch.no_grad()
    def initialise(self, neighbour_means: Tensor) -> None:
        """Initialise the network from neighbour means of detector values (n, h, w)."""
        latents = torch.cat([self.encode(part) for part in neighbour_means.split(_ENCODE_BATCH)])
        mean_patterns = self.likelihood.output(neighbour_means)
        self.network.initialise(mean_patterns, latents, self.likelihood.electron_value())

    def rotate_latents(self, centre: Tensor, axes: Tensor) -> None:
        """Change the latent basis after training; see `Network.rotate_latents`.

        Raises
        ------
        ValueError
            If `axes` is not a finite, invertible (k, k) matrix.
        """
        k = self.network.latent_dim
        shapes_match = centre.shape == (k,) and axes.shape == (k, k)
        is_double = centre.dtype == axes.dtype == torch.float64
        is_finite = shapes_match and is_double and torch.isfinite(centre).all() and torch.isfinite(axes).all()
        if not is_finite or torch.linalg.inv_ex(axes).info or not torch.linalg.inv(axes).isfinite().all():
            raise ValueError(
                f"expected a finite, invertible ({k}, {k}) matrix, got shape {tuple(axes.shape)}"
            )
        self.network.rotate_latents(centre, axes)
        self.latents_rotated = True

    @torch.no_grad()
    def image_quality(self, batch: PatternBatch, limit: int = 128) -> dict[str, float]:
        """PSNR and SSIM of the reconstructions of at most `limit` patterns, in the preprocessed space."""
        batch, pre = batch.take(slice(limit)), self.preprocessing
        low, high = (float(v) for v in pre(pre.fitted_range.reshape(2, 1, 1)).flatten())
        reconstructed, recorded = pre(self.decode(self.encode_batch(batch))), pre(self.values(batch.patterns))
        return image_quality(reconstructed, recorded, high - low, pre.detector.used > 0)
