"""The promise: the parts of memory, duration and cost put together, each figure with an interval at level 0.9."""

import math
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import msgspec

from brightrun.formats.hyperparameters import Hyperparameters
from brightrun.training.promise.duration import Speed, duration_parts, prior_speed
from brightrun.training.promise.lengths import Lengths
from brightrun.training.promise.machine import GIB, Machine
from brightrun.training.promise.measurement import Measurement
from brightrun.training.promise.memory import memory_parts, precision_of
from brightrun.training.promise.plan import Plan, plan_run
from brightrun.training.promise.shape import Shape

METHOD = "analytic"
LEVEL = 0.9
_Z = 1.645
_MILLIONTH = Decimal("0.000001")

SECONDS_SIGMA = 0.5
"""Of the logarithm, without a probe and without a record of the machine: nine in ten within a factor 2.3."""
MEMORY_SIGMA = {"cpu": 0.12, "cuda": 0.2}
_CPU_BF16_SIGMA = 0.45
"""Of memory on a processor in bf16, where what the product library keeps is only roughly known."""
PROBE_SECONDS_SIGMA, PROBE_MEMORY_SIGMA = 0.1, 0.05
_BUSY_SIGMA = 0.4
"""Of a probe during which others used all of the machine: they may be gone when the run begins, or more."""
_UNCOUNTED_SIGMA = 0.25
"""Added where the lengths of the records are not counted with this model's tokenizer."""


@dataclass(frozen=True)
class Correction:
    """What is known better than by the model alone. factor: multiplies the figure. sigma: of what is left, of its
    logarithm. source: in words."""

    factor: float
    sigma: float
    source: str


@dataclass(frozen=True)
class Price:
    """per_hour: of all devices, USD. storage: once. devices: how many are paid for."""

    per_hour: Decimal
    storage: Decimal
    devices: int = 1


@dataclass(frozen=True)
class Question:
    """What is to be estimated. memory, seconds: corrections by a record of the machine, if there is one. probe: what
    was measured on it for this very run; then the record is not needed."""

    shape: Shape
    values: Hyperparameters
    machine: Machine
    lengths: Lengths
    price: Price
    memory: Correction | None = None
    seconds: Correction | None = None
    probe: Measurement | None = None
    sample_prompts: int = 3
    notes: tuple[str, ...] = field(default=())


def figure(parts: dict[str, float], sigma: float, places: int) -> dict[str, Any]:
    """`{value, low, high, parts}`: log-normal around the value, which is the sum of its rounded parts."""
    rounded = {name: round(value, places) for name, value in parts.items()}
    if places == 0:
        rounded = {name: int(value) for name, value in rounded.items()}
    value = round(sum(rounded.values()), places) if places else sum(rounded.values())
    spread = math.exp(_Z * sigma)
    low, high = round(value / spread, places), round(value * spread, places)
    if places == 0:
        low, high = int(low), int(high)
    return {"value": value, "low": min(low, value), "high": max(high, value), "parts": rounded}


def answer(question: Question) -> dict[str, Any]:
    """The promise as JSON: `{method, memory_bytes, seconds, cost_usd, level, fits, reasons, sources, …}`."""
    plan = plan_run(question.lengths, question.values, sample_prompts=question.sample_prompts)
    machine, values, shape, tokens = question.machine, question.values, question.shape, question.lengths.tokens
    speed = prior_speed(shape, values, machine)
    model_seconds = duration_parts(plan, speed, machine, dataset_tokens=tokens)
    model_memory = memory_parts(shape, values, machine, plan, dataset_tokens=tokens)
    if question.probe is None:
        seconds = _figure(model_seconds, question.seconds, SECONDS_SIGMA, question.lengths, places=3)
        memory = _figure(model_memory, question.memory, _memory_sigma(question), question.lengths, places=0)
    else:
        seconds, memory = _by_probe(question, question.probe, plan, speed)
    fits, reasons = fitting(memory, question)
    return {
        "method": METHOD,
        "memory_bytes": memory,
        "seconds": seconds,
        "cost_usd": cost_of(seconds, question.price),
        "level": LEVEL,
        "fits": fits,
        "reasons": [*reasons, *question.notes],
        "sources": _sources(question),
        "basis": "probe" if question.probe else "record" if question.seconds or question.memory else "model",
        "machine": machine.id,
        "model": {
            "seconds": round(sum(model_seconds.values()), 3),
            "memory_bytes": int(sum(model_memory.values())),
        },
        "plan": _plan_json(plan, question),
    }


def _memory_sigma(question: Question) -> float:
    machine = question.machine
    if machine.kind == "cpu" and precision_of(question.values, machine, question.shape) == "bf16":
        return _CPU_BF16_SIGMA
    return MEMORY_SIGMA[machine.kind]


