"""Scale bars have round lengths of about a quarter of the image, and units as they are printed."""

from __future__ import annotations

import pytest

from latentstem.scan.scale_bar import pixel_aspect, printed_units, scale_bar
from latentstem.scan.scan import Axis


@pytest.mark.parametrize(
    ("axis", "pixels", "label"),
    [
        (Axis("x", 24, 0.05, 0.0, "1/angstrom"), 4, "0.2 Å⁻¹"),
        (Axis("x", 20, -2.0, 0.0, "um"), 5, "10 µm"),
        (Axis("x", 20), 5, "5 px"),
        (Axis("x", 24, 0.0, 0.0, "nm"), 5, "5 px"),
    ],
)
def test_length_and_label(axis, pixels, label):
    assert scale_bar(axis) == (pytest.approx(pixels), label)


def test_units_without_another_print_stay():
    assert printed_units("mrad") == "mrad"


def test_pixels_have_an_aspect_only_in_the_same_units():
    y = Axis("y", 9, 3.0, 0.0, "nm")
    assert pixel_aspect(y, Axis("x", 9, -2.0, 0.0, "nm")) == 1.5
    assert pixel_aspect(y, Axis("x", 9, 2.0, 0.0, "um")) == 1
