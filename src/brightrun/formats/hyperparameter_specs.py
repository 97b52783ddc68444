"""What every hyperparameter is: kind, range, default, unit and help, in one table.

To add one: a row here and a field of the same name in `hyperparameters.Hyperparameters` (a test compares the two).
"""

import math
from typing import Literal

import msgspec

from brightrun.formats.methods import METHOD_IDS, METHODS

Value = float | int | str | bool | list[str]
Kind = Literal["int", "float", "bool", "choice", "modules"]


class HyperparameterSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One hyperparameter as a form, a page of documentation or a validator needs it.

    default: of the balanced preset. zero_allowed: 0 is a value of its own although it lies outside the range.
    advice_low, advice_high: outside of these the value is accepted and a warning is shown.
    expert: kept behind "more settings" on a page. methods: the methods that it means something to; empty: all.
    choice_titles, choice_help: for some choices, what a page calls them, and each in a sentence.
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
    methods: tuple[str, ...] = ()
    choice_titles: dict[str, str] = {}
    choice_help: dict[str, str] = {}

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
        name="method",
        kind="choice",
        default="lora",
        choices=METHOD_IDS,
        expert=False,
        choice_titles={method.id: method.title for method in METHODS.values()},
        choice_help={method.id: method.explanation for method in METHODS.values()},
        help="How it learns: lora, rslora (scaled by √rank), dora (direction and length apart), qlora (base model in "
        "4 bits, NVIDIA GPU only) from conversations; dpo from a preference file. Unless you set them yourself, dpo "
        "takes a twentieth of the preset's learning_rate and 1 epoch, rslora alpha 8.",
    ),
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
        help="Effective batch over all devices: training records (with dpo pairs) whose gradients make one "
        "optimiser step. Micro-batches below it never change the result.",
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
        help="LoRA scaling numerator: updates are scaled by alpha ÷ rank. Follows as 2 × rank unless it is set. With "
        "rslora alpha ÷ √rank, and 8 unless it is set.",
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
        name="dpo_beta",
        kind="float",
        default=0.1,
        minimum=0.001,
        maximum=10,
        advice_low=0.01,
        advice_high=0.5,
        methods=("dpo",),
        help="DPO: how closely it stays with the untouched model. Lower lets it move further to win the pairs.",
    ),
    _S(
        name="dpo_label_smoothing",
        kind="float",
        default=0.0,
        minimum=0,
        maximum=0.49,
        unit="share of pairs",
        methods=("dpo",),
        help="DPO: share of the pairs that may be the wrong way round. 0: all are trusted.",
    ),
    _S(
        name="dpo_sft_weight",
        kind="float",
        default=0.0,
        minimum=0,
        maximum=10,
        methods=("dpo",),
        help="DPO: adds so many times the loss per token of the chosen answers, which keeps them likely in themselves "
        "and not only against the rejected ones. 0: off.",
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
        help="The last so many checkpoints are kept, and the one with the lowest held-out loss.",
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
        help="Stop when the mean of the last five losses passes this. 0: twice the loss of guessing evenly; with dpo, "
        "where the loss is of a pair, five times.",
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
