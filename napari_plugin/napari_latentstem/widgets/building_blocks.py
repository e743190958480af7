"""Short forms for common widgets and layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QBoxLayout, QComboBox, QHBoxLayout, QLayout, QPushButton, QVBoxLayout, QWidget

__all__ = ["combo_box", "horizontal", "push_button", "single_shot_timer", "vertical"]


def combo_box(choices: Iterable[str] | dict[Any, str], tooltip: str = "") -> QComboBox:
    """A list of texts, or of values with their labels."""
    box = QComboBox()
    for value, label in (choices if isinstance(choices, dict) else {text: text for text in choices}).items():
        box.addItem(label, value)
    box.setToolTip(tooltip)
    return box


def push_button(text: str, tooltip: str, on_click: Callable[[], Any]) -> QPushButton:
    """A button."""
    button = QPushButton(text)
    button.setToolTip(tooltip)
    button.clicked.connect(lambda: on_click())
    return button


def single_shot_timer(parent: QObject, milliseconds: int, on_timeout: Callable[[], Any]) -> QTimer:
    """A timer that fires once after each start."""
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.timeout.connect(on_timeout)
    return timer


def horizontal(*items: QWidget | QLayout, stretch: QWidget | QLayout | None = None) -> QHBoxLayout:
    """Items side by side, of which `stretch` takes the remaining space."""
    layout = QHBoxLayout()
    _add_items(layout, items, stretch)
    return layout


def vertical(
    parent: QWidget,
    *items: QWidget | QLayout,
    stretch: QWidget | QLayout | None = None,
    margin: int | None = None,
) -> QVBoxLayout:
    """Items one below the other in `parent`, of which `stretch` takes the remaining space."""
    layout = QVBoxLayout(parent)
    if margin is not None:
        layout.setContentsMargins(margin, margin, margin, margin)
    _add_items(layout, items, stretch)
    return layout


def _add_items(
    layout: QBoxLayout, items: Iterable[QWidget | QLayout], stretch: QWidget | QLayout | None
) -> None:
    for item in items:
        factor = int(item is stretch)
        layout.addWidget(item, factor) if isinstance(item, QWidget) else layout.addLayout(item, factor)
