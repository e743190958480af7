"""The form in which a run of training is described."""

from __future__ import annotations

import ast
import inspect
import re
from typing import Annotated, Any, Literal, get_args, get_origin

from qtpy.QtGui import QValidator
from qtpy.QtWidgets import QComboBox, QFormLayout, QHBoxLayout, QLineEdit, QSpinBox, QVBoxLayout, QWidget
from superqt import QCollapsible

from latentstem import TrainingConfig
from latentstem.config import PRESETS

__all__ = ["ConfigForm"]

_FIELDS = TrainingConfig.model_fields
_DEFAULTS = {name: field.default for name, field in _FIELDS.items()}

_OBJECTIVES = {
    "auto": "automatic",
    "poisson": "Poisson likelihood (counts)",
    "mse": "mean squared error",
    "mae": "mean absolute error",
    "huber": "Huber",
}
_DEVICES = {"auto": "automatic", "cpu": "processor (cpu)", "gpu": "graphics card (gpu)"}
#: how long to train: label, and the number it starts with
_LENGTHS = {
    "automatic": 0,
    "epochs": 30,
    "patterns": 100_000,
    "minutes at most": 5,
}
_ADVANCED = {
    "network": "Network",
    "preprocessing": "Preprocessing",
    "split_counts": "Split counts",
    "context": "Neighbour radius",
    "bin": "Detector binning",
    "crop": "Detector crop",
    "learning_rate": "Learning rate",
    "schedule": "Learning-rate schedule",
    "batch_size": "Batch size",
    "weight_decay": "Weight decay",
    "gradient_clip": "Gradient clipping",
    "lambda_act": "L1 weight",
    "lambda_sim": "Contrastive weight",
    "lambda_div": "Divergence weight",
    "validation_fraction": "Held-out share",
    "patience": "Patience",
    "precision": "Precision",
    "seed": "Seed",
}
#: what the weights of a model fix, so that training on takes it from there
_OF_THE_MODEL = ("network", "latent_dim", "preprocessing", "reconstruction", "context", "bin", "crop")
#: what can be changed when a run goes on exactly where it was stopped
_OF_THE_RUN = ("epochs", "max_patterns", "max_time", "device")


