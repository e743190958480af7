"""One spelling for the units that different libraries write."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["normalise_units"]

_UNCALIBRATED = {"", "px", "pix", "pixel", "pixels", "none", "undefined", "<undefined>", "n/a", "-"}
_SPELLINGS = {
    spelling: unit
    for unit, spellings in {
        "angstrom": "a å ang angstroms angström ångström",
        "um": "µm μm micron microns",
        "nm": "nanometer nanometre",
        "m": "meter metre",
        "mrad": "milliradian",
        "deg": "degree degrees °",
    }.items()
    for spelling in spellings.split()
}
_UNIT = re.compile(r"(?P<reciprocal>1/)?(?P<unit>[^\d^/]+?)(?P<power>\^?-1)?")


def normalise_units(units: Any) -> str:
    """Normalised spelling of a unit: ``"A^-1"``, ``"1/Å"`` and ``"$A^{-1}$"`` are all ``"1/angstrom"``.

    Parameters
    ----------
    units : str, bytes or another object
        Units as the host or the file stores them; another object stands for no units.

    Returns
    -------
    str
        ``"nm"``, ``"1/angstrom"``, ``"mrad"`` ...; empty for pixels and uncalibrated axes. Units that are not
        recognised come back unchanged.
    """
    if isinstance(units, bytes):
        units = units.decode("utf-8", errors="replace")
    if not isinstance(units, str):
        return ""
    text = units.strip()
    if text.lower() in _UNCALIBRATED:
        return ""
    bare = text.replace("\u212b", "Å").replace("⁻¹", "^-1").replace("**", "^")
    bare = re.sub(r"[\s\[\]{}()$_\\]", "", bare)  # LaTeX and the "[n_m]" of EMD files
    if "?" in bare:
        return ""
    match = _UNIT.fullmatch(bare)
    if match is None:
        return text
    unit = _SPELLINGS.get(match["unit"].lower(), match["unit"])
    if unit.lower() in _UNCALIBRATED:
        return ""
    return f"1/{unit}" if (match["reciprocal"] is None) != (match["power"] is None) else unit
