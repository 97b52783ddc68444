"""How long the records of a dataset are, as a model sees them: what padding, truncation and the passes depend on."""

import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

_ASSUMED_SPREAD = 0.6
"""Sigma of the log-normal that stands in where only a mean is known: adviser conversations have about that."""
_ASSUMED_TRAINED = 0.5
_MOST_ROWS = 400
"""Distinct lengths kept; more are merged with their neighbours. What is lost is far below the interval."""

Row = tuple[float, float, int]
"""(tokens of a rendered record, trained tokens in it, how many such records there are)."""


@dataclass(frozen=True)
class Lengths:
    """The distribution over records, uncut, shortest first.

    source: in words, shown beside every number made from it. exact: counted with this very tokenizer, record by record;
    otherwise the interval is wider. conversations: what the held-out split is made of.
    """

    rows: tuple[Row, ...]
    source: str
    exact: bool
    conversations: int

    @property
    def records(self) -> int:
        return sum(count for _tokens, _trained, count in self.rows)

    @property
    def tokens(self) -> float:
        return sum(tokens * count for tokens, _trained, count in self.rows)

    @property
    def longest(self) -> float:
        return self.rows[-1][0]

    def cut(self, max_length: int) -> "Lengths":
        """As the trainer fits them into `max_length`: it leaves out old turns first, trained tokens last."""
        rows = tuple((min(t, max_length), min(trained, max_length), n) for t, trained, n in self.rows)
        return Lengths(rows, self.source, self.exact, self.conversations)

    def drawn(self, number: int, rng: random.Random) -> list[tuple[float, float]]:
        """(tokens, trained tokens) of `number` records by chance; of all of them, where there are as few."""
        if number >= self.records:
            every = [(tokens, trained) for tokens, trained, count in self.rows for _ in range(count)]
            rng.shuffle(every)
            return every
        counts = [count for _tokens, _trained, count in self.rows]
        return [(tokens, trained) for tokens, trained, _count in rng.choices(self.rows, counts, k=number)]


def counted(lengths: Iterable[tuple[int, int]], *, source: str, conversations: int, exact: bool = True) -> Lengths:
    """From (tokens, trained tokens) of every record. Raises ValueError without records."""
    tally: dict[int, list[int]] = {}
    for tokens, trained in lengths:
        entry = tally.setdefault(tokens, [0, 0])
        entry[0] += 1
        entry[1] += trained
    if not tally:
        raise ValueError("no records")
    rows = [(float(tokens), trained / count, count) for tokens, (count, trained) in sorted(tally.items())]
    return Lengths(tuple(_merged(rows)), source, exact, max(1, conversations))


def _merged(rows: list[Row]) -> list[Row]:
    """At most `_MOST_ROWS`, the longest kept as it is: it decides how much memory is needed."""
    if len(rows) <= _MOST_ROWS:
        return rows
    width = math.ceil((len(rows) - 1) / (_MOST_ROWS - 1))
    merged = []
    for at in range(0, len(rows) - 1, width):
        part = rows[at : min(at + width, len(rows) - 1)]
        count = sum(n for _tokens, _trained, n in part)
        merged.append(
            (sum(t * n for t, _trained, n in part) / count, sum(x * n for _tokens, x, n in part) / count, count)
        )
    return [*merged, rows[-1]]


def from_histogram(
    lengths: Mapping[str, Any], *, records: int, conversations: int, exact: bool, source: str
) -> Lengths:
    """From a validation's `report.lengths`: its bars at their middle, the longest record as it is, the total kept.

    Which tokens are trained is not in it; half of them is assumed.
    """
    bars = [((bar["from"] + bar["to"] - 1) / 2, int(bar["records"])) for bar in lengths["histogram"] if bar["records"]]
    longest, total = float(lengths["max"]), float(lengths["total"])
    *rest, (_middle, last) = bars
    if last > 1:
        rest.append((min(_middle, longest), last - 1))
    spread = sum(tokens * count for tokens, count in rest)
    factor = (total - longest) / spread if spread else 1.0
    scaled = [(min(longest, max(1.0, tokens * factor)), count) for tokens, count in rest] + [(longest, 1)]
    seen = sum(count for _tokens, count in scaled)
    share = records / seen if seen else 1.0
    rows = [(t, t * _ASSUMED_TRAINED, max(1, round(n * share))) for t, n in scaled]
    return Lengths(tuple(rows), source, exact, max(1, conversations))


def assumed(*, records: int, tokens: float, conversations: int, source: str) -> Lengths:
    """Where only the sum is known: log-normal lengths around their mean, by quantiles, so that it is the same again."""
    mean, steps = tokens / records, min(records, 60)
    quantiles = [NormalDist().inv_cdf((at + 0.5) / steps) for at in range(steps)]
    shape = [math.exp(_ASSUMED_SPREAD * z) for z in quantiles]
    factor = mean * steps / sum(shape)
    base, extra = divmod(records, steps)
    rows = [
        (max(1.0, value * factor), max(1.0, value * factor) * _ASSUMED_TRAINED, base + (at < extra))
        for at, value in enumerate(shape)
    ]
    return Lengths(tuple(rows), source, exact=False, conversations=max(1, conversations))
