"""Simulated 4D-STEM scans with known specimen and noise-free patterns, for tests, demonstrations and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..io.arrays import as_pattern_source
from ..scan.scan import Scan, default_axes
from .diffraction import PROBE_RADIUS, VACUUM, Array, draw_patterns
from .specimen import add_defects, boundary_map, make_specimen, random_field, scan_coordinates, vacuum_mask

__all__ = ["SimulatedScan", "simulate"]

STRUCTURES = ("polycrystal", "single crystal", "linear")
_DETECTOR_HALF_WIDTH = 1.3  # 1/angstrom, from the centre to the nearer edge of the detector


@dataclass(frozen=True, eq=False)
class SimulatedScan:
    """A simulated 4D-STEM scan and everything that is known about it.

    Attributes
    ----------
    counts : ndarray (Ny, Nx, H, W), uint16 or uint32
        Detected electrons: Poisson counts of `expectation`, with hot pixels.
    expectation : ndarray (Ny, Nx, H, W), float32
        The noise-free patterns in electrons per pixel, without hot pixels.
    truth : dict of ndarray (Ny, Nx)
        ``grain`` and ``phase`` (int, -1 in vacuum), ``rotation`` (rad), ``strain_xx``, ``strain_yy``,
        ``strain_xy``, ``tilt_x``, ``tilt_y`` (mrad), ``thickness`` (nm), ``descan_y``, ``descan_x`` (detector
        pixels), ``boundary`` (bool: another grain or vacuum within the 3x3 neighbourhood), ``defect`` (bool).
        A defect has another phase and rotation than its surroundings, but their grain.
        ``structure="linear"`` adds ``abundance_0``, ``abundance_1`` and ``abundance_2``; there, ``grain`` is
        the most abundant one.
    pattern_mask : ndarray (H, W), bool
        True excludes: beam stop and hot pixels.
    scan_mask : ndarray (Ny, Nx), bool
        True excludes: vacuum.
    n_parameters : int
        Number p of continuous parameters that vary between patterns (outside vacuum). The Cramer-Rao floor of
        single patterns is a mean ``sum((sqrt(estimate) - sqrt(expectation))**2)`` of ``p / 4``.
    dose : float
        Electrons per pattern, including those that miss the detector or hit the beam stop.
    scan_step : float
        nm between scan positions.
    pixel_size : float
        1/angstrom per detector pixel.
    seed : int
        Seed of the random numbers.
    arguments : dict
        Plain Python values: ``simulate(**arguments)`` makes the same scan.
    """

    counts: Array
    expectation: Array
    truth: dict[str, Array]
    pattern_mask: Array
    scan_mask: Array
    n_parameters: int
    dose: float
    scan_step: float
    pixel_size: float
    seed: int
    arguments: dict[str, Any]

    def as_scan(self, scan_shape: tuple[int, int] | None = None) -> Scan:
        """The counts with their calibration; see `latentstem.as_scan`."""
        source = as_pattern_source(self.counts, scan_shape or (self.counts.shape[0], self.counts.shape[1]))
        y, x, ky, kx = default_axes(source.shape)
        y, x = (replace(axis, scale=self.scan_step, units="nm") for axis in (y, x))
        ky, kx = (
            replace(k, scale=self.pixel_size, offset=-self.pixel_size * (k.size - 1) / 2, units="1/angstrom")
            for k in (ky, kx)
        )
        return Scan(source, (y, x, ky, kx), name="simulated scan")


def simulate(
    scan_shape: tuple[int, int] = (64, 64),
    pattern_shape: tuple[int, int] = (64, 64),
    *,
    dose: float = 500.0,
    structure: str = "polycrystal",
    n_grains: int = 12,
    strain: float = 0.01,
    thickness: tuple[float, float] = (20.0, 60.0),
    descan: float = 0.0,
    beam_stop: bool = False,
    hot_pixels: int = 0,
    vacuum: float = 0.0,
    defects: int = 0,
    scan_step: float = 2.0,
    seed: int = 0,
) -> SimulatedScan:
    """Simulate a 4D-STEM scan whose specimen and noise-free patterns are known.

    For equal seed and shapes the specimen is the same whatever the dose, descan, beam stop, vacuum, hot pixels or
    defects.

    Parameters
    ----------
    scan_shape : (Ny, Nx)
        Scan positions, at least 2.
    pattern_shape : (H, W)
        Detector pixels, at least 8 each way. The nearer edge is 1.3 1/angstrom from the centre.
    dose : float
        Electrons per pattern.
    structure : {"polycrystal", "single crystal", "linear"}
        Grains of fcc aluminium and bcc iron, each with its own zone axis, rotation, tilt, thickness and
        strain; one bent crystal of aluminium; or mixtures of three fixed patterns with smoothly varying
        abundances, for which a linear method (PCA, NMF) is as good as any.
    n_grains : int
        Grains of the polycrystal. The other structures ignore it.
    strain : float
        Largest strain component, and largest lattice rotation within a grain in rad. "linear" ignores it.
    thickness : (float, float)
        Least and greatest thickness in nm. "linear" uses the mean.
    descan : float
        Largest shift of the pattern in detector pixels along each axis, smooth over the scan.
    beam_stop : bool
        Shadow the direct beam by a disk on an arm.
    hot_pixels : int
        Detector pixels with high counts in every pattern.
    vacuum : float
        Fraction of the scan, at one side, without specimen.
    defects : int
        Single scan positions inside grains that show the other phase.
    scan_step : float
        nm between scan positions.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    SimulatedScan

    Raises
    ------
    ArgumentError
        If an argument is invalid (a ValueError).
    """
    arguments = _validate(locals())
    scan_shape, pattern_shape = arguments["scan_shape"], arguments["pattern_shape"]
    pixel_size = 2 * _DETECTOR_HALF_WIDTH / min(pattern_shape)
    rng = _generators(seed)

    truth, crystals, crystal_map = make_specimen(rng["specimen"], arguments)
    scan_mask = vacuum_mask(rng["vacuum"], scan_shape, vacuum)
    crystal_map[scan_mask] = -1
    for name, values in truth.items():
        values[scan_mask] = -1 if name in ("grain", "phase") else 0
    for name in ("descan_y", "descan_x"):
        shift = descan * random_field(rng["descan"], scan_coordinates(scan_shape), 2.0)
        truth[name] = shift.reshape(scan_shape).astype(np.float32)
    truth["boundary"] = boundary_map(truth["grain"])
    truth["defect"] = add_defects(rng["defects"], truth, crystals, crystal_map, defects)

    flat = {name: values.ravel() for name, values in truth.items()}
    expectation = np.zeros((scan_mask.size, *pattern_shape), np.float32)
    if structure == "linear":
        endmember_truth = {name: np.zeros(len(crystals)) for name in flat}
        endmember_truth["thickness"] += np.mean(thickness)
        endmember_truth["rotation"] += 0.35 * np.arange(len(crystals))
        patterns = np.zeros((len(crystals), *pattern_shape), np.float32)
        for i, crystal in enumerate(crystals):
            draw_patterns(patterns, np.array([i]), crystal, endmember_truth, pixel_size, dose)
            expectation += flat[f"abundance_{i}"][:, None, None] * patterns[i]
        crystals = []
    for i, crystal in enumerate(crystals):
        draw_patterns(expectation, np.flatnonzero(crystal_map == i), crystal, flat, pixel_size, dose)
    draw_patterns(expectation, np.flatnonzero(scan_mask), VACUUM, flat, pixel_size, dose)
    expectation = expectation.reshape(*scan_shape, *pattern_shape)

    pattern_mask = _beam_stop(pattern_shape, pixel_size) if beam_stop else np.zeros(pattern_shape, bool)
    expectation[..., pattern_mask] = 0
    hot_indices = rng["detector"].permutation(np.flatnonzero(~pattern_mask))[:hot_pixels]
    hot_means = rng["detector"].uniform(3, 10, hot_pixels) * max(10.0, float(expectation.max()))
    pattern_mask.ravel()[hot_indices] = True
    return SimulatedScan(
        counts=_record_counts(rng["noise"], expectation, hot_indices, hot_means),
        expectation=expectation,
        truth=truth,
        pattern_mask=pattern_mask,
        scan_mask=scan_mask,
        n_parameters=_n_parameters(arguments),
        dose=arguments["dose"],
        scan_step=arguments["scan_step"],
        pixel_size=pixel_size,
        seed=arguments["seed"],
        arguments=arguments,
    )


def _validate(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments as plain Python values; raises for the first invalid one."""
    linear = arguments["structure"] == "linear"
    checked: dict[str, Any] = {}

    def check(name: str, expected: str, convert: Any, is_valid: Any) -> None:
        try:
            checked[name] = convert(arguments[name])
            if is_valid(checked[name]) and np.all(np.equal(checked[name], arguments[name])):
                return
        except (TypeError, ValueError, OverflowError):
            pass
        unsuitable = linear and name in ("descan", "defects")
        reason = " It would make a linear scan non-linear." if unsuitable else ""
        advice = f"Pass {name} as {expected}.{reason}"
        raise ArgumentError(name, expected=expected, received=repr(arguments[name]), advice=advice)

    def number(name: str, low: float, high: float, convert: type = float) -> None:
        word = "a whole number" if convert is int else "a number"
        check(name, f"{word} from {low:g} to {high:g}", convert, lambda v: low <= v <= high)

    def pair(convert: type) -> Any:
        return lambda v: tuple(convert(n) for n in v)

    check("scan_shape", "two whole numbers (Ny, Nx), at least two positions", pair(int),
          lambda v: len(v) == 2 and min(v) >= 1 and max(v) >= 2)  # fmt: skip
    check("pattern_shape", "two whole numbers (H, W) of at least 8", pair(int),
          lambda v: len(v) == 2 and min(v) >= 8)  # fmt: skip
    positions, pixels = int(np.prod(checked["scan_shape"])), int(np.prod(checked["pattern_shape"]))
    number("dose", 1e-3, 1e9)
    check("structure", "one of " + ", ".join(map(repr, STRUCTURES)), str, STRUCTURES.__contains__)
    number("n_grains", 1, positions if arguments["structure"] == "polycrystal" else np.inf, int)
    number("strain", 0, 0.2)
    check("thickness", "two numbers in nm, the least and the greatest, above 0 and below 1000", pair(float),
          lambda v: len(v) == 2 and 0 < v[0] <= v[1] < 1000)  # fmt: skip
    number("descan", 0, 0 if linear else min(checked["pattern_shape"]) / 2)
    check("beam_stop", "True or False", bool, lambda v: True)
    number("hot_pixels", 0, pixels // 4, int)
    number("vacuum", 0, 0.95)
    number("defects", 0, 0 if linear else positions, int)
    number("scan_step", 1e-6, 1e6)
    number("seed", 0, 2**63, int)
    return checked


def _generators(seed: int) -> dict[str, np.random.Generator]:
    """Independent random numbers for each part, so that changing one part does not change the others."""
    names = ("specimen", "vacuum", "descan", "defects", "detector", "noise")
    children = np.random.SeedSequence(seed).spawn(len(names))
    return {name: np.random.default_rng(child) for name, child in zip(names, children, strict=True)}


def _n_parameters(arguments: dict[str, Any]) -> int:
    if arguments["structure"] == "linear":
        return 2  # three abundances that sum to one
    low, high = arguments["thickness"]
    return int(2 + 4 * (arguments["strain"] > 0) + 2 * (arguments["descan"] > 0) + (high > low))


def _beam_stop(pattern_shape: tuple[int, int], pixel_size: float) -> Array:
    """True (H, W) in the shadow: a disk over the direct beam and an arm to the upper edge."""
    y, x = (np.arange(n) - (n - 1) / 2 for n in pattern_shape)
    radius = max(2.0, 2 * PROBE_RADIUS / pixel_size)
    disk: Array = np.hypot(y[:, None], x) <= radius
    arm: Array = (y[:, None] <= 0) & (np.abs(x) <= radius / 2)
    return disk | arm


def _record_counts(
    rng: np.random.Generator, expectation: Array, hot_indices: Array, hot_means: Array
) -> Array:
    """Poisson counts (Ny, Nx, H, W) of `expectation`, and of mean `hot_means` at the flat detector pixels `hot_indices`."""
    highest = max(expectation.max(), hot_means.max(initial=0))
    dtype = np.uint16 if highest + 10 * np.sqrt(highest) + 20 < 2**16 else np.uint32
    counts = np.empty(expectation.shape, dtype)
    for row, expected_row in zip(counts, expectation, strict=True):
        row[...] = rng.poisson(expected_row)
        row.reshape(len(row), -1)[:, hot_indices] = rng.poisson(hot_means, (len(row), len(hot_indices)))
    return counts
