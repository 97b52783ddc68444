"""Every hyperparameter: one schema for the pages, the estimate, the API, `--set key=value` and the trainer.

To add one: a row in `HYPERPARAMETERS` and a field of the same name in `Hyperparameters` (a test compares the two).
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

Value = float | int | str | bool | list[str]
Kind = Literal["int", "float", "bool", "choice", "modules"]


class HyperparameterError(ValueError):
    """Values outside the schema. problems: field → sentences, each naming the value and what is allowed."""

    def __init__(self, problems: Mapping[str, list[str]]) -> None:
        self.problems = {field: list(sentences) for field, sentences in problems.items()}
        super().__init__("; ".join(f"{name}: {text}" for name, texts in self.problems.items() for text in texts))


class HyperparameterSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One hyperparameter as a form, a page of documentation or a validator needs it.

    default: of the balanced preset. zero_allowed: 0 is a value of its own although it lies outside the range.
    advice_low, advice_high: outside of these the value is accepted and a warning is shown.
    expert: kept behind "more settings" on a page.
    """

    name: str
    kind: Kind
    default: Value
    help: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    zero_allowed: bool = False
    choices: tuple[str, ...] = ()
    advice_low: float | None = None
    advice_high: float | None = None
    expert: bool = True

    @property
    def range_text(self) -> str:
        """What is allowed, in words: `0 or 1e-06 to 0.01`."""
        if self.kind == "choice":
            return "one of " + ", ".join(self.choices)
        if self.kind == "bool":
            return "true or false"
        if self.kind == "modules":
            return "all-linear, or names of linear layers separated by commas (q_proj,v_proj)"
        text = f"{self.minimum:g} to {self.maximum:g}"
        return f"0 or {text}" if self.zero_allowed else text


_S = HyperparameterSpec
HYPERPARAMETERS: tuple[HyperparameterSpec, ...] = (
    _S(
        name="learning_rate",
        kind="float",
        default=2e-4,
        minimum=1e-6,
        maximum=1e-2,
        zero_allowed=True,
        advice_low=1e-5,
        advice_high=1e-3,
        expert=False,
        help="Peak step size of AdamW. 0 trains nothing: a control that must show no improvement.",
    ),
    _S(
        name="batch_size",
        kind="int",
        default=8,
        minimum=1,
        maximum=64,
        unit="conversations per optimiser step",
        expert=False,
        help="Effective batch over all devices: training records whose gradients make one optimiser step. "
        "Micro-batches below it never change the result.",
    ),
    _S(
        name="epochs",
        kind="int",
        default=3,
        minimum=1,
        maximum=20,
        unit="passes",
        expert=False,
        help="How often every training record is seen.",
    ),
    _S(
        name="rank",
        kind="int",
        default=16,
        minimum=4,
        maximum=128,
        expert=False,
        help="Rank of the LoRA matrices: what the adapter can hold, and how large it is.",
    ),
    _S(
        name="alpha",
        kind="float",
        default=32.0,
        minimum=1,
        maximum=512,
        help="LoRA scaling numerator: updates are scaled by alpha ÷ rank. Follows as 2 × rank unless it is set.",
    ),
    _S(
        name="dropout",
        kind="float",
        default=0.0,
        minimum=0,
        maximum=0.5,
        help="Share of adapter inputs dropped in training. 0 turns it off.",
    ),
    _S(
        name="target_modules",
        kind="modules",
        default="all-linear",
        help="Layers that get an adapter: all-linear (every linear layer but the output head) or names.",
    ),
    _S(
        name="schedule",
        kind="choice",
        default="cosine",
        choices=("cosine", "linear", "constant"),
        help="How the learning rate falls after the warm-up: cosine or linear to 0, or not at all.",
    ),
    _S(
        name="warmup_ratio",
        kind="float",
        default=0.05,
        minimum=0,
        maximum=0.5,
        unit="share of all steps",
        help="The learning rate rises linearly from near 0 over this share of the steps.",
    ),
    _S(
        name="weight_decay",
        kind="float",
        default=0.01,
        minimum=0,
        maximum=1,
        help="AdamW's decoupled weight decay on the adapter. 0 turns it off.",
    ),
    _S(
        name="max_grad_norm",
        kind="float",
        default=1.0,
        minimum=0,
        maximum=100,
        help="Gradients are scaled down to this norm. 0 turns clipping off.",
    ),
    _S(
        name="max_seq_length",
        kind="int",
        default=2048,
        minimum=16,
        maximum=131_072,
        unit="tokens",
        help="Longer records are cut at the end, and each cut is reported. The model's own limit holds too.",
    ),
    _S(
        name="min_steps",
        kind="int",
        default=100,
        minimum=0,
        maximum=100_000,
        unit="optimiser steps",
        help="With fewer steps than this the batch is lowered, then the epochs raised (to at most 10), "
        "where you did not set them yourself. 0 turns the rule off.",
    ),
    _S(
        name="max_steps",
        kind="int",
        default=0,
        minimum=0,
        maximum=10_000_000,
        unit="optimiser steps",
        help="Stop after this many steps even inside an epoch; the schedule ends there too. 0: no limit.",
    ),
    _S(
        name="micro_batch_tokens",
        kind="int",
        default=4096,
        minimum=16,
        maximum=4_194_304,
        unit="tokens, padding included",
        help="Most tokens in one forward pass. Lower it when memory runs out: it never changes the result. "
        "One longer record still goes alone.",
    ),
    _S(
        name="precision",
        kind="choice",
        default="auto",
        choices=("auto", "fp32", "bf16"),
        help="auto: bf16 where the device computes it natively and the model is large enough to gain, else fp32. "
        "Adapter and optimiser are always fp32.",
    ),
    _S(
        name="activation_checkpointing",
        kind="bool",
        default=False,
        help="Recompute activations in the backward pass: much less memory, about a third slower.",
    ),
    _S(
        name="eval_every_steps",
        kind="int",
        default=0,
        minimum=0,
        maximum=1_000_000,
        unit="optimiser steps",
        help="Held-out loss after every so many steps. 0: after every epoch.",
    ),
    _S(
        name="checkpoint_every_steps",
        kind="int",
        default=25,
        minimum=1,
        maximum=1_000_000,
        unit="optimiser steps",
        help="Whole checkpoint after every so many steps: what a crash can cost at most.",
    ),
    _S(
        name="keep_checkpoints",
        kind="int",
        default=2,
        minimum=1,
        maximum=100,
        unit="checkpoints",
        help="The last so many checkpoints are kept, and the best one with early stopping.",
    ),
    _S(
        name="early_stopping_patience",
        kind="int",
        default=0,
        minimum=0,
        maximum=100,
        unit="evaluations",
        help="Stop after so many evaluations without a better held-out loss, and deliver the best adapter instead "
        "of the last. 0: off. The held-out loss is then no longer untouched by training, and the report says so.",
    ),
    _S(
        name="divergence_loss",
        kind="float",
        default=0.0,
        minimum=0,
        maximum=1000,
        unit="nats per trained token",
        help="Stop when the mean of the last five losses passes this. 0: twice the loss of guessing evenly.",
    ),
    _S(
        name="heldout_fraction",
        kind="float",
        default=0.1,
        minimum=0,
        maximum=0.5,
        unit="share of conversations",
        help="Conversations kept from training to measure it. 0: none, and then nothing can be proven.",
    ),
    _S(
        name="seed",
        kind="int",
        default=0,
        minimum=0,
        maximum=4_294_967_295,
        help="Same seed, data and machine: same adapter.",
    ),
)
SPECS: dict[str, HyperparameterSpec] = {spec.name: spec for spec in HYPERPARAMETERS}


class Hyperparameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All hyperparameters of one run. Units, ranges and meaning: `HYPERPARAMETERS`. Defaults: balanced."""

    learning_rate: float = 2e-4
    batch_size: int = 8
    epochs: int = 3
    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: str | list[str] = "all-linear"
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
    if "alpha" not in (overrides or {}) and "rank" in values:
        values["alpha"] = float(2 * values["rank"])
    return Hyperparameters(**values)


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


def checked(spec: HyperparameterSpec, raw: object) -> Value:
    """`raw` as a value of `spec`, or ValueError with a sentence that names the value and the range."""
    refusal = ValueError(f"{raw!r} is not allowed; allowed: {spec.range_text}")
    match spec.kind:
        case "bool":
            if isinstance(raw, bool):
                return raw
            words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
            if isinstance(raw, str) and raw.lower() in words:
                return words[raw.lower()]
            raise refusal
        case "choice":
            if isinstance(raw, str) and raw in spec.choices:
                return raw
            raise refusal
        case "modules":
            return _modules(raw, refusal)
        case "int" | "float":
            number = _number(raw, refusal)
            if spec.kind == "int" and number != int(number):
                raise ValueError(f"{raw!r} is not a whole number; allowed: {spec.range_text}")
            assert spec.minimum is not None
            assert spec.maximum is not None
            if not (spec.minimum <= number <= spec.maximum or (spec.zero_allowed and number == 0)):
                raise refusal
            return int(number) if spec.kind == "int" else number


def _number(raw: object, refusal: ValueError) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise refusal
    try:
        number = float(raw)
    except (ValueError, OverflowError):
        raise refusal from None
    if not math.isfinite(number):
        raise refusal
    return number


def _modules(raw: object, refusal: ValueError) -> str | list[str]:
    if raw == "all-linear":
        return "all-linear"
    names = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise refusal
    stripped = [name.strip() for name in names]
    if not stripped or not all(stripped):
        raise refusal
    return sorted(set(stripped))


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
