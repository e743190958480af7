"""Training configuration: validated, JSON-serialisable, with presets."""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from .errors import ArgumentError
from .util.argument_checks import suggest

__all__ = ["FIXED_BY_WEIGHTS", "MAX_CONTEXT", "PRESETS", "RESUMABLE", "TrainingConfig"]

MAX_CONTEXT = 3  # scan positions: the largest neighbourhood that an encoder may see
_SEE_HELP = "See the parameters of latentstem.TrainingConfig."


class TrainingConfig(BaseModel):
    """A validated description of one training run.

    Every field is also a keyword argument of ``train_autoencoder`` and an option of ``latentstem train``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    network: Literal["compact", "resnet"] = Field(
        "compact",
        description="compact: principal components and a small decoder, for one pattern shape; resnet: the reference "
        "architecture, any pattern shape, many times slower.",
    )
    latent_dim: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        32,
        description="Number of latents per scan position. auto runs short trainings with 2, 4, 8, ... latents and "
        "takes the smallest number that predicts held-out patterns as well as twice as many; it states its choice.",
    )
    preprocessing: Literal["auto", "minmax", "sqrt", "log", "zscore", "none"] = Field(
        "auto", description="Invertible map from detector values to network input; auto states its choice."
    )
    reconstruction: Literal["auto", "mse", "mae", "huber", "poisson"] = Field(
        "auto", description="Reconstruction term of the objective; auto is poisson for counts, else mse."
    )
    split_counts: StrictBool | Literal["auto"] = Field(
        "auto",
        description="Thin each pattern into two independent halves, encode one and predict the other, so that noise cannot "
        "be learnt. Needs counts; auto uses it where the data are counts and the reconstruction is poisson.",
    )
    context: int = Field(
        2,
        ge=0,
        le=MAX_CONTEXT,
        description="Radius of the neighbourhood in scan positions: similar neighbours within it are averaged for the encoder's "
        "input. 0: none.",
    )
    bin: int = Field(1, ge=1, le=64, description="Bin the detector by this factor (sum) before the network.")
    crop: tuple[int, int, int, int] | None = Field(
        None,
        description="Detector region (row start, row stop, column start, column stop) to use, in pixels.",
    )
    lambda_act: float = Field(0.0, ge=0, description="Weight of the L1 penalty, which makes latents sparse.")
    lambda_sim: float = Field(
        0.0, ge=0, description="Weight of the similarity penalty, which makes latents diverse."
    )
    lambda_div: float = Field(
        0.0, ge=0, description="Weight of the divergence penalty, which prevents constant latents."
    )
    learning_rate: float = Field(3e-3, gt=0, le=10, description="Peak learning rate.")
    batch_size: int = Field(
        128,
        ge=1,
        description="Patterns per step; reduced, with a message, if the scan is too small.",
    )
    epochs: int | None = Field(
        None,
        ge=1,
        description="Passes over the training positions. Without it, training is budgeted by max_patterns.",
    )
    max_patterns: int | None = Field(
        None,
        ge=1,
        description="Patterns to train on in total when epochs is not given, whatever the size of the scan. Without it, 50 "
        "passes over the scan, but at least 60,000 and at most 300,000 patterns.",
    )
    max_time: str | None = Field(
        None,
        description='Stop after this time; as in Lightning, "DD:HH:MM:SS", a dict for timedelta, or a timedelta.',
    )
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="Learning-rate schedule after the warm-up."
    )
    weight_decay: float = Field(
        5.0,
        ge=0,
        description="Weight decay of dense and convolutional layers, multiplied by the learning rate; reduces fitting of noise "
        "in long runs.",
    )
    gradient_clip: float = Field(1.0, ge=0, description="Largest gradient norm; 0 switches clipping off.")
    patience: int | None = Field(
        None,
        ge=1,
        description="Stop after this many validations without improvement. None never stops early.",
    )
    validation_fraction: float = Field(
        0.05,
        gt=0,
        lt=0.9,
        description="Fraction of the scan, in blocks of neighbouring positions, that is held out for validation.",
    )
    realtime_metrics: StrictBool = Field(
        False, description="Measure PSNR and SSIM at every validation, not only at the end."
    )
    device: Literal["auto", "cpu", "gpu", "cuda", "mps"] = Field(
        "auto", description="Where to train; gpu: any available accelerator."
    )
    devices: int = Field(
        1,
        ge=1,
        description="Number of training processes per machine (one per GPU, or several sharing a CPU). batch_size counts the "
        "patterns of all processes.",
    )
    strategy: Literal["auto", "ddp", "ddp_notebook"] = Field(
        "auto",
        description="How processes are launched, in Lightning's terms. ddp: each process runs the script again; "
        "ddp_notebook: processes are forked; auto: whichever works, with a message.",
    )
    num_nodes: int = Field(1, ge=1, description="Machines that train together, such as nodes of a cluster.")
    workers: int = Field(0, ge=0, description="Processes that load data; 0 loads in the main process.")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(
        "32-true", description="Numerical precision, as Lightning names it."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of initial weights, split, order and thinning.")

    @field_validator("*", mode="before")
    @classmethod
    def _reject_bool(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and info.field_name not in ("split_counts", "realtime_metrics"):
            raise ValueError("a number or a name, not True or False")
        return value

    @field_validator("max_time", mode="before")
    @classmethod
    def _to_lightning_string(cls, value: Any) -> Any:
        try:
            if isinstance(value, dict):
                value = timedelta(**value)
            elif isinstance(value, str):
                days, hours, minutes, seconds = map(int, value.split(":"))
                value = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        except (TypeError, OverflowError) as error:
            raise ValueError(str(error)) from None
        if isinstance(value, timedelta):
            total = int(value.total_seconds())
            if total < 1:
                raise ValueError("too short")
            days, rest = divmod(total, 86400)
            return f"{days:02d}:{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
        return value

    @field_validator("crop")
    @classmethod
    def _check_crop(cls, value: tuple[int, int, int, int] | None) -> tuple[int, int, int, int] | None:
        if value is not None and not (0 <= value[0] < value[1] and 0 <= value[2] < value[3]):
            raise ValueError("not a region (start must be smaller than stop)")
        return value

    @model_validator(mode="after")
    def _check_combinations(self) -> TrainingConfig:
        if self.split_counts is True and self.reconstruction not in ("auto", "poisson"):
            raise ArgumentError(
                "split_counts and reconstruction contradict each other",
                expected="reconstruction='poisson' or 'auto' with split_counts=True, which predicts counts",
                received=f"reconstruction={self.reconstruction!r}",
                advice="Use split_counts='auto', or change reconstruction.",
            )
        if self.latent_dim == "auto" and self.network != "compact":
            raise ArgumentError(
                "latent_dim='auto' would take hours",
                expected="a whole number for a network that is slow to train, or network='compact'",
                received=f"latent_dim='auto' with network={self.network!r}",
                advice="Find the number with network='compact', then set it.",
            )
        return self

    @classmethod
    def from_arguments(cls, preset: str = "default", **arguments: Any) -> TrainingConfig:
        """A preset with some arguments changed.

        Parameters
        ----------
        preset : str
            A key of `PRESETS`.
        **arguments
            Fields of `TrainingConfig`.

        Raises
        ------
        ArgumentError
            For an unknown preset, a misspelt argument (the message names the closest) or a value out of
            range.
        """
        names: list[tuple[str, Any, dict[str, Any]]] = [("preset", preset, PRESETS)]
        names += [("training argument", name, cls.model_fields) for name in arguments]
        for kind, name, known_names in names:
            if not isinstance(name, str) or name not in known_names:
                raise ArgumentError(
                    f"unknown {kind}",
                    expected=f"one of {', '.join(known_names)}",
                    received=repr(name),
                    advice=suggest(str(name), known_names, _SEE_HELP),
                )
        try:
            return cls(**{**PRESETS[preset], **arguments})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            context = first.get("ctx", {})
            if isinstance(context.get("error"), ArgumentError):
                raise context["error"] from None
            name = str(first["loc"][0])
            expected = _EXPECTED_BY_FIELD.get(name) or _EXPECTED_BY_ERROR.get(
                first["type"], first["msg"].removeprefix("Value error, ")
            )
            raise ArgumentError(
                f"bad value for {name}",
                expected=expected.format(**context),
                received=repr({**PRESETS[preset], **arguments}[name]),
                advice=f"See {name} in the parameters of latentstem.TrainingConfig.",
            ) from None


# help() shows the descriptions of the fields
TrainingConfig.__doc__ = "\n".join(
    [
        inspect.cleandoc(TrainingConfig.__doc__ or ""),
        *("", "Parameters", "----------"),
        *(
            f"{name} : default {field.default!r}\n    {field.description}"
            for name, field in TrainingConfig.model_fields.items()
        ),
    ]
)


#: what a message expects, by the type of pydantic's error
_EXPECTED_BY_ERROR = {
    "greater_than_equal": "a value >= {ge:g}",
    "greater_than": "a value > {gt:g}",
    "less_than_equal": "a value <= {le:g}",
    "less_than": "a value < {lt:g}",
    "finite_number": "a finite number",
    "literal_error": "{expected}",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    "bool_type": "True or False",
}
#: what a message expects, by field, where several types or values are allowed
_EXPECTED_BY_FIELD = {
    "latent_dim": "a whole number from 1 to 1024, or 'auto'",
    "split_counts": "True, False or 'auto'",
    "crop": "row start, row stop, column start, column stop in pixels, each stop greater than its start",
    "max_time": "'DD:HH:MM:SS', a dict such as {{'minutes': 2}} or a timedelta, of at least one second",
}


#: Presets by name: the fields in which each differs from the defaults.
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "reference": {
        "network": "resnet",
        "preprocessing": "minmax",
        "reconstruction": "mse",
        "split_counts": False,
        "context": 0,
        "lambda_act": 1e-4,
        "lambda_sim": 5e-5,
        "lambda_div": 2e-4,
        "learning_rate": 1e-3,
        "batch_size": 2048,
        "weight_decay": 0.0,
        "schedule": "constant",
        "epochs": 50,
    },
    "fast": {"max_patterns": 100_000},
    "quality": {"max_patterns": 2_000_000, "latent_dim": 64, "learning_rate": 5e-4},
    "low-memory": {"batch_size": 256, "bin": 2},
}

#: Fields that the weights of a checkpoint determine: fine-tuning takes them from the checkpoint.
FIXED_BY_WEIGHTS = ("network", "latent_dim", "preprocessing", "reconstruction", "context", "bin", "crop")
#: Fields that may differ when a run is resumed.
RESUMABLE = frozenset({"epochs", "max_patterns", "max_time", "device", "workers"})
