"""Editors for the fields of a `TrainingConfig`."""

from __future__ import annotations

import ast
from typing import Annotated, Any, Literal, get_args, get_origin

from qtpy.QtGui import QValidator
from qtpy.QtWidgets import QComboBox, QLineEdit, QSpinBox, QWidget

from .building_blocks import combo_box

__all__ = ["LatentDimEditor", "editor_for", "editor_value", "set_editor_value"]


class LatentDimEditor(QSpinBox):
    """A number of latents; 0 is shown as "auto"."""

    def __init__(self) -> None:
        super().__init__()
        self.setRange(0, 1024)
        self.setSpecialValueText("auto")

    def validate(self, text: str, position: int) -> Any:
        """Accept the word "auto"."""
        if text and "auto".startswith(text):
            state = QValidator.State.Acceptable if text == "auto" else QValidator.State.Intermediate
            return state, text, position
        return super().validate(text, position)

    def valueFromText(self, text: str) -> int:
        """0 for "auto"."""
        return 0 if text == "auto" else super().valueFromText(text)


def editor_for(annotation: Any) -> QWidget:
    """A list if the annotation allows few values, else a line of text."""
    choices = _choices(annotation)
    if choices is None:
        return QLineEdit()
    labels = {True: "yes", False: "no", "auto": "automatic"}
    return combo_box({value: labels.get(value, str(value)) for value in choices})


def _choices(annotation: Any) -> tuple[Any, ...] | None:
    if annotation is bool:
        return True, False
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) is Annotated:
        return _choices(get_args(annotation)[0])
    members = [_choices(member) for member in get_args(annotation)]
    if not members or None in members:
        return None
    return tuple(value for member in members for value in member or ())


def set_editor_value(editor: QWidget, value: Any) -> None:
    """Show a value of the field."""
    if isinstance(editor, QComboBox):
        editor.setCurrentIndex(max(0, editor.findData(value)))
    elif isinstance(editor, QSpinBox):
        editor.setValue(0 if value == "auto" else value)
    elif isinstance(editor, QLineEdit):
        editor.setText("" if value is None else f"{value:g}" if isinstance(value, float) else str(value))
        editor.setCursorPosition(0)


def editor_value(editor: QWidget) -> Any:
    """The value of the field; text that is no Python literal is returned unchanged, for `TrainingConfig` to refuse."""
    if isinstance(editor, QComboBox):
        return editor.currentData()
    if isinstance(editor, QSpinBox):
        return "auto" if editor.value() == 0 else editor.value()
    text = editor.text().strip() if isinstance(editor, QLineEdit) else ""
    try:
        return ast.literal_eval(text) if text else None
    except (ValueError, SyntaxError):
        return text
