"""Which records make a step, and how a step is cut into forward passes. Pure; no torch.

A step is `batch_size` records of a shuffled epoch. Its micro-batches are formed by length under a token budget: they
decide speed and memory, never the result, because the loss is divided by the trained tokens of the whole step.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

# What one more forward and backward call costs, in padded tokens of the same pass. Small models on a CPU: measured
# between 40 and 60. The exact value hardly matters; 0 would split where merging is free.
CALL_COST_TOKENS = 64


@dataclass(frozen=True)
class Order:
    """Which records each optimiser step takes: a function of seed, epoch and nothing else."""

    records: int
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.records / self.batch_size)

    def epoch(self, number: int) -> list[int]:
        """Record indices of an epoch (0-based), shuffled."""
        return _shuffled(self.records, self.seed, number)

    def step(self, number: int) -> list[int]:
        """Record indices of optimiser step `number` (0-based). The last step of an epoch may be smaller."""
        epoch, within = divmod(number, self.steps_per_epoch)
        return self.epoch(epoch)[within * self.batch_size : (within + 1) * self.batch_size]


@lru_cache(maxsize=2)
def _shuffled(records: int, seed: int, epoch: int) -> list[int]:
    order = list(range(records))
    random.Random(f"brightrun {seed} {epoch}").shuffle(order)  # noqa: S311
    return order


def micro_batches(lengths: Sequence[int], *, budget: int, call_cost: int = CALL_COST_TOKENS) -> list[list[int]]:
    """Indices into `lengths`, grouped so that padded tokens plus `call_cost` a group are least.

    budget: most padded tokens in a group (members × longest); a single longer sequence makes its own group.
    Groups hold neighbours in the order of length, longest first, so memory peaks in the first pass and not later.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    best = [math.inf] * len(order) + [0.0]  # best[i]: least cost of grouping order[i:]
    end = [0] * len(order)
    for start in range(len(order) - 1, -1, -1):
        longest = lengths[order[start]]
        for stop in range(start + 1, len(order) + 1):
            padded = longest * (stop - start)
            if padded > budget and stop > start + 1:
                break
            cost = padded + call_cost + best[stop]
            if cost < best[start]:
                best[start], end[start] = cost, stop
    groups, start = [], 0
    while start < len(order):
        groups.append(order[start : end[start]])
        start = end[start]
    return groups
