"""How pages speak of hyperparameters: names, values as people write them, fields of a form.

Help, unit and range come from the one schema.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from brightrun.formats.hyperparameters import HyperparameterSpec

PREFIX = "hp_"
"""What the name of a form's field begins with when it is a hyperparameter's."""

LABELS = {
    "method": "Method",
    "learning_rate": "Learning rate",
    "batch_size": "Batch size",
    "epochs": "Epochs",
    "rank": "Rank",
    "alpha": "Alpha",
    "dropout": "Dropout",
    "target_modules": "Layers with an adapter",
    "dpo_beta": "DPO: beta",
    "dpo_label_smoothing": "DPO: label smoothing",
    "dpo_sft_weight": "DPO: weight of the chosen answers",
    "schedule": "Learning-rate schedule",
    "warmup_ratio": "Warm-up",
    "weight_decay": "Weight decay",
    "max_grad_norm": "Gradient clipping",
    "max_seq_length": "Longest record",
    "min_steps": "Least steps",
    "max_steps": "Most steps",
    "micro_batch_tokens": "Tokens in one pass",
    "precision": "Precision",
    "activation_checkpointing": "Activation checkpointing",
    "eval_every_steps": "Evaluate every",
    "checkpoint_every_steps": "Checkpoint every",
    "keep_checkpoints": "Checkpoints kept",
    "early_stopping_patience": "Early stopping after",
    "divergence_loss": "Stop when the loss passes",
    "heldout_fraction": "Held out",
    "seed": "Seed",
}
"""What a page calls each hyperparameter."""


def form_text(value: Any) -> str:
    """A value as a form's field holds it, so that it can be read back."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(value) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)


def setting_text(value: Any) -> str:
    """A value as people write it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return plain_number(value) if isinstance(value, int | float) else form_text(value)


def plain_number(value: float) -> str:
    """Without an exponent: `0.000001`, `4,194,304`."""
    text = f"{value:,.10f}"
    return text.rstrip("0").rstrip(".")


def range_words(spec: HyperparameterSpec) -> str:
    """What a number may be, without exponents."""
    assert spec.minimum is not None
    assert spec.maximum is not None
    return f"{'0 or ' if spec.zero_allowed else ''}{plain_number(spec.minimum)} to {plain_number(spec.maximum)}"


@dataclass(frozen=True)
class SettingWords:
    """How a form shows one hyperparameter. choices: of a select; attrs: of an input."""

    name: str
    label: str
    help: str
    choices: list[tuple[str, str]]
    attrs: dict[str, Any]
    type: str


def setting_words(presets: Sequence[Mapping[str, Any]], spec: HyperparameterSpec) -> SettingWords:
    """Label, help with range and unit, and what each goal sets, all from the one schema."""
    values = [
        (preset["title"], setting_text(preset["hyperparameters"][spec.name]))
        for preset in presets
        if preset["id"] != "custom"
    ]
    same = len({value for _title, value in values}) == 1
    set_by = f"Every goal: {values[0][1]}." if same else f"{', '.join(f'{title} {value}' for title, value in values)}."
    unit = f" {spec.unit}" if spec.unit else ""
    allowed = f" Allowed: {range_words(spec)}{unit}." if spec.kind in {"int", "float"} else ""
    choices: list[tuple[str, str]] = []
    attrs: dict[str, Any] = {"inputmode": "decimal", "autocomplete": "off"}
    match spec.kind:
        case "bool":
            choices = [("", "As the goal sets it"), ("true", "On"), ("false", "Off")]
        case "choice":
            choices = [
                ("", "As the goal sets it"),
                *((choice, spec.choice_titles.get(choice, choice)) for choice in spec.choices),
            ]
        case "int":
            attrs = {"min": f"{spec.minimum:g}", "max": f"{spec.maximum:.0f}", "step": "1", "inputmode": "numeric"}
        case "modules":
            attrs = {"autocomplete": "off", "spellcheck": "false"}
        case "float":
            pass
    return SettingWords(
        name=f"{PREFIX}{spec.name}",
        label=LABELS[spec.name],
        help=f"{spec.help}{allowed} {set_by}",
        choices=choices,
        attrs=attrs,
        type="number" if spec.kind == "int" else "text",
    )
