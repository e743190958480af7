"""The latent maps of a scan, with calibration and provenance."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError, FileError, StorageError, format_exception
from ..io.array_files import npz_array
from ..scan.scan import Axis
from ..util.paths import local_path
from ..util.whole_file import atomic_write
from .smoothing import check_radius, smooth_maps

__all__ = ["Embedding"]

_ENTRIES = ("maps", "axes", "provenance")


@dataclass(frozen=True, eq=False)
class Embedding:
    """The latents of a scan.

    Parameters
    ----------
    maps : ndarray, shape (Ny, Nx, k), float32
        k latents at each scan position; NaN where a position was excluded.
    axes : (Axis, Axis)
        The two scan axes, rows first.
    provenance : dict
        The model (config, versions) and the scan it was applied to, as plain values.
    unsmoothed : ndarray, shape (Ny, Nx, k), float32, optional
        Latents before smoothing (equal to `maps` if not smoothed). None if unknown, as for smoothed maps read from a
        file.

    Raises
    ------
    ArgumentError
        If the maps and the axes do not fit together.
    """

    maps: np.ndarray
    axes: tuple[Axis, Axis]
    provenance: dict[str, Any] = field(default_factory=dict)
    unsmoothed: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        sizes = tuple(axis.size for axis in self.axes)
        maps = np.asarray(self.maps)
        if maps.ndim != 3 or maps.shape[:2] != sizes or maps.dtype != np.float32:
            raise ArgumentError(
                "latent maps do not fit their scan axes",
                expected=f"float32 maps of shape {sizes} + (number of latents,)",
                received=f"{maps.dtype} maps of shape {maps.shape}",
                advice="Give the latents scan axes first, latent last, as model.embed(...).maps does.",
            )
        if self.unsmoothed is None and not self.provenance.get("smooth"):
            object.__setattr__(self, "unsmoothed", self.maps)

    @property
    def latent_dim(self) -> int:
        """Number of latents per scan position, k."""
        return int(self.maps.shape[2])

    def smoothed(self, radius: int) -> Embedding:
        """Smooth the latents with another radius.

        Parameters
        ----------
        radius : int
            In scan positions; 0: no smoothing. See `latentstem.inference.smoothing.smooth_maps`.

        Raises
        ------
        ArgumentError
            If `radius` is not a valid radius, or if the unsmoothed latents are unknown, as after `load`.
        """
        radius = check_radius(radius)
        if self.unsmoothed is None:
            raise ArgumentError(
                "these latents are already smoothed",
                expected="unsmoothed latents, or an embedding that still has them",
                received=f"latents smoothed with radius {self.provenance['smooth']}, read without the unsmoothed ones",
                advice="Embed the scan again: model.embed(data, smooth=...).",
            )
        maps = smooth_maps(self.unsmoothed, radius)
        return replace(self, maps=maps, provenance={**self.provenance, "smooth": radius})

    def save(self, path: str | Path) -> Path:
        """Write maps, calibration and provenance to one ``.npz`` file.

        The entry ``maps`` opens with ``numpy.load`` alone; ``axes`` and ``provenance`` are JSON text. Nothing
        is pickled.

        Parameters
        ----------
        path : str or Path
            ``.npz`` is added where it is missing.

        Returns
        -------
        Path
            Path of the file.
        """
        path = local_path(path, StorageError)
        if path.suffix != ".npz":
            path = path.with_name(path.name + ".npz")
        axes = json.dumps([axis.as_dict() for axis in self.axes])
        provenance = np.array(json.dumps(self.provenance))
        with atomic_write(path) as temporary:
            np.savez(temporary, maps=self.maps, axes=np.array(axes), provenance=provenance)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Embedding:
        """Read an embedding that `save` has written; a `FileError` if the file is missing, damaged or something else."""
        try:
            file = local_path(path)
            with zipfile.ZipFile(file) as archive:
                file_names = archive.namelist()
            missing_entries = [name for name in _ENTRIES if f"{name}.npy" not in file_names]
            if missing_entries:
                raise ValueError(f"no entry {', '.join(missing_entries)}")
            maps, axes, provenance = (npz_array(file, name) for name in _ENTRIES)
            ny, nx = (Axis(**axis) for axis in json.loads(str(axes)))
            return cls(maps, (ny, nx), dict(json.loads(str(provenance))))
        except FileError:
            raise
        except Exception as error:  # damaged files can raise any exception
            raise FileError(
                f"cannot read latent maps from {path}",
                expected="an .npz file written by Embedding.save",
                received=format_exception(error),
                advice="Write it again with latentstem.embed(data, model).save(path).",
            ) from error
