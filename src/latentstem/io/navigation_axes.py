"""Errors about the navigation and signal axes of a HyperSpy signal or file."""

from __future__ import annotations

from ..errors import ArgumentText, ScanDimensionError, UnsupportedDataError

__all__ = ["EXPECTED_AXES", "axes_error", "describe_axes", "ragged_error"]

EXPECTED_AXES = "2 navigation axes (the scan) and 2 signal axes (the diffraction pattern)"


def axes_error(
    navigation: int, signal: int, description: str, *, is_unfolded: bool = False
) -> ScanDimensionError:
    """Error for a wrong number of navigation or signal axes, with advice how to get two of each."""
    return ScanDimensionError(
        "navigation and signal axes",
        expected=EXPECTED_AXES,
        received=describe_axes(navigation, signal, description),
        advice="The signal is unfolded: use signal.fold()." if is_unfolded else _advice(navigation, signal),
    )


def ragged_error(description: str) -> UnsupportedDataError:
    """Error for a ragged signal: peaks, vectors or other lists of different lengths."""
    return UnsupportedDataError(
        "ragged signal: a list of peaks or vectors at each scan position, not a pattern",
        expected="a signal whose diffraction patterns all have one shape",
        received=description,
        advice="Give the scan in which the peaks were found; or stack patterns of one shape into a signals.Signal2D.",
    )


def describe_axes(navigation: int, signal: int, description: str) -> str:
    """``1 navigation and 2 signal axes, <Signal2D, title: , dimensions: (35|24, 32)>``."""
    return f"{navigation} navigation and {signal} signal axes, {description}"


def _advice(navigation: int, signal: int) -> str:
    """How to give a signal two navigation and two signal axes; the commands are covered by tests."""
    dimensions = navigation + signal
    if (navigation, signal) == (2, 1):
        return (
            "One signal axis holds spectra or profiles, not diffraction patterns: give the 4D-STEM scan that they come "
            "from. PCA and NMF (signal.decomposition) serve for spectra."
        )
    patterns_last = "signal.transpose(signal_axes=2), which makes the last two axes of the data the pattern"
    needs_transpose = signal != 2
    if dimensions == 4:
        return f"Use {patterns_last}."
    if dimensions == 3:
        first = f"Use {patterns_last}; then give" if needs_transpose else "Give"
        return ArgumentText(
            f"{first} {{scan_shape}}, scan rows and columns, or make a signal with "
            "hs.signals.Signal2D(signal.data.reshape(Ny, Nx, H, W)).",
            scan_shape=("Ny", "Nx"),
        )
    if dimensions > 4:
        colons = ", ".join([":", ":"] + ["0"] * (dimensions - 4))
        first = f"Use {patterns_last}; then select" if needs_transpose else "Select"
        return f"{first} one scan of the series, for example signal.inav[{colons}]."
    return "This looks like a single image or spectrum; give the whole scan."
