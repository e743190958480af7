"""Simulated scans for the benchmarks. Nothing in the package was tuned on them: seeds start at 100."""

from __future__ import annotations

from typing import Any

from latentstem.io.open import as_scan
from latentstem.scan.scan import Scan
from latentstem.simulation.simulate import SimulatedScan, simulate

#: 64 x 64 positions of 64 x 64 pixels with 12 grains, unless said otherwise
SCANS: dict[str, dict[str, Any]] = {
    "polycrystal, 100 e": {"seed": 101, "dose": 100, "defects": 20},
    "polycrystal, 500 e": {"seed": 102, "dose": 500, "defects": 20},
    "polycrystal, 1500 e": {"seed": 103, "dose": 1500, "defects": 20},
    "non-square, 500 e": {
        "seed": 104, "dose": 500, "defects": 15, "n_grains": 12,
        "scan_shape": (48, 80), "pattern_shape": (56, 72),
    },
    "single crystal, 1000 e": {"seed": 105, "dose": 1000, "defects": 20, "structure": "single crystal"},
    "beam stop, hot pixels, vacuum, descan, 500 e": {
        "seed": 106, "dose": 500, "beam_stop": True, "hot_pixels": 5, "vacuum": 0.2, "descan": 1.0,
    },
    "descan, polycrystal, 500 e": {"seed": 107, "dose": 500, "defects": 20, "descan": 2.0},
    "descan, single crystal, 1000 e": {
        "seed": 108, "dose": 1000, "defects": 20, "structure": "single crystal", "descan": 1.5,
    },
}  # fmt: skip
#: the scan that parts take which need one only
TYPICAL = "polycrystal, 500 e"
_QUICK = {"scan_shape": (20, 18), "pattern_shape": (16, 20), "n_grains": 4}


def benchmark_scan(name: str, quick: bool = False) -> SimulatedScan:
    """One of `SCANS`; with `quick`, a tiny one of its kind."""
    arguments = SCANS[name]
    if quick:
        arguments = {**arguments, **_QUICK}
        arguments["defects"] = min(arguments.get("defects", 0), 5)
    return simulate(**arguments)


def masked(simulated: SimulatedScan) -> Scan:
    """The counts as a scan, with the masks that a user would give."""
    return as_scan(
        simulated, scan_mask=_or_none(simulated.scan_mask), pattern_mask=_or_none(simulated.pattern_mask)
    )


def _or_none(mask: Any) -> Any:
    return mask if mask.any() else None
