"""Diffraction patterns of thin crystals, drawn as expected electron counts.

Electrons of 200 kV in a nearly parallel probe. The reflections of one zone axis are small disks whose
intensities follow the two-beam formula ``sin^2(pi t s_eff) / (xi s_eff)^2`` with ``s_eff^2 = s^2 + 1/xi^2``
(thickness t, excitation error s, extinction distance xi). Strain and rotation move the disks, tilt changes s,
descan shifts the whole pattern, and diffuse scattering grows with the thickness.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

PROBE_RADIUS = 0.1  # 1/angstrom: a convergence semi-angle of 2.5 mrad

_WAVELENGTH = 0.02508  # angstrom
_RELATIVISTIC_MASS = 1.391  # mass of the electrons over their rest mass
_MAX_SCATTERING_VECTOR = 1.9  # 1/angstrom: longer reflections are left out
_EDGE_HALF_WIDTH = 0.7  # pixels, of the soft edge of a disk
_DIFFUSE_LENGTH = 300.0  # nm: mean free path
_DIFFUSE_WIDTHS = ((0.6, 0.15), (0.4, 0.45))  # intensity fraction, sigma in 1/angstrom
_MIN_INTENSITY_FRACTION = 1e-7  # of the dose; fainter disks are not drawn
_MAX_ELEMENTS = 2_000_000  # of the temporary arrays


class Phase(NamedTuple):
    """A cubic element; form factor (angstrom) as four Gaussians after Doyle and Turner (1968)."""

    lattice: float  # angstrom
    face_centred: bool  # otherwise body-centred
    a: tuple[float, ...]
    b: tuple[float, ...]  # angstrom^2
    debye_waller: float  # B in angstrom^2


PHASES = (
    Phase(4.050, True, (2.276, 2.428, 0.858, 0.317), (72.322, 19.773, 3.080, 0.408), 0.86),  # aluminium
    Phase(2.866, False, (2.544, 2.343, 1.759, 0.506), (64.424, 14.880, 2.854, 0.350), 0.35),  # alpha iron
)


# Zone axes of each phase with strong reflections of the zero-order Laue zone.
ZONES = (((0, 0, 1), (0, 1, 1), (1, 1, 2)), ((0, 0, 1), (0, 1, 1), (1, 1, 1)))


class Crystal(NamedTuple):
    """A phase seen along a zone axis.

    ``reflections`` is (R, 2), as (y, x) in 1/angstrom; ``inverse_extinction`` is (R,), 1/xi in 1/nm.
    """

    phase: int
    reflections: Array
    inverse_extinction: Array


VACUUM = Crystal(-1, np.zeros((0, 2)), np.zeros(0))


def make_crystal(phase: int, zone: tuple[int, int, int]) -> Crystal:
    """The crystal of ``PHASES[phase]`` seen along `zone`, with its allowed reflections; the shortest lies along x."""
    material = PHASES[phase]
    n = int(np.ceil(_MAX_SCATTERING_VECTOR * material.lattice))
    hkl = np.indices((2 * n + 1,) * 3).reshape(3, -1).T - n
    hkl = hkl[hkl @ np.array(zone) == 0]
    parity = hkl % 2
    allowed = np.ptp(parity, axis=1) == 0 if material.face_centred else parity.sum(axis=1) % 2 == 0
    length = np.linalg.norm(hkl, axis=1) / material.lattice
    is_drawn = allowed & (length > 0) & (length <= _MAX_SCATTERING_VECTOR)
    hkl, length = hkl[is_drawn], length[is_drawn]
    along_x = hkl[np.argmin(length)] / np.linalg.norm(hkl[np.argmin(length)])
    along_y = np.cross(zone, along_x) / np.linalg.norm(zone)
    reflections = hkl @ np.stack([along_y, along_x], axis=1) / material.lattice

    # form factors are tabulated over sin^2(theta) / wavelength^2 in 1/angstrom^2
    sin2_over_wavelength2 = (length[:, None] / 2) ** 2
    form_factor = (np.array(material.a) * np.exp(-np.array(material.b) * sin2_over_wavelength2)).sum(axis=1)
    structure_factor = (4 if material.face_centred else 2) * form_factor
    structure_factor = (
        structure_factor * _RELATIVISTIC_MASS * np.exp(-material.debye_waller * sin2_over_wavelength2[:, 0])
    )
    extinction = np.pi * material.lattice**3 / (_WAVELENGTH * structure_factor)  # angstrom
    return Crystal(phase, reflections, 10 / extinction)


def draw_patterns(
    expectation: Array,
    positions: Array,
    crystal: Crystal,
    truth: dict[str, Array],
    pixel_size: float,
    dose: float,
) -> None:
    """Write the expected patterns of one crystal.

    Parameters
    ----------
    expectation : ndarray (N, H, W), float32
        Written at `positions`; sums to `dose` over an unbounded detector.
    positions : ndarray (n,)
        Indices of scan positions.
    crystal : Crystal
        The crystal at those positions.
    truth : dict of ndarray (N,)
        rotation (rad), strain_xx, strain_yy, strain_xy, tilt_x, tilt_y (mrad), thickness (nm), descan_y,
        descan_x (pixels).
    pixel_size : float
        1/angstrom.
    dose : float
        Electrons per pattern.
    """
    pattern_shape = expectation.shape[1:]
    radius = PROBE_RADIUS / pixel_size + _EDGE_HALF_WIDTH
    elements_per_position = (len(crystal.reflections) + 1) * int(2 * radius + 2) ** 2 + expectation[0].size
    step = max(1, _MAX_ELEMENTS // elements_per_position)
    for start in range(0, len(positions), step):
        chunk = positions[start : start + step]
        local = {name: values[chunk] for name, values in truth.items()}
        beams, fractions = _beams(crystal, local)
        centre = np.stack([local["descan_y"], local["descan_x"]], axis=1) + (np.array(pattern_shape) - 1) / 2
        diffuse = 1 - np.exp(-local["thickness"] / _DIFFUSE_LENGTH)  # 0 in vacuum, where the thickness is 0
        fractions = fractions * (1 - diffuse)[:, None]
        disks = _draw_disks(beams / pixel_size + centre[:, None], fractions, pattern_shape, radius)
        expectation[chunk] = dose * (disks + _draw_diffuse(centre, diffuse, pattern_shape, pixel_size))


def _beams(crystal: Crystal, truth: dict[str, Array]) -> tuple[Array, Array]:
    """Positions (n, R + 1, 2) in 1/angstrom and intensity fractions (n, R + 1) of the direct and the diffracted beams.

    The fractions of each pattern sum to one.
    """
    t = {name: values[:, None] for name, values in truth.items()}
    y, x = crystal.reflections.T
    cos, sin = np.cos(t["rotation"]), np.sin(t["rotation"])
    y, x = cos * y + sin * x, cos * x - sin * y
    y, x = (  # to first order, strain in real space shrinks reciprocal space
        y - t["strain_yy"] * y - t["strain_xy"] * x,
        x - t["strain_xx"] * x - t["strain_xy"] * y,
    )
    tilted = (y * t["tilt_y"] + x * t["tilt_x"]) / 1000
    excitation_error = 10 * (tilted - _WAVELENGTH / 2 * (y**2 + x**2))  # 1/nm
    effective = np.hypot(excitation_error, crystal.inverse_extinction)
    fractions = (np.sin(np.pi * t["thickness"] * effective) * crystal.inverse_extinction / effective) ** 2
    direct = np.ones((len(fractions), 1))
    fractions = np.concatenate([direct, fractions], axis=1)
    positions = np.stack([np.concatenate([0 * direct, v], axis=1) for v in (y, x)], axis=2)
    return positions, fractions / fractions.sum(axis=1, keepdims=True)


def _draw_disks(positions: Array, fractions: Array, pattern_shape: tuple[int, ...], radius: float) -> Array:
    """Soft disks at `positions` (n, D, 2), in pixels, that sum to `fractions` (n, D), on patterns (n, H, W)."""
    half = int(radius + 0.5)
    padded = np.array(pattern_shape) + 4 * half  # so that a disk may lie across the detector's edge
    nearest = np.rint(positions).astype(np.int64)
    low, high = -half, np.array(pattern_shape) + half
    is_drawn = (fractions > _MIN_INTENSITY_FRACTION) & np.all((nearest >= low) & (nearest < high), axis=2)
    nearest, subpixel = nearest[is_drawn], (positions[is_drawn] - nearest[is_drawn]).astype(np.float32)
    offsets = np.arange(-half, half + 1)
    dy, dx = ((offsets.astype(np.float32) - subpixel[:, axis, None]) ** 2 for axis in (0, 1))
    coverage = np.clip((radius - np.sqrt(dy[:, :, None] + dx[:, None, :])) / (2 * _EDGE_HALF_WIDTH), 0, 1)
    disk = coverage * coverage * (3 - 2 * coverage)
    disk *= (fractions[is_drawn] / disk.sum(axis=(1, 2)))[:, None, None]
    row = np.nonzero(is_drawn)[0] * padded[0] + nearest[:, 0] + 2 * half
    corner = row * padded[1] + nearest[:, 1] + 2 * half
    index = corner[:, None, None] + offsets[:, None] * padded[1] + offsets
    canvas = np.bincount(index.ravel(), disk.ravel(), minlength=len(positions) * padded.prod())
    return canvas.reshape(-1, *padded)[:, 2 * half : -2 * half, 2 * half : -2 * half]


def _draw_diffuse(centre: Array, fraction: Array, pattern_shape: tuple[int, ...], pixel_size: float) -> Array:
    """Two Gaussians around `centre` (n, 2) that sum to `fraction` (n,), on patterns (n, H, W)."""
    total = np.zeros((len(centre), *pattern_shape))
    for weight, sigma in _DIFFUSE_WIDTHS:
        width = max(sigma / pixel_size, 0.8)  # pixels; narrower ones would not be sampled well
        y, x = (
            np.exp(-(((np.arange(n) - centre[:, axis, None]) / width) ** 2) / 2)
            for axis, n in enumerate(pattern_shape)
        )
        height = weight * fraction[:, None] / (2 * np.pi * width**2)
        total += (height * y)[:, :, None] * x[:, None, :]
    return total
