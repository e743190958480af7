"""Form for the configuration of a training run."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QFormLayout, QSpinBox, QWidget
from superqt import QCollapsible

from latentstem import TrainingConfig
from latentstem.config import FIXED_BY_WEIGHTS, PRESETS, RESUMABLE

from .building_blocks import combo_box, horizontal, vertical
from .field_editors import LatentDimEditor, editor_for, editor_value, set_editor_value

__all__ = ["ConfigForm"]

_FIELDS = TrainingConfig.model_fields
_OBJECTIVES = {
    "auto": "automatic",
    "poisson": "Poisson likelihood (counts)",
    "mse": "mean squared error",
    "mae": "mean absolute error",
    "huber": "Huber",
}
_DEVICES = {"auto": "automatic", "cpu": "processor (cpu)", "gpu": "graphics card (gpu)"}
#: units of the length of a run, and the initial number of each
_LENGTHS = {"automatic": 0, "epochs": 30, "patterns": 100_000, "minutes at most": 5}
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
    "lambda_sim": "Similarity weight",
    "lambda_div": "Divergence weight",
    "validation_fraction": "Validation fraction",
    "patience": "Patience",
    "precision": "Precision",
    "seed": "Seed",
}


class ConfigForm(QWidget):
    """Fields of a `TrainingConfig`; the rarer ones are in a collapsed section.

    A preset sets all fields, so that the form shows everything that will be run.
    """

    def __init__(self) -> None:
        super().__init__()
        self._editors: dict[str, QWidget] = {
            "latent_dim": LatentDimEditor(),
            "reconstruction": combo_box(_OBJECTIVES),
            "device": combo_box(_DEVICES),
            **{name: editor_for(_FIELDS[name].annotation) for name in _ADVANCED},
        }
        for name, editor in self._editors.items():
            editor.setToolTip(_FIELDS[name].description or "")
        self.preset = combo_box(list(PRESETS), "Sets all fields of the form")
        self.preset.activated.connect(lambda _: self.set_preset(self.preset.currentData()))
        self.length = combo_box(
            list(_LENGTHS),
            "Length of training. Automatic: 50 passes over the scan, but at least 60,000 and at most 300,000 patterns",
        )
        self.amount = QSpinBox()
        self.amount.setRange(1, 1_000_000_000)
        self.length.currentIndexChanged.connect(self._on_length)
        self._build()
        self.set_preset("default")

    def _build(self) -> None:
        length = horizontal(self.length, self.amount, stretch=self.length)
        length.setStretch(1, 1)
        main = QFormLayout()
        main.addRow("Preset", self.preset)
        main.addRow("Latents", self._editors["latent_dim"])
        main.addRow("Objective", self._editors["reconstruction"])
        main.addRow("Length", length)
        main.addRow("Device", self._editors["device"])
        section = QWidget()
        advanced = QFormLayout(section)
        for name, label in _ADVANCED.items():
            advanced.addRow(label, self._editors[name])
        for form in (main, advanced):
            form.setContentsMargins(0, 0, 0, 0)
            form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.advanced = QCollapsible("Advanced")
        self.advanced.setContent(section)
        self.advanced.collapse(animate=False)
        vertical(self, main, self.advanced, margin=0)

    def set_preset(self, name: str) -> None:
        """Set all fields to those of a preset."""
        values = {**{field: info.default for field, info in _FIELDS.items()}, **PRESETS[name]}
        self.preset.setCurrentIndex(self.preset.findData(name))
        for field, editor in self._editors.items():
            set_editor_value(editor, values[field])
        if values["epochs"] is not None:
            self.set_length("epochs", values["epochs"])
        elif values["max_patterns"] is not None:
            self.set_length("patterns", values["max_patterns"])
        else:
            self.set_length("automatic")

    def set_length(self, unit: str, amount: int = 1) -> None:
        """Set the length of training in "epochs", "patterns" or "minutes at most", or to "automatic"."""
        self.length.setCurrentIndex(self.length.findData(unit))
        if unit != "automatic":
            self.amount.setValue(amount)

    def set_value(self, name: str, value: Any) -> None:
        """Set one field, by its name in `TrainingConfig`."""
        set_editor_value(self._editors[name], value)

    def config(self) -> TrainingConfig:
        """Configuration for a new model.

        Raises
        ------
        ArgumentError
            For an invalid value.
        """
        return TrainingConfig.from_arguments(**self._values())

    def config_for_fine_tuning(self) -> TrainingConfig:
        """Configuration without the fields that the weights of a model fix."""
        values = self._values()
        return TrainingConfig.from_arguments(
            **{name: value for name, value in values.items() if name not in FIXED_BY_WEIGHTS}
        )

    def config_to_resume(self) -> TrainingConfig:
        """Configuration of the fields that may change when a run is resumed."""
        values = self._values()
        return TrainingConfig.from_arguments(
            **{name: value for name, value in values.items() if name in RESUMABLE}
        )

    def _values(self) -> dict[str, Any]:
        unit, amount = self.length.currentData(), self.amount.value()
        return {
            **{name: editor_value(editor) for name, editor in self._editors.items()},
            "epochs": amount if unit == "epochs" else None,
            "max_patterns": amount if unit == "patterns" else None,
            "max_time": {"minutes": amount} if unit == "minutes at most" else None,
        }

    def _on_length(self) -> None:
        unit = self.length.currentData()
        self.amount.setVisible(unit != "automatic")
        if unit != "automatic":
            self.amount.setValue(_LENGTHS[unit])
