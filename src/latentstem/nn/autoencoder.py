"""The autoencoder: preprocessing, network and likelihood. It never sees a scan, a host's object or Lightning."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import TrainingConfig
from ..io.checkpoint import FORMAT_VERSION, corrupt_checkpoint_error, read_checkpoint
from .batches import PatternBatch, ScoreBatch
from .likelihoods import build_likelihood
from .metrics import image_quality
from .neighbourhood import ring_count
from .networks import build_network
from .penalties import penalties
from .preprocessing import Detector, Preprocessing
from .principal_components import PrincipalComponents
from .random_init import random_init
from .stored_names import keep_stored_names
from .thinning import thin_counts

__all__ = ["Autoencoder"]


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
        Of the checkpoint that its weights are from: a network goes on as it began.

    Attributes
    ----------
    hyper_parameters : dict
        The parameters above, as plain values: what a checkpoint keeps.
    history : dict of str to list of float
        Losses and metrics of training, one value an epoch.
    versions : dict of str to str
        Of the packages that trained it.
    has_axes : bool
        Whether latents are in the axes that they end up in; see `set_axes`.
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
        self.penalties = {
            name: (getattr(cfg, term.weight), term)
            for name, term in penalties().items()
            if getattr(cfg, term.weight)
        }
        self.history: dict[str, list[float]] = {}
        self.versions = {
            name: version(name) for name in ("latentstem", "torch", "pytorch-lightning", "numpy")
        }
        self.has_axes = False
        self.float()  # also where the user's default is another
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
        return cls.from_content(read_checkpoint(checkpoint_path), checkpoint_path)

    @classmethod
    def from_content(cls, content: dict[str, Any], path: str | Path) -> Autoencoder:
        """The autoencoder of a checkpoint that has been read."""
        try:
            ours = content["latentstem"]
            made_of = content["hyper_parameters"] | {"format_version": ours["format_version"]}
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
            model.history = {name: list(values) for name, values in ours["history"].items()}
            model.versions = dict(ours["versions"])
            if ours.get("axes") is not None:
                model.set_axes(**ours["axes"])
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise corrupt_checkpoint_error(path, error) from None
        return model.eval()

    def provenance(self) -> dict[str, Any]:
        """Format, history and versions, as plain values: what makes a checkpoint complete."""
        return {
            "format_version": self.format_version,
            "history": {name: list(values) for name, values in self.history.items()},
            "versions": dict(self.versions),
        }

    def content(self, **results: Any) -> dict[str, Any]:
        """All of it as tensors and plain values, with results of training: the content of a checkpoint."""
        return {
            "pytorch-lightning_version": self.versions["pytorch-lightning"],
            "state_dict": self.state_dict(),
            "hyper_parameters": dict(self.hyper_parameters),
            "latentstem": {**self.provenance(), **results},
        }

    def values(self, patterns: Tensor) -> Tensor:
        """Patterns (B, H, W) to detector values on the network's pixels (B, h, w)."""
        return self.preprocessing.detector(patterns)

    def encode(self, values: Tensor, neighbours: ScoreBatch | None = None) -> Tensor:
        """Latents (B, k) of detector values.

        Parameters
        ----------
        values : Tensor, shape (B, h, w)
        neighbours : ScoreBatch, optional
            Whose ring sums are those of the patterns' similar neighbours; none are known without it.
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
        """Patterns as they were recorded, with their neighbours, to latents (B, k)."""
        if self.network.n_components:
            return self.network.encode_scores(batch.scores)
        return self.encode(self.values(batch.patterns))

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, k) to expected detector values (B, h, w)."""
        return self.likelihood.expected(self.network.decode(latents))

    @torch.no_grad()
    def decode_patterns(self, latents: Tensor) -> Tensor:
        """Latents (B, k) to patterns (B, H, W) on the whole detector, 0 where nothing was learnt."""
        return self.preprocessing.detector.to_detector(self.decode(latents))

    def loss(self, batch: PatternBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """The terms of the objective by name, with their weighted sum as ``loss``.

        Parameters
        ----------
        batch : PatternBatch
            Recorded patterns.
        generator : torch.Generator
            Source of randomness for thinning, on the patterns' device.
        """
        values, neighbours = self.values(batch.patterns), batch.scores
        given, target, fraction = values, values, 1.0
        if self.config.split_counts:
            given, target = thin_counts(values, generator)
            given, fraction = given * 2, 0.5
            if neighbours.ring_sums.numel():  # as noisy as the halves that are given
                noise = torch.empty_like(neighbours.ring_sums).normal_(generator=generator)
                noise = neighbours.ring_counts.sqrt()[:, :, None] * self.principal_components.noise * noise
                neighbours = neighbours._replace(ring_sums=neighbours.ring_sums + noise)
        latents = self.encode(given, neighbours).float()
        return self.objective(self.network.decode(latents).float(), target, latents, fraction)

    def objective(
        self, output: Tensor, target: Tensor, latents: Tensor, fraction: float = 1.0
    ) -> dict[str, Tensor]:
        """The terms of the objective by name, with their weighted sum as ``loss``.

        Parameters
        ----------
        output : Tensor, shape (B, h, w)
            Output of the network.
        target : Tensor, shape (B, h, w)
            Detector values to predict.
        latents : Tensor, shape (B, k)
        fraction : float
            Dose of `target` relative to the recorded patterns; 0.5 for thinned counts.
        """
        used, error = self.preprocessing.detector.used, self.likelihood.error(output, target, fraction)
        terms = {self.likelihood.name: (error.sum(0) * used).sum() / (used.sum() * len(target))}
        total = terms[self.likelihood.name]
        for name, (weight, term) in self.penalties.items():
            terms[name] = term(latents)
            total = total + weight * terms[name]
        return {"loss": total, **terms}

    @torch.no_grad()
    def initialise(self, mean: Tensor) -> None:
        """Let the network start from a sample of detector values (n, h, w), averaged with their neighbours."""
        self.network.initialise(self.likelihood.output(mean), self.likelihood.unit())

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

    @torch.no_grad()
    def image_quality(self, batch: PatternBatch, limit: int = 128) -> dict[str, float]:
        """PSNR and SSIM of the reconstructions of at most `limit` patterns, in the preprocessed space."""
        batch, pre = batch.take(slice(limit)), self.preprocessing
        low, high = (float(v) for v in pre(pre.fitted_range.reshape(2, 1, 1)).flatten())
        restored = pre(self.decode(self.encode_batch(batch)))
        return image_quality(restored, pre(self.values(batch.patterns)), high - low, pre.detector.used > 0)
