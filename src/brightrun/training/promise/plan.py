"""What a run will do: how many steps, which passes they are cut into, how often it measures, saves and answers.

The passes are formed by the trainer's own code on lengths drawn from the dataset's distribution.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from brightrun.formats.hyperparameters import Hyperparameters, total_steps
from brightrun.trainer.batches import CALL_COST_TOKENS, micro_batches
from brightrun.training.promise.lengths import Lengths

_DRAWN_STEPS = 96
_DRAWN_HELDOUT = 600


@dataclass(frozen=True)
class Passes:
    """Sums over forward passes. calls: how many. padded: rows × longest. squares: sum of rows × longest², for
    attention. tokens: without padding. trained: positions that go through the output head."""

    calls: float = 0.0
    padded: float = 0.0
    squares: float = 0.0
    tokens: float = 0.0
    trained: float = 0.0

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(
            self.calls + other.calls, self.padded + other.padded, self.squares + other.squares,
            self.tokens + other.tokens, self.trained + other.trained,
        )  # fmt: skip

    def times(self, factor: float) -> "Passes":
        return Passes(
            self.calls * factor, self.padded * factor, self.squares * factor, self.tokens * factor,
            self.trained * factor,
        )  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """steps: of the optimiser. training: of all of them. evaluation: of one. evaluations: while training; the last
    measures base and adapter, and so do the first and the end: see `held_passes`. largest_*: of the widest pass.
    train_records, heldout_records: as the split will make them, near enough. answers: sample answers in all."""

    steps: int
    training: Passes
    evaluation: Passes
    evaluations: int
    checkpoints: int
    largest_padded: float
    largest_trained: float
    largest_squares: float
    train_records: int
    heldout_records: int
    answers: int

    @property
    def held_passes(self) -> int:
        """How often all held-out records go through the model: each evaluation, the base before, the base after."""
        return self.evaluations + 2 if self.heldout_records else 0

    @property
    def padding(self) -> float:
        """Share of the training passes that is padding."""
        return 1 - self.training.tokens / self.training.padded if self.training.padded else 0.0


def held_out(records: int, conversations: int, fraction: float) -> int:
    """Records that the split keeps from training: whole conversations, at least one, never all."""
    if fraction <= 0 or conversations < 2:
        return 0
    held = min(conversations - 1, max(1, round(conversations * fraction)))
    return min(records - 1, max(1, round(records * held / conversations)))


def plan_run(lengths: Lengths, values: Hyperparameters, *, sample_prompts: int = 3) -> Plan:
    """Lay out a run. lengths: of the whole dataset, uncut. The same input gives the same plan."""
    cut = lengths.cut(values.max_seq_length)
    heldout = held_out(cut.records, cut.conversations, values.heldout_fraction)
    train = cut.records - heldout
    steps = total_steps(values, train)
    rng = random.Random(f"brightrun promise {values.seed}")  # noqa: S311
    training, widest = _training(cut, values, train, steps, rng)
    evaluation = _evaluation(cut, values, heldout, rng)
    per_epoch = math.ceil(train / values.batch_size)
    every = values.eval_every_steps or per_epoch
    evaluations = math.ceil(steps / every) if heldout else 0
    padded, trained, squares = _widest_possible(cut, widest)
    return Plan(
        steps=steps,
        training=training,
        evaluation=evaluation,
        evaluations=evaluations,
        # One every so many steps, one at the end, and one where the held-out loss is the lowest so far.
        checkpoints=math.ceil(steps / values.checkpoint_every_steps) + max(0, evaluations - 1),
        largest_padded=padded,
        largest_trained=trained,
        largest_squares=squares,
        train_records=train,
        heldout_records=heldout,
        answers=min(sample_prompts, heldout) * (evaluations + 1),
    )


def passes_of(rows: Sequence[tuple[float, float]], values: Hyperparameters) -> list[Passes]:
    """The passes that the trainer makes of one step's (tokens, trained tokens). Of a preference pair both sides go
    through the model, each as wide as the longest."""
    widths = [max(1, round(tokens)) for tokens, _trained in rows]
    sides = 2 if values.method == "dpo" else 1
    groups = micro_batches(
        widths, budget=max(1, values.micro_batch_tokens // sides), call_cost=CALL_COST_TOKENS // sides
    )
    found = []
    for group in groups:
        longest = widths[group[0]]
        found.append(
            Passes(
                calls=1,
                padded=sides * longest * len(group),
                squares=sides * longest * longest * len(group),
                tokens=sides * sum(rows[index][0] for index in group),
                trained=sum(rows[index][1] for index in group),
            )
        )
    return found


def _training(
    cut: Lengths, values: Hyperparameters, train: int, steps: int, rng: random.Random
) -> tuple[Passes, list[Passes]]:
    """All training passes, and those that were drawn."""
    per_epoch = math.ceil(train / values.batch_size)
    drawn_steps = min(_DRAWN_STEPS, per_epoch)
    rows = cut.drawn(min(train, drawn_steps * values.batch_size), rng)[:train]
    drawn: list[Passes] = []
    for start in range(0, len(rows), values.batch_size):
        drawn += passes_of(rows[start : start + values.batch_size], values)
    epochs = steps / per_epoch
    return _sum(drawn).times(train * epochs / len(rows)), drawn


def _evaluation(cut: Lengths, values: Hyperparameters, heldout: int, rng: random.Random) -> Passes:
    if not heldout:
        return Passes()
    rows = cut.drawn(min(heldout, _DRAWN_HELDOUT), rng)[:heldout]
    return _sum(passes_of(rows, values)).times(heldout / len(rows))


def _sum(passes: Sequence[Passes]) -> Passes:
    total = Passes()
    for each in passes:
        total += each
    return total


def _widest_possible(cut: Lengths, training: list[Passes]) -> tuple[float, float, float]:
    """The widest training pass: the widest drawn, or one longest row where that is wider. Evaluations keep nothing for
    a backward pass, so they need less."""
    widest = max(training, key=lambda each: each.padded)
    longest, longest_trained, _count = cut.rows[-1]
    if longest > widest.padded:
        return longest, longest_trained, longest * longest
    return widest.padded, max(each.trained for each in training), widest.squares
