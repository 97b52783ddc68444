"""What every part of a run needs: where it is, what was asked for, whom to tell, whether to stop."""

import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from brightrun.formats.run import Budgets, RunConfig
from brightrun.trainer.control import Control, StopRequest
from brightrun.trainer.events import EventLog
from brightrun.trainer.heartbeat import Heartbeat
from brightrun.trainer.outcomes import ExitCode, TrainerStop

Stage = Literal["preprocessing", "model_loading", "training", "finalizing"]


class StopAsked(Exception):
    """Someone wants this run to stop. Caught where there is something to save first."""

    def __init__(self, request: StopRequest) -> None:
        super().__init__(request.message)
        self.request = request


@dataclass
class RunContext:
    """One attempt at a run."""

    run_dir: Path
    config: RunConfig
    events: EventLog
    control: Control
    heartbeat: Heartbeat
    _heartbeat_error: str = ""

    def stage(self, stage: Stage, fraction: float, **more: Any) -> None:
        """Say how far a stage is, 0…1."""
        self.heartbeat.progress(stage, more.get("step", 0))
        self.events.emit("stage", stage=stage, fraction=round(fraction, 4), **more)

    def warn(self, code: str, message: str, **more: Any) -> None:
        self.events.emit("warning", code=code, message=message, **more)
        say(f"warning: {message}")

    def check_stop(self) -> None:
        """Raise StopAsked when a signal or the control file asks to stop."""
        request = self.control.request()
        if self.control.unreadable is not None:
            message, self.control.unreadable = self.control.unreadable, None
            self.warn("control_unreadable", message)
        error = self.heartbeat.error
        if error is not None and str(error) != self._heartbeat_error:
            self._heartbeat_error = str(error)
            self.warn("heartbeat_failed", f"heartbeat.json could not be written: {error}")
        if request is not None:
            raise StopAsked(request)

    def check_budget(self, next_seconds: float = 0.0) -> None:
        """Raise TrainerStop (77) when `next_seconds` more would pass a limit of this run."""
        limit = limit_seconds(self.config.budgets)
        spent = self.heartbeat.spent_seconds
        if limit is not None and spent + next_seconds >= limit:
            raise TrainerStop(
                ExitCode.BUDGET,
                "budget",
                f"The run's limit is reached: {spent:.0f} of {limit:.0f} seconds{_in_dollars(self.config.budgets)}.",
                advice="Raise max_seconds or max_cost_usd in run.json and run again: it goes on from the checkpoint.",
                resumable=True,
            )


def limit_seconds(budgets: Budgets) -> float | None:
    """Seconds that all attempts together may take, from the time limit and the cost limit; None: no limit."""
    limits = [] if budgets.max_seconds is None else [budgets.max_seconds]
    if budgets.max_cost_usd is not None and budgets.price_per_hour_usd is not None:
        price = Decimal(budgets.price_per_hour_usd)
        if price > 0:
            limits.append(float(Decimal(budgets.max_cost_usd) * 3600 / price))
    return min(limits, default=None)


def _in_dollars(budgets: Budgets) -> str:
    if budgets.max_cost_usd is None:
        return ""
    return f" (US$ {budgets.max_cost_usd} at US$ {budgets.price_per_hour_usd} an hour)"


def say(text: str) -> None:
    """A line for whoever watches. A closed pipe must not end a training run; the same is in events.jsonl."""
    try:
        print(text, file=sys.stderr, flush=True)
    except BrokenPipeError:
        sys.stderr = open("/dev/null", "w", encoding="utf-8")  # noqa: PTH123, SIM115
