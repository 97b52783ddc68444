"""The end of an attempt, in one transaction: what it cost, what follows, who is told."""

from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.clock import utcnow
from brightrun.costs import service as costs
from brightrun.costs.tables import CostType
from brightrun.notifications.tables import NotificationType
from brightrun.queue import enqueue
from brightrun.training import endings
from brightrun.training.changes import announce, note
from brightrun.training.estimates import scoring
from brightrun.training.service import REGISTER_TASK
from brightrun.training.supervisor.outcomes import MAX_FRUITLESS, MAX_OWN_FAILURES, Verdict, pause_s
from brightrun.training.tables import JobStage, JobStatus, Outcome, TrainingAttempt, TrainingJob
from brightrun.training.views import attempt_cost

_MILLISECOND = Decimal("0.001")


def seconds_between(started: datetime, ended: datetime) -> Decimal:
    return Decimal(str(max(0.0, (ended - started).total_seconds()))).quantize(_MILLISECOND)


async def close_attempt(
    session: AsyncSession,
    job: TrainingJob,
    attempt: TrainingAttempt,
    *,
    ended_at: datetime,
    exit_code: int | None,
    outcome: Outcome,
    reason: str,
    message: str,
) -> None:
    """Write down how it ended and charge for it, once."""
    attempt.ended_at = ended_at
    attempt.exit_code = exit_code
    attempt.outcome = outcome
    attempt.reason = reason
    attempt.message = message
    attempt.checkpoint_after = job.checkpoint_step
    attempt.seconds = seconds_between(attempt.started_at, ended_at)
    attempt.cost = attempt_cost(job.price_per_hour, attempt.seconds)
    await session.flush()
    await costs.record(
        session,
        cost_type=CostType.COMPUTE,
        amount=attempt.cost,
        dedupe_key=f"job:{job.id}:attempt:{attempt.n}:compute",
        job_id=job.id,
        details={
            "attempt": attempt.n,
            "outcome": outcome.value,
            "gpu_type": job.gpu_config.get("type"),
            "gpu_count": job.gpu_config.get("count"),
            "price_per_hour_usd": str(job.price_per_hour),
            "seconds": str(attempt.seconds),
            "source": "measured: from the start of the trainer's process to its end",
        },
    )
    spent = await session.scalar(select(func.sum(TrainingAttempt.cost)).where(TrainingAttempt.job_id == job.id))
    job.current_cost = Decimal(spent or 0)


async def trained(session: AsyncSession, job: TrainingJob) -> None:
    """The trainer is done: hand over to the models room. The job is `completed` once its model is stored."""
    job.trained_at = utcnow()
    job.pause_requested_at = None  # it was quicker
    job.stage = JobStage.FINALIZING
    job.lease_owner = job.lease_expires_at = None
    job.estimated_completion_at = None
    await session.flush()
    await scoring.score_job(session, job)
    await note(session, job, "trained", "Training is done; the adapter is being stored as a model.")
    await enqueue(session, REGISTER_TASK, job_id=job.id, workspace_id=job.workspace_id)
    await announce(session, job)


async def interrupted(
    session: AsyncSession,
    job: TrainingJob,
    verdict: Verdict,
    *,
    by_us: bool,
    evidence: str,
    shortage: str | None = None,
) -> None:
    """It goes on by itself, without limit as long as it writes whole checkpoints, unless it gets nowhere.

    by_us: an orderly stop of the worker counts against nothing. shortage: what it has to wait for, in words.
    """
    attempt = await _last_attempt(session, job)
    advanced = attempt is not None and attempt.saved_at is not None
    asked = by_us or job.pause_requested_at is not None
    job.fruitless = 0 if advanced else job.fruitless if asked else job.fruitless + 1
    if job.fruitless > MAX_FRUITLESS:
        await endings.failed(
            session, job, code="interrupted_too_often",
            message=f"The run was interrupted {job.fruitless} times in a row before it could save a new checkpoint. "
            f"The last time: {verdict.message}",
            advice=verdict.advice or "Find out what stops it, lower checkpoint_every_steps, then retry the job.",
            evidence=evidence,
        )  # fmt: skip
        return
    pause = 0.0 if by_us else pause_s(job.fruitless)
    if await _wait(session, job, pause):
        return
    where = f"after step {job.checkpoint_step}" if job.checkpoint_step else "at its start"
    job.waiting_reason = shortage
    text = f"{shortage or verdict.message} It goes on by itself{' when there is room' if shortage else ''}, {where}."
    await note(session, job, "interrupted", text, level="warning", details={"code": verdict.code, "pause_s": pause})
    await endings.tell(
        session, job, NotificationType.JOB_INTERRUPTED, "Training interrupted", text, once=f"interrupted:{job.attempt}"
    )
    await announce(session, job)


async def own_failure(session: AsyncSession, job: TrainingJob, verdict: Verdict, *, evidence: str, change: str) -> None:
    """It may go well another time, a few times. change: what will be different then, in words."""
    job.own_failures += 1
    if job.own_failures > MAX_OWN_FAILURES:
        tried = f" It was tried {job.own_failures} times." if job.own_failures > 1 else ""
        await endings.failed(
            session, job, code=verdict.code, message=verdict.message + tried, advice=verdict.advice, evidence=evidence
        )
        return
    pause = pause_s(job.own_failures)
    if await _wait(session, job, pause):
        return
    again = f"It is tried again{f' in {pause:.0f} s' if pause else ''}{f', {change}' if change else ''}."
    details = {"code": verdict.code, "evidence": evidence[-2000:], "pause_s": pause}
    await note(session, job, "attempt_failed", f"{verdict.message} {again}", level="error", details=details)
    await endings.tell(
        session, job, NotificationType.JOB_INTERRUPTED, "Training is tried again", f"{verdict.message} {again}",
        once=f"interrupted:{job.attempt}:{job.own_failures}",
    )  # fmt: skip
    await announce(session, job)


async def put_back(session: AsyncSession, job: TrainingJob, reason: str, *, pause_s: float) -> None:
    """Nothing was started: it waits again, for any machine, and says what for."""
    job.status = JobStatus.INTERRUPTED if job.attempt else JobStatus.QUEUED
    if job.run_dir is None:
        job.host = None
    job.waiting_reason = reason
    job.next_attempt_at = utcnow() + timedelta(seconds=pause_s)
    job.lease_owner = job.lease_expires_at = None
    await session.flush()
    await announce(session, job)


async def _wait(session: AsyncSession, job: TrainingJob, pause: float) -> bool:
    """For its next attempt; or paused, when somebody asked for that: True, and all is said."""
    if job.pause_requested_at is not None:
        await endings.paused(session, job)
        return True
    job.status = JobStatus.INTERRUPTED
    job.next_attempt_at = utcnow() + timedelta(seconds=pause) if pause else None
    job.estimated_completion_at = None
    job.lease_owner = job.lease_expires_at = None
    await session.flush()
    return False


async def _last_attempt(session: AsyncSession, job: TrainingJob) -> TrainingAttempt | None:
    query = select(TrainingAttempt).where(TrainingAttempt.job_id == job.id).order_by(TrainingAttempt.n.desc()).limit(1)
    return (await session.execute(query)).scalar_one_or_none()
