"""What is in a scan, before training on it: values, empty patterns, gaps, hot and dead detector pixels."""

from __future__ import annotations

from .scan.quality import Quality
from .scan.quality import measure_quality as inspect

__all__ = ["Quality", "inspect"]
