"""Simulated scans with known truth."""

from .simulate import SimulatedScan, simulate

__all__ = ["SimulatedScan", "simulate"]
