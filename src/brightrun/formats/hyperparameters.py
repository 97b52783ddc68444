"""The hyperparameters of a run: presets, checked values, `--set key=value`, and the rules that adapt them to the data.

One schema for the pages, the estimate, the API, the command line and the trainer: the table in `hyperparameter_specs`.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from brightrun.formats.hyperparameter_specs import HYPERPARAMETERS, SPECS, HyperparameterSpec, Value, checked
from brightrun.formats.methods import MethodId

__all__ = [
    "ADJUSTABLE",
    "HYPERPARAMETERS",
    "PRESETS",
    "PRESET_ALIASES",
    "SPECS",
    "HyperparameterError",
    "HyperparameterSpec",
    "Hyperparameters",
    "Preset",
    "Value",
    "advice",
    "build",
    "check",
    "checked",
    "minimum_steps_rule",
    "of_method",
    "parse_set",
    "preset_named",
    "total_steps",
]


class HyperparameterError(ValueError):
    """Values outside the schema. problems: field → sentences, each naming the value and what is allowed."""

    def __init__(self, problems: Mapping[str, list[str]]) -> None:
        self.problems = {field: list(sentences) for field, sentences in problems.items()}
        super().__init__("; ".join(f"{name}: {text}" for name, texts in self.problems.items() for text in texts))


class Hyperparameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All hyperparameters of one run. Units, ranges and meaning: `HYPERPARAMETERS`. Defaults: balanced."""

    method: MethodId = "lora"
    learning_rate: float = 2e-4
    batch_size: int = 8
    epochs: int = 3
    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: str | list[str] = "all-linear"
    dpo_beta: float = 0.1
    dpo_label_smoothing: float = 0.0
    dpo_sft_weight: float = 0.0
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = 0.05
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    max_seq_length: int = 2048
    min_steps: int = 100
    max_steps: int = 0
    micro_batch_tokens: int = 4096
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    activation_checkpointing: bool = False
    eval_every_steps: int = 0
    checkpoint_every_steps: int = 25
    keep_checkpoints: int = 2
    early_stopping_patience: int = 0
    divergence_loss: float = 0.0
    heldout_fraction: float = 0.1
    seed: int = 0


ADJUSTABLE = frozenset(
    {
        "micro_batch_tokens", "activation_checkpointing", "checkpoint_every_steps", "keep_checkpoints",
        "eval_every_steps", "early_stopping_patience", "divergence_loss",
    }
)  # fmt: skip
"""May differ when a run goes on from a checkpoint: they decide speed, memory and records, not what is learned."""


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """A goal in plain words and the values that serve it."""

    id: str
    title: str
    goal: str
    values: dict[str, Value]


# Rank, alpha and learning rate are the earlier product's until our own sweep shows better ones.
PRESETS: dict[str, Preset] = {
    preset.id: preset
    for preset in (
        Preset(
            id="conservative",
            title="Careful",
            goal="Adopt tone and form, change as little else as possible. For up to about 150 conversations.",
            values={
                "rank": 8, "alpha": 16.0, "learning_rate": 1e-4, "batch_size": 4, "epochs": 3, "dropout": 0.05,
                "weight_decay": 0.0, "min_steps": 60,
            },
        ),
        Preset(
            id="balanced",
            title="Balanced",
            goal="Learn how the expert answers, keep general skill. The default.",
            values={
                "rank": 16, "alpha": 32.0, "learning_rate": 2e-4, "batch_size": 8, "epochs": 3, "dropout": 0.0,
                "weight_decay": 0.01, "min_steps": 100,
            },
        ),
        Preset(
            id="aggressive",
            title="Strong",
            goal="Learn new behaviour that is far from the base model. For more than about 300 conversations.",
            values={
                "rank": 32, "alpha": 64.0, "learning_rate": 3e-4, "batch_size": 16, "epochs": 4, "dropout": 0.0,
                "weight_decay": 0.01, "min_steps": 200,
            },
        ),
        Preset(id="custom", title="Custom", goal="Your own values; what you leave out is as in balanced.", values={}),
    )
}  # fmt: skip
# The earlier pages offered fast/balanced/quality; rank and alpha of those were 8/16 and 32/64.
PRESET_ALIASES = {"fast": "conservative", "quality": "aggressive"}


def preset_named(name: str) -> Preset:
    """The preset of this id or alias. Raises HyperparameterError."""
    preset = PRESETS.get(PRESET_ALIASES.get(name, name))
    if preset is None:
        known = ", ".join([*PRESETS, *PRESET_ALIASES])
        raise HyperparameterError({"preset": [f"{name!r} is not a preset; use one of {known}"]})
    return preset


