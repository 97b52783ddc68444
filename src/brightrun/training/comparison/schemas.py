"""What a comparison of runs looks like to clients."""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from brightrun.training.schemas import JobOut, SeriesOut
from brightrun.training.tables import SeriesKind

FEWEST, MOST = 2, 4


class PairVerdict(StrEnum):
    """Of two runs, by their loss on held-out conversations that neither has seen. `first`: the first one's is lower."""

    FIRST = "first"
    SECOND = "second"
    NO_DIFFERENCE_PROVEN = "no_difference_proven"
    CANNOT_BE_COMPARED = "cannot_be_compared"


class RunOut(BaseModel):
    """seconds: of all its attempts, as charged. series: its curves; null unless asked for."""

    job: JobOut
    seconds: float
    series: dict[SeriesKind, SeriesOut] | None = None


class LineOut(BaseModel):
    """One setting or fact. values: in the order of the runs; null: it has none. group: configuration or data."""

    field: str
    label: str
    group: str
    values: list[Any]
    equal: bool


class PairOut(BaseModel):
    """Two of the runs, by their places from 0, on the `conversations` that both held out and measured alike.

    loss_first, loss_second: per trained token over those conversations, base_first too (of the untouched base model).
    difference: second − first, below 0 when the second is better; low, high: its interval at `confidence`, which is
    wider the more pairs are compared. noise: a difference that is not above this is what another seed may give.
    """

    first: int
    second: int
    verdict: PairVerdict
    reason: str
    conversations: int
    tokens: int
    loss_first: float | None = None
    loss_second: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    noise: float | None = None
    confidence: float | None = None
    method: str | None = None


class ComparisonOut(BaseModel):
    """lines: what differs first. different: how many lines differ."""

    runs: list[RunOut]
    lines: list[LineOut]
    different: int
    pairs: list[PairOut]


class ComparisonData(BaseModel):
    comparison: ComparisonOut
