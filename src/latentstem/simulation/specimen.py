"""Specimens for simulated scans: grains, phases and smooth fields over the scan positions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError
from .diffraction import PHASES, ZONES, Array, Crystal, make_crystal

# largest tilt off the zone axis per component, in mrad: of a grain, and of the bent single crystal
_MAX_GRAIN_TILT = 8.0
_MAX_BEND_TILT = 16.0


def scan_coordinates(scan_shape: tuple[int, int]) -> Array:
    """Scan positions (N, 2) in units of the scan's longer side."""
    return np.indices(scan_shape).reshape(2, -1).T / max(scan_shape)


def random_field(rng: np.random.Generator, coordinates: Array, scale: float) -> Array:
    """A smooth random field (N,), largest magnitude one, of wavelengths from 1 to 2.5 times `scale`."""
    angle, phase = rng.uniform(0, 2 * np.pi, (2, 4))
    k = np.stack([np.sin(angle), np.cos(angle)]) * 2 * np.pi / (scale * rng.uniform(1, 2.5, 4))
    field: Array = np.cos(coordinates @ k + phase).sum(axis=1)
    field /= np.abs(field).max()
    return field


def _grains(rng: np.random.Generator, scan_shape: tuple[int, int], n_grains: int) -> Array:
    """Voronoi cells (N,) around `n_grains` scan positions far from one another."""
    positions = np.indices(scan_shape).reshape(2, -1).T.astype(float)
    nearest = np.full(len(positions), np.inf)
    grain = np.zeros(len(positions), np.int64)
    for i in range(n_grains):
        candidates = rng.integers(len(positions), size=5)
        seed = candidates[np.argmax(nearest[candidates])]
        seed = seed if nearest[seed] > 0 else np.argmax(nearest)
        distance = ((positions - positions[seed]) ** 2).sum(axis=1)
        grain[distance < nearest] = i
        nearest = np.minimum(nearest, distance)
    return grain


def make_specimen(
    rng: np.random.Generator, arguments: dict[str, Any]
) -> tuple[dict[str, Array], list[Crystal], Array]:
    """A specimen without vacuum.

    Returns the truth maps (Ny, Nx) by name, the crystals, and the map (Ny, Nx) of crystal indices.
    """
    scan_shape, strain = arguments["scan_shape"], arguments["strain"]
    low, high = arguments["thickness"]
    coordinates = scan_coordinates(scan_shape)
    lattice_names = ("rotation", "strain_xx", "strain_yy", "strain_xy")
    grain_names = ("tilt_x", "tilt_y", "thickness")  # each grain has its mean value of these
    names = (*lattice_names, *grain_names)
    truth = {name: np.zeros(len(coordinates), np.float32) for name in names}
    if arguments["structure"] == "linear":
        crystals = [make_crystal(0, (0, 0, 1)), make_crystal(1, (0, 1, 1)), make_crystal(0, (1, 1, 2))]
        abundances = np.exp(1.5 * np.stack([random_field(rng, coordinates, 0.6) for _ in crystals]))
        abundances /= abundances.sum(axis=0)
        grain = abundances.argmax(axis=0)
        truth |= {f"abundance_{i}": abundance.astype(np.float32) for i, abundance in enumerate(abundances)}
        truth["thickness"] += np.float32((low + high) / 2)
    else:
        is_single_crystal = arguments["structure"] == "single crystal"
        n = 1 if is_single_crystal else arguments["n_grains"]
        grain = _grains(rng, scan_shape, n)
        # fraction of the range of each property within one grain; the rest is a constant of the grain
        within_grain_fraction = 1.0 if is_single_crystal else 0.4
        orientations = [
            (phase, zone) for zones in zip(*ZONES, strict=True) for phase, zone in enumerate(zones)
        ]
        order = [0] if is_single_crystal else rng.permutation(n)
        crystals = [make_crystal(*orientations[i % len(orientations)]) for i in order]
        rotations = (rng.permutation(n) + rng.uniform(0.3, 0.7, n)) / n * np.pi / 3  # all different
        scale = np.sqrt(len(coordinates) / n) / max(scan_shape)
        for i in range(n):
            inside = grain == i
            fields = {name: random_field(rng, coordinates[inside], scale) for name in names}
            grain_offset = rng.uniform(-1, 1, 3) * (1 - within_grain_fraction)
            for name in lattice_names:
                truth[name][inside] = strain * fields[name]
            for name, offset in zip(grain_names, grain_offset, strict=True):
                truth[name][inside] = offset + within_grain_fraction * fields[name]
            truth["rotation"][inside] += rotations[i]
        for name in ("tilt_x", "tilt_y"):
            truth[name] *= _MAX_BEND_TILT if is_single_crystal else _MAX_GRAIN_TILT
        truth["thickness"] = ((low + high + (high - low) * truth["thickness"]) / 2).astype(np.float32)
    truth |= {"grain": grain, "phase": np.array([crystal.phase for crystal in crystals])[grain]}
    maps = {name: values.reshape(scan_shape) for name, values in truth.items()}
    return maps, crystals, maps["grain"].copy()


def vacuum_mask(rng: np.random.Generator, scan_shape: tuple[int, int], fraction: float) -> Array:
    """True (Ny, Nx) at `fraction` of the scan, behind a slightly wavy edge."""
    coordinates = scan_coordinates(scan_shape)
    angle = rng.uniform(0, 2 * np.pi)
    depth = coordinates @ np.array([np.sin(angle), np.cos(angle)]) + 0.03 * random_field(
        rng, coordinates, 0.3
    )
    mask = np.zeros(len(depth), bool)
    mask[np.argsort(depth)[: round(fraction * len(depth))]] = True
    return mask.reshape(scan_shape)


def boundary_map(grain: Array) -> Array:
    """True (Ny, Nx) where the 3x3 neighbourhood contains another grain or vacuum."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(grain, 1, mode="edge"), (3, 3))
    is_boundary: Array = windows.min(axis=(2, 3)) != windows.max(axis=(2, 3))
    return is_boundary


def add_defects(
    rng: np.random.Generator, truth: dict[str, Array], crystals: list[Crystal], crystal_map: Array, n: int
) -> Array:
    """Give `n` positions inside grains the other phase (in place); True (Ny, Nx) at those."""
    candidates = np.flatnonzero(~truth["boundary"] & (truth["grain"] >= 0))
    if n > len(candidates):
        raise ArgumentError(
            "defects",
            expected=f"at most {len(candidates)}, the scan positions inside grains",
            received=str(n),
            advice="Ask for fewer defects or grains, or for a larger scan.",
        )
    defect_positions = rng.permutation(candidates)[:n]
    for position in zip(*np.unravel_index(defect_positions, crystal_map.shape), strict=True):
        phase = len(PHASES) - 1 - truth["phase"][position]
        crystals.append(make_crystal(phase, ZONES[phase][rng.integers(len(ZONES[phase]))]))
        crystal_map[position] = len(crystals) - 1
        truth["phase"][position] = phase
        truth["rotation"][position] = rng.uniform(0, np.pi / 3)
    defect = np.zeros(crystal_map.shape, bool)
    defect.ravel()[defect_positions] = True
    return defect
