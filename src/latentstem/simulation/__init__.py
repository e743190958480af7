"""Simulated scans whose true specimen and noise-free patterns are known."""

from .simulate import SimulatedScan, simulate

__all__ = ["SimulatedScan", "simulate"]
