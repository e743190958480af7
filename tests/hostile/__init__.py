"""Odd inputs, damaged files, interruptions and kills, for the tests and for ``python -m benchmarks.reliability``."""
