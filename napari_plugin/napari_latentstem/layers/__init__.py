"""Napari layers of a scan, and the files they come from and go to."""
