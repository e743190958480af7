"""Scans, series of scans, and the results of scan passes: quality and virtual images."""
