"""Scans: a read-only view of a 4D-STEM dataset, series of scans, and what streamed passes over a scan find."""
