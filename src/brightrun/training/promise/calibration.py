"""What finished runs teach: how far a machine is from the model, and how well promises were kept.

A run's figure divided by the model's is a ratio. Its logarithm is taken as machine + base model on it + chance, all
normal. The prior of the machine is 0 (the model is right) and wide; each run narrows it, runs of the same base model
more than those of others (shrinkage). So one odd run moves little, and thirty decide.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from brightrun.training.promise.analytic import Correction

Quantity = Literal["seconds", "memory"]


@dataclass(frozen=True)
class Spread:
    """Standard deviations of the logarithm. machine: between machines of one kind and the model. base_model: between
    base models on one machine. chance: between runs of one base model on one machine."""

    machine: float
    base_model: float
    chance: float

    @property
    def alone(self) -> float:
        """Without any record."""
        return math.sqrt(self.machine**2 + self.base_model**2 + self.chance**2)


SPREADS: dict[Quantity, Spread] = {
    "seconds": Spread(machine=0.45, base_model=0.18, chance=0.12),
    "memory": Spread(machine=0.11, base_model=0.09, chance=0.05),
}


@dataclass(frozen=True)
class Seen:
    """One finished run, or probe. ratio: what happened ÷ what the model says, above 0."""

    base_model: str
    ratio: float


def correction(seen: Sequence[Seen], *, base_model: str, quantity: Quantity, machine: str) -> Correction | None:
    """What the record of one machine says of a base model; None without a record."""
    if not seen:
        return None
    spread = SPREADS[quantity]
    groups: dict[str, list[float]] = {}
    for each in seen:
        groups.setdefault(each.base_model, []).append(math.log(each.ratio))
    own = groups.pop(base_model, [])
    precision, weighted = 1 / spread.machine**2, 0.0
    for ratios in groups.values():
        weight = 1 / (spread.base_model**2 + spread.chance**2 / len(ratios))
        precision += weight
        weighted += weight * sum(ratios) / len(ratios)
    mean, variance = weighted / precision, 1 / precision + spread.base_model**2
    if own:
        weight = len(own) / spread.chance**2
        mean = (mean / variance + weight * sum(own) / len(own)) / (1 / variance + weight)
        variance = 1 / (1 / variance + weight)
    sigma = math.sqrt(variance + spread.chance**2)
    runs = f"{len(seen)} finished run{'s' if len(seen) > 1 else ''}"
    of_own = f", {len(own)} of them with {base_model}" if own else f", none with {base_model}"
    return Correction(math.exp(mean), sigma, f"the record of {runs} on {machine}{of_own}")


@dataclass(frozen=True)
class Kept:
    """A promise and what happened. low, high: of its interval. basis: `model`, `record` or `probe`."""

    machine: str
    basis: str
    value: float
    low: float
    high: float
    actual: float

    @property
    def inside(self) -> bool:
        return self.low <= self.actual <= self.high

    @property
    def error(self) -> float:
        """Relative: promised ÷ happened − 1."""
        return self.value / self.actual - 1

    @property
    def width(self) -> float:
        """Of the interval, in centres."""
        centre = (self.low + self.high) / 2
        return (self.high - self.low) / centre if centre else 0.0


def score(kept: Sequence[Kept]) -> dict[str, Any] | None:
    """`{n, inside, coverage, median_width, median_error, bias}`; None without any.

    coverage: share inside; 0.9 is aimed at. median_error: of absolute relative errors. bias: median of signed ones,
    above 0 where too much was promised.
    """
    if not kept:
        return None
    inside = sum(each.inside for each in kept)
    return {
        "n": len(kept),
        "inside": inside,
        "coverage": round(inside / len(kept), 4),
        "median_width": round(median(each.width for each in kept), 4),
        "median_error": round(median(abs(each.error) for each in kept), 4),
        "bias": round(median(each.error for each in kept), 4),
    }