def build(preset: str = "balanced", overrides: Mapping[str, Any] | None = None) -> Hyperparameters:
    """The preset's values with `overrides` (strings or JSON values) on top, checked against the schema.

    Raises HyperparameterError with every problem, not only the first.
    """
    values: dict[str, Any] = dict(preset_named(preset).values)
    problems: dict[str, list[str]] = {}
    for name, raw in (overrides or {}).items():
        spec = SPECS.get(name)
        if spec is None:
            problems[name] = [f"unknown hyperparameter; known are {', '.join(SPECS)}"]
            continue
        try:
            values[name] = checked(spec, raw)
        except ValueError as error:
            problems[name] = [str(error)]
    if problems:
        raise HyperparameterError(problems)
    given = overrides or {}
    if "alpha" not in given and "rank" in values:
        values["alpha"] = float(2 * values["rank"])
    values |= {name: value for name, value in of_method(values).items() if name not in given}
    return Hyperparameters(**values)


RSLORA_ALPHA = 8.0
"""The scale of plain LoRA at rank 16 with alpha 32; rsLoRA's point is that it need not follow the rank."""
_DPO_RATE = 1 / 20


def of_method(values: Mapping[str, Any]) -> dict[str, float]:
    """What a method wants otherwise than the preset, where the user says nothing."""
    match values.get("method", "lora"):
        case "rslora":
            return {"alpha": RSLORA_ALPHA}
        case "dpo":
            return {"learning_rate": float(f"{values.get('learning_rate', 2e-4) * _DPO_RATE:.3g}"), "epochs": 1}
    return {}


def check(values: Hyperparameters) -> None:
    """Raise HyperparameterError unless every value lies in its range (a hand-written run.json may not)."""
    problems: dict[str, list[str]] = {}
    for spec in HYPERPARAMETERS:
        try:
            checked(spec, getattr(values, spec.name))
        except ValueError as error:
            problems[spec.name] = [str(error)]
    if problems:
        raise HyperparameterError(problems)


def advice(values: Hyperparameters) -> dict[str, str]:
    """Field → warning, for values that are allowed and still deserve a second look."""
    notes: dict[str, str] = {}
    for spec in HYPERPARAMETERS:
        value = getattr(values, spec.name)
        if spec.advice_low is None or spec.advice_high is None:
            continue
        if value == 0 and spec.zero_allowed:
            notes[spec.name] = f"{spec.name} is 0: nothing will be learned; this run is a control."
        elif not spec.advice_low <= value <= spec.advice_high:
            notes[spec.name] = (
                f"{spec.name} {value:g} is outside the usual {spec.advice_low:g} to {spec.advice_high:g}."
            )
    return notes


def parse_set(items: Iterable[str]) -> dict[str, Value]:
    """`["rank=8", "learning_rate=1e-4"]` → typed values. Raises HyperparameterError with every problem."""
    values: dict[str, Value] = {}
    problems: dict[str, list[str]] = {}
    for item in items:
        name, equals, raw = item.partition("=")
        name = name.strip()
        if not equals:
            problems.setdefault(item, []).append("not of the form key=value")
        elif name not in SPECS:
            problems.setdefault(name, []).append(f"unknown hyperparameter; known are {', '.join(SPECS)}")
        else:
            try:
                values[name] = checked(SPECS[name], raw.strip())
            except ValueError as error:
                problems.setdefault(name, []).append(str(error))
    if problems:
        raise HyperparameterError(problems)
    return values


def minimum_steps_rule(
    values: Hyperparameters, *, train_records: int, explicit: Iterable[str] = ()
) -> tuple[Hyperparameters, list[str]]:
    """Make a small dataset give at least `min_steps` optimiser steps: lower the batch, then raise the epochs.

    Values in `explicit` (what the user set) stay. Returns the values and a sentence for each change.
    """
    fixed = set(explicit)
    fired: list[str] = []

    def steps(current: Hyperparameters) -> int:
        return math.ceil(train_records / current.batch_size) * current.epochs

    if values.min_steps == 0 or train_records == 0 or values.max_steps or steps(values) >= values.min_steps:
        return values, fired
    if "batch_size" not in fixed:
        batch = max(1, min(values.batch_size, train_records * values.epochs // values.min_steps))
        if batch != values.batch_size:
            fired.append(
                f"batch_size lowered from {values.batch_size} to {batch}: {train_records} training records over "
                f"{values.epochs} epochs would give only {steps(values)} of {values.min_steps} steps."
            )
            values = msgspec.structs.replace(values, batch_size=batch)
    if steps(values) < values.min_steps and "epochs" not in fixed:
        per_epoch = math.ceil(train_records / values.batch_size)
        epochs = max(values.epochs, min(10, math.ceil(values.min_steps / per_epoch)))
        if epochs != values.epochs:
            fired.append(
                f"epochs raised from {values.epochs} to {epochs}: {per_epoch} steps an epoch "
                f"would end before the minimum of {values.min_steps} steps."
            )
            values = msgspec.structs.replace(values, epochs=epochs)
    return values, fired


def total_steps(values: Hyperparameters, train_records: int) -> int:
    """Optimiser steps of the whole run."""
    steps = math.ceil(train_records / values.batch_size) * values.epochs
    return min(steps, values.max_steps) if values.max_steps else steps
