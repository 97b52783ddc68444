"""The paired bootstrap over whole conversations: answers of one conversation are not independent of each other."""

import math
import random
from collections.abc import Sequence

CONFIDENCE = 0.95
LEAST_CONVERSATIONS = 10
"""With fewer, a bootstrap interval is too narrow to prove anything."""
_RESAMPLES = 2000
_MOST_DRAWS = 2_000_000


def bootstrap_difference(
    conversations: Sequence[tuple[float, float, int]], seed: int = 0, *, confidence: float = CONFIDENCE
) -> tuple[float, float, int]:
    """The interval of the difference in loss per token, second − first, and how many resamples it is from.

    conversations: (loss sum of the first, of the second, tokens) of each. A resample draws as many conversations as
    there are, with replacement, and divides sums by sums.
    """
    draws = [(second - first, tokens) for first, second, tokens in conversations]
    resamples = min(_RESAMPLES, max(200, _MOST_DRAWS // len(draws)))
    chance = random.Random(seed)  # noqa: S311 (statistics, not secrets; the same numbers each time)
    differences = []
    for _ in range(resamples):
        drawn = chance.choices(draws, k=len(draws))
        differences.append(sum(difference for difference, _n in drawn) / sum(n for _difference, n in drawn))
    differences.sort()
    tail = (1 - confidence) / 2
    return _quantile(differences, tail), _quantile(differences, 1 - tail), resamples


def _quantile(ordered: Sequence[float], at: float) -> float:
    """By linear interpolation between the two nearest."""
    place = at * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
