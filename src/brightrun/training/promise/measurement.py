"""What a probe measured, read from the events of its short run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

import msgspec

from brightrun.training.promise.duration import Speed
from brightrun.training.promise.probe_plan import ProbePlan

LEAST_MEASURED = 2


class ProbeFailedError(Exception):
    """The short run gave nothing to measure; the message says why, in the trainer's own words where it has some."""


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """machine: type. start_s: from the process's start to the first evaluation or step, data aside. record_token_s:
    reading a token of data. speed: measured ÷ expected seconds of training steps; speed_sigma: of its logarithm, by how
    far the steps lie apart. evaluation: the same ratio of evaluations; None where nothing is held out. checkpoint_s:
    one. answer_s: one sample answer. finish_s: from the last sample answer to the end of the process. peak_bytes: of
    the process, or on the GPU. model_bytes: what the model expects for the short run. largest_padded, largest_trained:
    of the widest pass of the whole run. steps: measured ones. seconds: of the whole probe. busy: share of the machine
    that others used meanwhile, 0…1.
    """

    machine: str
    start_s: float
    record_token_s: float
    speed: float
    speed_sigma: float
    evaluation: float | None
    checkpoint_s: float
    answer_s: float
    finish_s: float
    peak_bytes: int
    model_bytes: int
    largest_padded: float
    largest_trained: float
    steps: int
    seconds: float
    busy: float = 0.0


@dataclass(frozen=True)
class Timed:
    """An event and when it was said, in seconds since the process started."""

    at: float
    event: dict[str, Any]


def measure(
    events: Sequence[dict[str, Any]],
    plan: ProbePlan,
    speed: Speed,
    *,
    machine: str,
    started: datetime,
    seconds: float,
    peak_bytes: int,
    model_bytes: int,
    tokens: int,
    answers: int,
    busy: float,
) -> Measurement:
    """events: of the whole short run, in order. started: of its process. tokens: in its file. answers: sample prompts.
    Raises ProbeFailedError."""
    timed = [Timed((_time(event) - started).total_seconds(), event) for event in events]
    steps = [s for s, at in _lasted(timed, "metric") if at.event.get("heldout_loss") is None]
    measured = [(s, step.expected_s) for s, step in zip(steps[1:], plan.steps[1:], strict=False)]
    if len(measured) < LEAST_MEASURED:
        raise ProbeFailedError(f"The probe made only {len(steps)} steps, which is too few to tell.")
    ratio = sum(s for s, _expected in measured) / sum(expected for _s, expected in measured)
    apart = [math.log(max(s, 1e-6) / (expected * ratio)) for s, expected in measured]
    sigma = math.sqrt(sum(value * value for value in apart) / (len(apart) - 1) / len(apart))
    begun, read = _stage(timed, "preprocessing", 0.0), _stage(timed, "preprocessing", 1.0)
    loaded = _stage(timed, "model_loading", 1.0)
    checked, answered = _stage(timed, "finalizing", 0.3), _stage(timed, "finalizing", 0.6)
    expected = speed.training_pass(plan.heldout_passes) * speed.forward
    held = [s for s, at in _lasted(timed, "metric", "stage") if at.event.get("heldout_loss") is not None]
    saves = [s for s, _at in _lasted(timed, "checkpoint")]
    return Measurement(
        machine=machine,
        start_s=max(0.0, loaded - (read - begun)),
        record_token_s=max(0.0, read - begun) / max(1, tokens),
        speed=ratio,
        speed_sigma=sigma,
        evaluation=sum(held) / len(held) / expected if held and expected else None,
        checkpoint_s=sum(saves) / len(saves) if saves else 0.0,
        answer_s=(answered - checked) / answers if answers else 0.0,
        finish_s=max(0.0, seconds - answered),
        peak_bytes=peak_bytes,
        model_bytes=model_bytes,
        largest_padded=plan.largest.padded,
        largest_trained=plan.largest.trained,
        steps=len(measured),
        seconds=round(seconds, 3),
        busy=busy,
    )


def _time(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(str(event["time"]))


def _lasted(timed: Sequence[Timed], *types: str) -> list[tuple[float, Timed]]:
    """(seconds since the event before, event) of every event of these types: what it tells of happened in between."""
    return [(after.at - before.at, after) for before, after in pairwise(timed) if after.event.get("type") in types]


def _stage(timed: Sequence[Timed], stage: str, fraction: float) -> float:
    for each in timed:
        event = each.event
        if event.get("type") == "stage" and event.get("stage") == stage and float(event["fraction"]) >= fraction:
            return each.at
    raise ProbeFailedError(f"The probe ended before it was through {stage.replace('_', ' ')}.")
