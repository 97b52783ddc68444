"""How far a run is, as one number that never goes back, and when it will end."""

from collections import deque
from datetime import datetime, timedelta
from decimal import Decimal

from brightrun.training.tables import JobStage

WEIGHTS: dict[JobStage, int] = {
    JobStage.PREPROCESSING: 2,
    JobStage.MODEL_LOADING: 8,
    JobStage.TRAINING: 85,
    JobStage.FINALIZING: 5,
}
"""Percent of a run; their sum is 100."""
HIGHEST = Decimal("99")
"""What a job shows until its model is stored: 100 means that one can use it."""
_THOUSANDTH = Decimal("0.001")
_MEMORY = 60
_FEWEST = 3


def overall(stage: JobStage, fraction: float) -> Decimal:
    """Percent, 0…99. fraction: of the stage; outside of 0…1 it is cut."""
    before = 0
    for known, weight in WEIGHTS.items():
        if known is stage:
            share = Decimal(str(min(1.0, max(0.0, fraction)))) * weight
            return min(HIGHEST, (before + share).quantize(_THOUSANDTH))
        before += weight
    raise ValueError(f"unknown stage {stage!r}")


class Pace:
    """The measured rate of an attempt: seconds a step over the last steps, evaluations and checkpoints included."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, datetime]] = deque(maxlen=_MEMORY)

    def saw(self, step: int, at: datetime) -> None:
        if self._seen and step <= self._seen[-1][0]:
            if step < self._seen[-1][0]:
                self._seen.clear()  # resumed from an earlier step
            else:
                return
        self._seen.append((step, at))

    @property
    def seconds_per_step(self) -> float | None:
        """None before there are enough steps to tell."""
        if len(self._seen) < _FEWEST:
            return None
        (first, began), (last, ended) = self._seen[0], self._seen[-1]
        return max(0.0, (ended - began).total_seconds()) / (last - first)

    def end(self, total_steps: int) -> datetime | None:
        """When the last stage will be over, taking finalizing for its share of the whole."""
        rate = self.seconds_per_step
        if rate is None:
            return None
        step, at = self._seen[-1]
        finalizing = total_steps * rate * WEIGHTS[JobStage.FINALIZING] / WEIGHTS[JobStage.TRAINING]
        return at + timedelta(seconds=(total_steps - step) * rate + finalizing)
