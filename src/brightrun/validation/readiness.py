"""Whether a file can be trained on, and what would make it better: errors block, everything else is advice."""

from collections.abc import Sequence
from typing import Any

WANTED_CONVERSATIONS = 50
WANTED_PAIRS = 500
WANTED_QUALITY = 3.0
"""The earlier product's thresholds of a training file that is worth its cost; quality as the records say it, of 5."""

_MOST_BARS = 24
_PERCENTILES = (50, 90, 95, 99)


def readiness(
    *, errors: int, conversations: int, training_pairs: int, quality: float | None, scored: int
) -> dict[str, Any]:
    """`{ready, blocked_by, advice: [{name, have, wanted, missing, met, n?}]}`.

    blocked_by: `errors`, `nothing_to_train` or None. met: None where the file does not say. missing: how many more;
    of quality, by how much the mean is too low. n: how many records have a score.
    """
    blocked_by = "errors" if errors else "nothing_to_train" if not training_pairs else None
    return {
        "ready": blocked_by is None,
        "blocked_by": blocked_by,
        "advice": [
            _advice("conversations", conversations, WANTED_CONVERSATIONS),
            _advice("training_pairs", training_pairs, WANTED_PAIRS),
            _advice("quality", quality, WANTED_QUALITY) | {"n": scored},
        ],
    }


def _advice(name: str, have: float | None, wanted: float) -> dict[str, Any]:
    missing = None if have is None else round(max(wanted - have, 0), 2)
    return {
        "name": name,
        "have": have,
        "wanted": wanted,
        "missing": missing,
        "met": None if have is None else not missing,
    }


def lengths_of(counted: Sequence[int], source: str, factor: float) -> dict[str, Any] | None:
    """How long records are: `{source, records, total, mean, min, p50, p90, p95, p99, max, histogram}`.

    counted: of each record; times `factor`, they are tokens by `source`. histogram: `[{from, to, records}]`, `to`
    exclusive, bars of one round width from the shortest record to the longest. None without records.
    """
    if not counted:
        return None
    ordered = sorted(counted)
    tokens = [round(number * factor) for number in ordered] if factor != 1 else ordered
    ranks = {f"p{p}": tokens[-(-p * len(tokens) // 100) - 1] for p in _PERCENTILES}
    total = round(sum(ordered) * factor)
    low, high = tokens[0], tokens[-1]
    widths = (step * 10**power for power in range(12) for step in (1, 2, 5))
    width = next(w for w in widths if high // w - low // w < _MOST_BARS)
    bars = [0] * (high // width - low // width + 1)
    for number in tokens:
        bars[number // width - low // width] += 1
    start = low // width * width
    return {
        "source": source,
        "records": len(tokens),
        "total": total,
        "mean": round(total / len(tokens), 2),
        "min": low,
        **ranks,
        "max": high,
        "histogram": [
            {"from": start + at * width, "to": start + (at + 1) * width, "records": count}
            for at, count in enumerate(bars)
        ],
    }
