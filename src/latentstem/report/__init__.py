"""Reports: a model measured against PCA and NMF, and figures of what it does to a scan."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .report import evidence, write_report

__all__ = ["evidence", "write_report"]


def __getattr__(name: str) -> Any:
    if name in __all__:  # imported on use: reports train and embed, figures alone need neither
        from . import report

        return getattr(report, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
