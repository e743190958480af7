"""Reports: a model measured against PCA and NMF, and figures of what it does to a scan."""

from .report import evidence, write_report

__all__ = ["evidence", "write_report"]
