"""Simulated scans with known ground truth."""

from .simulate import SimulatedScan, simulate

__all__ = ["SimulatedScan", "simulate"]
