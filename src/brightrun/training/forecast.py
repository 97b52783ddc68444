"""When jobs that wait will start, from what runs and what was promised: pure arithmetic on seconds from now.

The queue is walked as supervisors walk it: whenever a place is free, the first job whose workspace may have one more at
work takes it. Shares are as they stand now; they move while others run, which is one reason for the interval.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True)
class Span:
    """Seconds: the expected value and an interval around it."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> "Span":
        return Span(self.value * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class Busy:
    """A place that is taken, and in how many seconds it will be free."""

    workspace: UUID
    free_in: Span


@dataclass(frozen=True)
class Waiting:
    job: UUID
    workspace: UUID
    takes: Span


def starts(
    idle: int,
    busy: Sequence[Busy],
    queue: Sequence[Waiting],
    wanted: Collection[UUID],
    limit: Callable[[UUID], int | None],
) -> dict[UUID, Span]:
    """Job → seconds until it starts. Those that never would as things are (no places, a limit of none) are left out.

    idle: free places. queue: in its order. limit: how many a workspace may have at work, None: any number.
    """
    runs = [
        _walk(
            idle,
            [(getattr(place.free_in, which), place.workspace) for place in busy],
            [(job.job, job.workspace, getattr(job.takes, which)) for job in queue],
            set(wanted),
            limit,
        )
        for which in ("value", "low", "high")
    ]
    # A shorter job ahead may let in another before it: the three walks need not be in order.
    return {
        job: Span(value, min(low, value, high), max(low, value, high))
        for job, value, low, high in _joined(runs)
        if job in wanted
    }


def _joined(runs: list[dict[UUID, float]]) -> list[tuple[UUID, float, float, float]]:
    value, low, high = runs
    return [(job, value[job], low[job], high[job]) for job in value if job in low and job in high]


def _walk(
    idle: int,
    busy: list[tuple[float, UUID]],
    queue: list[tuple[UUID, UUID, float]],
    wanted: set[UUID],
    limit: Callable[[UUID], int | None],
) -> dict[UUID, float]:
    ends = [(max(0.0, seconds), number, workspace) for number, (seconds, workspace) in enumerate(busy)]
    heapq.heapify(ends)
    at_work = Counter(workspace for _seconds, _number, workspace in ends)
    number, now, places = len(ends), 0.0, idle
    found: dict[UUID, float] = {}
    left = list(queue)
    while wanted - found.keys():
        held_back = []
        for place, (job, workspace, takes) in enumerate(left):
            if not places:
                held_back += left[place:]
                break
            most = limit(workspace)
            if most is not None and at_work[workspace] >= most:
                held_back.append((job, workspace, takes))
                continue
            places -= 1
            at_work[workspace] += 1
            found[job] = now
            number += 1
            heapq.heappush(ends, (now + max(0.0, takes), number, workspace))
        left = held_back
        if not ends or not left:
            break
        now, _number, workspace = heapq.heappop(ends)
        at_work[workspace] -= 1
        places += 1
    return found
