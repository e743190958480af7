"""Training: the Lightning parts, kept thin."""