def _by_probe(
    question: Question, probe: Measurement, plan: Plan, speed: Speed
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(seconds, memory), from what was measured."""
    measured = replace(
        speed,
        slower=probe.speed,
        evaluating=probe.evaluation if probe.evaluation is not None else probe.speed,
        checkpoint=probe.checkpoint_s,
        answer=probe.answer_s,
        start=probe.start_s,
        finish=probe.finish_s,
        record_token=probe.record_token_s,
    )
    tokens = question.lengths.tokens
    parts = duration_parts(plan, measured, question.machine, dataset_tokens=tokens)
    share = parts["training"] / max(1e-9, sum(parts.values()))
    sigma = math.sqrt(PROBE_SECONDS_SIGMA**2 + (share * probe.speed_sigma) ** 2 + (_BUSY_SIGMA * probe.busy) ** 2)
    seconds = figure(parts, sigma, 3)
    widest = replace(plan, largest_padded=probe.largest_padded, largest_trained=probe.largest_trained)
    bytes_by_part = memory_parts(question.shape, question.values, question.machine, widest, dataset_tokens=tokens)
    factor = probe.peak_bytes / probe.model_bytes
    memory = figure({name: value * factor for name, value in bytes_by_part.items()}, PROBE_MEMORY_SIGMA, 0)
    return seconds, memory


def _figure(
    parts: dict[str, float], correction: Correction | None, sigma: float, lengths: Lengths, *, places: int
) -> dict[str, Any]:
    factor = 1.0
    if correction is not None:
        factor, sigma = correction.factor, correction.sigma
    if not lengths.exact:
        sigma = math.hypot(sigma, _UNCOUNTED_SIGMA)
    return figure({name: value * factor for name, value in parts.items()}, sigma, places)


def cost_of(seconds: dict[str, Any], price: Price) -> dict[str, Any]:
    """The interval of the time at the frozen price, and what is paid once. Rounded to a millionth of a dollar."""

    def compute(amount: float) -> Decimal:
        return (price.per_hour * Decimal(str(amount)) / 3600).quantize(_MILLIONTH)

    once = price.storage.quantize(_MILLIONTH)
    parts = {"compute": compute(seconds["value"]), "storage": once}
    return {
        "value": float(sum(parts.values())),
        "low": float(compute(seconds["low"]) + once),
        "high": float(compute(seconds["high"]) + once),
        "parts": {name: float(amount) for name, amount in parts.items()},
    }


def fitting(memory: dict[str, Any], question: Question) -> tuple[bool | None, list[str]]:
    """Whether it fits into the device's memory, and the sentences that say why not or how tightly.

    None where the device's memory is not known.
    """
    capacity, machine = question.machine.memory_bytes, question.machine
    reasons = []
    if question.price.devices > 1:
        reasons.append(
            f"The trainer of this version uses one device: the other {question.price.devices - 1} would stand idle, "
            "and are paid for."
        )
    if machine.kind == "cpu" and question.values.method == "qlora":
        return False, [*reasons, "QLoRA needs an NVIDIA GPU; this runs on a processor."]
    if capacity is None:
        return None, [*reasons, "The memory of this device is not known, so whether it fits is not known either."]
    room = _gib(capacity)
    if memory["value"] > capacity:
        reasons.append(f"It needs about {_gib(memory['value'])}, and there are {room}. {ways_out(question)}")
        return False, reasons
    if memory["high"] > capacity:
        reasons.append(
            f"It is expected to fit, but may need up to {_gib(memory['high'])} of {room}. Out of memory it goes on "
            "with narrower passes, and slower."
        )
    return True, reasons


def ways_out(question: Question) -> str:
    """What would make it fit, tried out."""
    capacity = question.machine.memory_bytes or 0
    values = question.values
    tries: list[tuple[str, dict[str, Any]]] = [
        (f"micro_batch_tokens {tokens}", {"micro_batch_tokens": tokens})
        for tokens in (2048, 1024)
        if tokens < values.micro_batch_tokens
    ]
    if not values.activation_checkpointing:
        both = {"activation_checkpointing": True, "micro_batch_tokens": min(1024, values.micro_batch_tokens)}
        tries.append(("activation_checkpointing", {"activation_checkpointing": True}))
        tries.append(("activation_checkpointing and micro_batch_tokens 1024", both))
    if question.machine.kind == "cuda" and values.method == "lora":
        tries.append(("the method qlora (base model in 4 bits)", {"method": "qlora", "activation_checkpointing": True}))
    for words, changes in tries:
        changed = msgspec.structs.replace(values, **changes)
        plan = plan_run(question.lengths, changed, sample_prompts=question.sample_prompts)
        parts = memory_parts(question.shape, changed, question.machine, plan, dataset_tokens=question.lengths.tokens)
        if sum(parts.values()) * (question.memory.factor if question.memory else 1) <= capacity * 0.95:
            return f"It would fit with {words}."
    return "No setting makes it fit: choose a smaller base model or a device with more memory."


def _gib(number: float) -> str:
    return f"{number / GIB:.1f} GiB"


def _sources(question: Question) -> dict[str, str]:
    return {
        "formula": "Our model of memory and duration (docs/reference/estimate.md).",
        "model": question.shape.source,
        "tokens": question.lengths.source,
        "gpu": question.machine.source,
        "memory": _basis(question, question.memory),
        "seconds": _basis(question, question.seconds),
    }


def _basis(question: Question, record: Correction | None) -> str:
    if (probe := question.probe) is not None:
        busy = f", while others used {probe.busy:.0%} of the machine" if probe.busy >= 0.1 else ""
        return f"a probe of {probe.steps} steps on {probe.machine}{busy}"
    return record.source if record is not None else "the model alone: no probe, no record of this machine"


def _plan_json(plan: Plan, question: Question) -> dict[str, Any]:
    return {
        "steps": plan.steps,
        "train_records": plan.train_records,
        "heldout_records": plan.heldout_records,
        "evaluations": plan.evaluations,
        "checkpoints": plan.checkpoints,
        "passes": round(plan.training.calls),
        "tokens": round(plan.training.tokens),
        "padding": round(plan.padding, 4),
        "largest_pass_tokens": round(plan.largest_padded),
        "precision": precision_of(question.values, question.machine, question.shape),
    }
