"""Which records a probe trains on: the widest step of the whole run first, then steps spread over all there are."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from brightrun.formats.hyperparameters import Hyperparameters, total_steps
from brightrun.formats.split import heldout_ids
from brightrun.trainer.batches import Order
from brightrun.training.promise.duration import Speed
from brightrun.training.promise.machine import Machine
from brightrun.training.promise.memory import activation_bytes, logit_bytes, precision_of
from brightrun.training.promise.plan import Passes, passes_of
from brightrun.training.promise.rows import Row
from brightrun.training.promise.shape import Shape

LEAST_STEPS, MOST_STEPS = 3, 24
_SECONDS = 6.0
_LOOKED_AT = 2000
_HELDOUT_ROWS = 16


@dataclass(frozen=True)
class ProbeStep:
    """rows: of one optimiser step. passes: what the trainer makes of it. expected_s: by the model."""

    rows: tuple[Row, ...]
    passes: Passes
    expected_s: float


@dataclass(frozen=True)
class ProbePlan:
    """steps: the widest first. mean_s: of a step of the whole run, expected. largest: the widest pass of the run."""

    steps: tuple[ProbeStep, ...]
    heldout: tuple[Row, ...]
    heldout_passes: Passes
    mean_s: float
    largest: Passes


def plan_probe(rows: Sequence[Row], values: Hyperparameters, shape: Shape, machine: Machine, speed: Speed) -> ProbePlan:
    """Choose from the rows of a file. The same input gives the same plan. Raises ValueError without rows to train."""
    held = _held(rows, values)
    train = [row for row in rows if row.conversation_id not in held] or list(rows)
    order = Order(len(train), min(values.batch_size, len(train)), values.seed)
    whole = total_steps(values, len(train))
    rng = random.Random(f"brightrun probe {values.seed}")  # noqa: S311
    numbers = range(whole) if whole <= _LOOKED_AT else sorted(rng.sample(range(whole), _LOOKED_AT))
    found = [_step([train[index] for index in order.step(number)], values, speed) for number in numbers]
    width = 2 if precision_of(values, machine, shape) == "bf16" else 4
    a_token, a_position = activation_bytes(shape, values, width), logit_bytes(shape, width)

    def needs(passes: Passes) -> float:
        return passes.padded * a_token + passes.trained * a_position

    pairs = [(step, max(_passes(step.rows, values), key=needs)) for step in found]
    widest, largest = max(pairs, key=lambda pair: needs(pair[1]))
    full = [step for step in found if len(step.rows) == len(widest.rows)] or found
    mean = sum(step.expected_s for step in found) / len(found)
    number = max(LEAST_STEPS, min(MOST_STEPS, round(_SECONDS / max(mean, 1e-6))))
    ranked = sorted(full, key=lambda step: step.expected_s)
    drawn = [ranked[int((at + 0.5) * len(ranked) / number)] for at in range(number)]
    rng.shuffle(drawn)
    heldout = _spread([row for row in rows if row.conversation_id in held])
    return ProbePlan(
        steps=(widest, *drawn),
        heldout=heldout,
        heldout_passes=_sum(_passes(heldout, values)) if heldout else Passes(),
        mean_s=mean,
        largest=largest,
    )


def _held(rows: Sequence[Row], values: Hyperparameters) -> set[str]:
    ids = list(dict.fromkeys(row.conversation_id for row in rows))
    nothing = (None, None, None)
    return set(heldout_ids([(id_, nothing) for id_ in ids], fraction=values.heldout_fraction, seed=values.seed))


def _spread(rows: Sequence[Row]) -> tuple[Row, ...]:
    """At most so many, evenly over their lengths, the longest among them."""
    ranked = sorted(rows, key=lambda row: row.tokens)
    if len(ranked) <= _HELDOUT_ROWS:
        return tuple(ranked)
    return tuple(ranked[round(at * (len(ranked) - 1) / (_HELDOUT_ROWS - 1))] for at in range(_HELDOUT_ROWS))


def _step(rows: Sequence[Row], values: Hyperparameters, speed: Speed) -> ProbeStep:
    passes = _sum(_passes(rows, values))
    return ProbeStep(tuple(rows), passes, speed.training_pass(passes) + speed.update)


def _passes(rows: Sequence[Row], values: Hyperparameters) -> list[Passes]:
    limit = values.max_seq_length
    return passes_of([(min(row.tokens, limit), min(row.trained, limit)) for row in rows], values)


def _sum(passes: Sequence[Passes]) -> Passes:
    total = Passes()
    for each in passes:
        total += each
    return total