class ConfigForm(QWidget):
    """Fields of a `TrainingConfig`; the rarer ones are folded away.

    A preset fills in the form, so what is seen is what is run.
    """

    def __init__(self) -> None:
        super().__init__()
        self._editors: dict[str, QWidget] = {
            "latent_dim": _LatentSize(),
            "reconstruction": _choice(_OBJECTIVES),
            "device": _choice(_DEVICES),
            **{name: _editor(_FIELDS[name].annotation) for name in _ADVANCED},
        }
        told = _descriptions()
        for name, editor in self._editors.items():
            editor.setToolTip(told[name])
        self.preset = _choice({name: name for name in PRESETS})
        self.preset.setToolTip("What the form is filled in with")
        self.preset.activated.connect(lambda _: self.set_preset(self.preset.currentData()))
        self.length = _choice({name: name for name in _LENGTHS})
        self.length.setToolTip(
            "How long to train. Automatic: 50 passes over the scan, but at least 60,000 and at most 300,000 patterns"
        )
        self.amount = QSpinBox()
        self.amount.setRange(1, 1_000_000_000)
        self.length.currentIndexChanged.connect(self._on_length)
        self._build()
        self.set_preset("default")

    def _build(self) -> None:
        length = QHBoxLayout()
        length.addWidget(self.length, 1)
        length.addWidget(self.amount, 1)
        main = QFormLayout()
        main.addRow("Preset", self.preset)
        main.addRow("Latents", self._editors["latent_dim"])
        main.addRow("Objective", self._editors["reconstruction"])
        main.addRow("Length", length)
        main.addRow("Device", self._editors["device"])
        inside = QWidget()
        advanced = QFormLayout(inside)
        for name, label in _ADVANCED.items():
            advanced.addRow(label, self._editors[name])
        for form in (main, advanced):
            form.setContentsMargins(0, 0, 0, 0)
            form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.fold = QCollapsible("Advanced")
        self.fold.setContent(inside)
        self.fold.collapse(animate=False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(main)
        layout.addWidget(self.fold)

    def set_preset(self, name: str) -> None:
        """Fill in the form."""
        values = {**_DEFAULTS, **PRESETS[name]}
        self.preset.setCurrentIndex(self.preset.findData(name))
        for field, editor in self._editors.items():
            _set(editor, values[field])
        kind, amount = "automatic", 1
        if values["epochs"] is not None:
            kind, amount = "epochs", values["epochs"]
        elif values["max_patterns"] is not None:
            kind, amount = "patterns", values["max_patterns"]
        self.set_length(kind, amount)

    def set_length(self, kind: str, amount: int = 1) -> None:
        """How long to train: "automatic", "epochs", "patterns" or "minutes at most"."""
        self.length.setCurrentIndex(self.length.findData(kind))
        if kind != "automatic":
            self.amount.setValue(amount)

    def set_value(self, name: str, value: Any) -> None:
        """Fill in one field, by its name in `TrainingConfig`."""
        _set(self._editors[name], value)

    def config(self) -> TrainingConfig:
        """What is filled in, for a new model.

        Raises
        ------
        ArgumentError
            For a value that cannot be used; it says what can.
        """
        return TrainingConfig.from_arguments(**self._values())

    def config_to_train_on(self) -> TrainingConfig:
        """What is filled in, without what the weights of a model fix."""
        values = self._values()
        return TrainingConfig.from_arguments(
            **{name: value for name, value in values.items() if name not in _OF_THE_MODEL}
        )

    def config_to_resume(self) -> TrainingConfig:
        """What may change in a run that goes on exactly where it was stopped."""
        values = self._values()
        return TrainingConfig.from_arguments(**{name: values[name] for name in _OF_THE_RUN})

    def _values(self) -> dict[str, Any]:
        kind, amount = self.length.currentData(), self.amount.value()
        return {
            **{name: _value(editor) for name, editor in self._editors.items()},
            "epochs": amount if kind == "epochs" else None,
            "max_patterns": amount if kind == "patterns" else None,
            "max_time": {"minutes": amount} if kind == "minutes at most" else None,
        }

    def _on_length(self) -> None:
        kind = self.length.currentData()
        self.amount.setVisible(kind != "automatic")
        if kind != "automatic":
            self.amount.setValue(_LENGTHS[kind])


class _LatentSize(QSpinBox):
    """A number of latents, or "auto" below 1."""

    def __init__(self) -> None:
        super().__init__()
        self.setRange(0 if _takes_auto() else 1, 1024)
        if self.minimum() == 0:
            self.setSpecialValueText("auto")

    def validate(self, text: str, at: int) -> Any:
        """The word can be typed, too."""
        if self.minimum() == 0 and text and "auto".startswith(text):
            state = QValidator.State.Acceptable if text == "auto" else QValidator.State.Intermediate
            return state, text, at
        return super().validate(text, at)

    def valueFromText(self, text: str) -> int:
        """0 for the word."""
        return 0 if text == "auto" else super().valueFromText(text)


def _takes_auto() -> bool:
    return "auto" in str(_FIELDS["latent_dim"].annotation)


def _choice(labels: dict[Any, str]) -> QComboBox:
    box = QComboBox()
    for value, label in labels.items():
        box.addItem(label, value)
    return box


def _editor(annotation: Any) -> QWidget:
    """A list where there are few values, else a line of text."""
    choices = _choices(annotation)
    if choices is None:
        return QLineEdit()
    words = {True: "yes", False: "no", "auto": "automatic"}
    return _choice({value: words.get(value, str(value)) for value in choices})


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


def _set(editor: QWidget, value: Any) -> None:
    if isinstance(editor, QComboBox):
        editor.setCurrentIndex(max(0, editor.findData(value)))
    elif isinstance(editor, QSpinBox):
        editor.setValue(0 if value == "auto" else value)
    elif isinstance(editor, QLineEdit):
        editor.setText("" if value is None else f"{value:g}" if isinstance(value, float) else str(value))
        editor.setCursorPosition(0)


def _value(editor: QWidget) -> Any:
    if isinstance(editor, QComboBox):
        return editor.currentData()
    if isinstance(editor, QSpinBox):
        return "auto" if editor.value() == 0 else editor.value()
    text = editor.text().strip()  # type: ignore[attr-defined]
    try:
        return ast.literal_eval(text) if text else None
    except (ValueError, SyntaxError):
        return text  # refused with a message that says what is expected


def _descriptions() -> dict[str, str]:
    """What each field means, from the parameters of `TrainingConfig`."""
    told, names = {}, []
    for line in (inspect.getdoc(TrainingConfig) or "").splitlines():
        field = re.fullmatch(r"([\w, ]+) : (.+)", line)
        if field:
            names = field[1].split(", ")
        elif line.startswith("    "):
            for name in names:
                told[name] = f"{told[name]} {line.strip()}" if name in told else line.strip()
    return {name: told.get(name, "").replace("``", "").replace("`", "") for name in _FIELDS}
