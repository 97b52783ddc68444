"""What to make of a trainer that is no longer there: judge how it ended, and settle it in one transaction."""

import asyncio
import json
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.clock import utcnow
from brightrun.formats.run import RunConfig
from brightrun.logs import get_logger
from brightrun.training import endings
from brightrun.training.comparison.heldout import keep, read_heldout
from brightrun.training.executors.base import Executor, RunningTrainer
from brightrun.training.supervisor import memory_ladder, settle, watchdogs
from brightrun.training.supervisor.hold import Hold, run_dir_of
from brightrun.training.supervisor.outcomes import Kind, Verdict, judge
from brightrun.training.supervisor.tail import last_event, log_tail
from brightrun.training.tables import Outcome, TrainingAttempt, TrainingJob

log = get_logger(__name__)

_HEARTBEAT_FILE, _ADAPTER = "heartbeat.json", Path("adapter") / "adapter_model.safetensors"
_OUTCOMES = {Kind.DONE: Outcome.DONE, Kind.INTERRUPTED: Outcome.INTERRUPTED}


@dataclass(frozen=True)
class AttemptEnd:
    """exit_code: None when nobody saw it. seen_alive: by this supervisor, a moment ago.

    stopped_by_us: the worker stops, and asked the trainer to. shortage, over_budget: why it was asked to otherwise.
    stalled: it gave no sign of life and was ended. memory_kills: processes that the system killed for memory meanwhile.
    """

    hold: Hold
    executor: Executor
    attempt: TrainingAttempt
    exit_code: int | None
    seen_alive: bool
    stopped_by_us: bool = False
    shortage: str | None = None
    over_budget: str | None = None
    stalled: bool = False
    memory_kills: int = 0

    async def settle(self) -> RunningTrainer | None:
        """Another trainer that works on the same run, to be followed instead; else None, and the job is settled."""
        job = await self.hold.transaction(self.hold.job)
        run_dir = run_dir_of(job)
        verdict = await asyncio.to_thread(self._judge, run_dir)
        if verdict.kind is Kind.LOCKED:
            other = await asyncio.to_thread(self.executor.adopt, run_dir, None)
            if other is not None:
                return other
            verdict = replace(verdict, kind=Kind.OWN_FAILURE)
        change: tuple[str, RunConfig] | None = None
        if verdict.kind is Kind.OUT_OF_MEMORY and job.cancel_requested_at is None:
            lowered = await asyncio.to_thread(memory_ladder.step_down, run_dir)
            # With no rung left it is tried again as it is: others on this machine may need less by then.
            verdict = replace(verdict, kind=Kind.OWN_FAILURE)
            change = lowered
        evidence = await asyncio.to_thread(log_tail, run_dir / "trainer.log")
        heldout = await asyncio.to_thread(_measured, run_dir) if verdict.kind is Kind.DONE else None
        ended_at = utcnow() if self.seen_alive else await asyncio.to_thread(self._last_sign, run_dir)
        await self.hold.transaction(lambda session: self._write(session, verdict, change, evidence, ended_at, heldout))
        log.info(
            "an attempt ended",
            job=str(job.id), attempt=self.attempt.n, verdict=verdict.kind.value, code=verdict.code,
            exit_code=self.exit_code,
        )  # fmt: skip
        return None

    def _judge(self, run_dir: Path) -> Verdict:
        last = last_event(run_dir)
        # A run that an earlier attempt finished is finished; any other event must be this attempt's own.
        if last is not None and last.get("type") != "done" and int(last["seq"]) <= self.attempt.events_before:
            last = None
        verdict = judge(self.exit_code, last, stalled=self.stalled, memory_kills=self.memory_kills)
        if verdict.kind is Kind.OWN_FAILURE and verdict.code == "bug" and watchdogs.disk_is_full(run_dir):
            # It could not even say so.
            return Verdict(
                Kind.OWN_FAILURE, "disk_full", "The trainer ended, and there is no room left on the disk.",
                "Make room and try again: it goes on from the last whole checkpoint.",
            )  # fmt: skip
        if verdict.kind is Kind.DONE and not (run_dir / _ADAPTER).is_file():
            return Verdict(
                Kind.FINAL, "adapter_missing", f"The run says that it is done, but {_ADAPTER} is not in its directory.",
                "Start a new job.",
            )  # fmt: skip
        return verdict

    def _last_sign(self, run_dir: Path) -> datetime:
        """When it was last known to live: nobody is charged for the time in which nobody looked."""
        signs = [self.attempt.started_at]
        for told in (_heartbeat(run_dir), last_event(run_dir)):
            try:
                signs.append(datetime.fromisoformat(str((told or {})["time"])))
            except (KeyError, ValueError):
                continue
        return min(max(signs), utcnow())

    async def _write(
        self,
        session: AsyncSession,
        verdict: Verdict,
        change: tuple[str, RunConfig] | None,
        evidence: str,
        ended_at: datetime,
        heldout: dict[str, Any] | None,
    ) -> None:
        job = await self.hold.job(session)
        if heldout is not None:
            await keep(session, job, heldout)
        attempt = await session.get_one(TrainingAttempt, self.attempt.id)
        cancelled = job.cancel_requested_at is not None
        await settle.close_attempt(
            session,
            job,
            attempt,
            ended_at=max(ended_at, attempt.started_at),
            exit_code=self.exit_code,
            outcome=Outcome.CANCELLED if cancelled else _OUTCOMES.get(verdict.kind, Outcome.FAILED),
            reason="cancelled" if cancelled else verdict.code,
            message=verdict.message,
        )
        if cancelled:
            await endings.cancelled(session, job)
            return
        if change is not None:
            job.hyperparameters = msgspec.to_builtins(change[1].hyperparameters)
            job.rules_fired = list(change[1].rules_fired)
        await self._follow_up(session, job, verdict, change[0] if change else "", evidence)

    async def _follow_up(
        self, session: AsyncSession, job: TrainingJob, verdict: Verdict, change: str, evidence: str
    ) -> None:
        match verdict.kind:
            case Kind.DONE:
                await settle.trained(session, job)
            case Kind.INTERRUPTED if self.over_budget is not None and job.pause_requested_at is None:
                await endings.failed(
                    session, job, code="month_budget", message=self.over_budget,
                    advice="Raise the workspace's budget and go on from the checkpoint, or wait for next month.",
                )  # fmt: skip
            case Kind.INTERRUPTED:
                by_us = self.stopped_by_us or self.shortage is not None
                await settle.interrupted(session, job, verdict, by_us=by_us, evidence=evidence, shortage=self.shortage)
            case Kind.OWN_FAILURE:
                await settle.own_failure(session, job, verdict, evidence=evidence, change=change)
            case Kind.FINAL:
                await endings.failed(
                    session, job, code=verdict.code, message=verdict.message, advice=verdict.advice, evidence=evidence
                )
            case Kind.LOCKED | Kind.OUT_OF_MEMORY:
                raise AssertionError(f"{verdict.kind} was decided before")


def _measured(run_dir: Path) -> dict[str, Any] | None:
    """What comparisons need of it. A file that cannot be read stops nothing here: storing the model looks at it too."""
    try:
        return read_heldout(run_dir)
    except (OSError, ValueError) as error:
        log.warning("the held-out losses of a run cannot be read", run_dir=str(run_dir), error=str(error))
        return None


def _heartbeat(run_dir: Path) -> dict[str, Any] | None:
    try:
        told = json.loads((run_dir / _HEARTBEAT_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None
