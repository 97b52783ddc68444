"""What a supervisor finds and takes. Every claim is one short transaction; a lease says who may write a run's state."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.clock import utcnow
from brightrun.platform import Platform
from brightrun.settings import Settings
from brightrun.training import endings
from brightrun.training.changes import announce, note
from brightrun.training.repository import at_work
from brightrun.training.scheduling import workspace_limit
from brightrun.training.supervisor.identity import is_dead
from brightrun.training.supervisor.outcomes import MAX_FRUITLESS
from brightrun.training.supervisor.settle import close_attempt
from brightrun.training.tables import ACTIVE, WAITING, JobStatus, Outcome, TrainingAttempt, TrainingJob

LOST_MACHINE_S = 300.0
"""A machine that was away for this long may have its jobs taken by another, which starts them anew."""
_ONE_CLAIM_AT_A_TIME = text("select pg_advisory_xact_lock(hashtextextended(:key, 0))")


class LostLeaseError(Exception):
    """Another supervisor follows the job now; what this one does must not count.

    gone: the job itself is no longer there (its workspace was deleted), so nobody follows it.
    """

    def __init__(self, message: str, *, gone: bool) -> None:
        super().__init__(message)
        self.gone = gone


@dataclass(frozen=True)
class Found:
    workspace_id: UUID
    job_id: UUID


async def of_this_machine(session: AsyncSession, host: str) -> Sequence[Found]:
    """Jobs that are at work here, whoever follows them."""
    rows = await session.execute(text("select workspace, job from lookup_host_jobs(:host)"), {"host": host})
    return [Found(workspace, job) for workspace, job in rows]


async def startable(session: AsyncSession, settings: Settings, host: str) -> Sequence[Found]:
    """At most 20 jobs that may start here now, in their order: priority, fair shares, age (migration 0023)."""
    rows = await session.execute(
        text("select workspace, job from lookup_startable_jobs(:host, :lost_before, :most, :aging)"),
        {
            "host": host,
            "lost_before": utcnow() - timedelta(seconds=LOST_MACHINE_S),
            "most": settings.workspace_running_jobs,
            "aging": settings.queue_aging_s,
        },
    )
    return [Found(workspace, job) for workspace, job in rows]


async def _take(session: AsyncSession, job_id: UUID) -> TrainingJob | None:
    """Locked, or None while somebody else holds the row (they are quicker then)."""
    query = select(TrainingJob).where(TrainingJob.id == job_id).with_for_update(skip_locked=True)
    return (await session.execute(query)).scalar_one_or_none()


async def claim_waiting(platform: Platform, found: Found, *, host: str, owner: str, limit: int) -> bool:
    """Take a queued or interrupted job, or one of a lost machine, if this machine may run one more."""
    now = utcnow()
    async with platform.db.transaction(workspace_id=found.workspace_id) as session:
        # Two workers of one machine must not both take its last place.
        await session.execute(_ONE_CLAIM_AT_A_TIME, {"key": f"supervisor {host}"})
        if len(await of_this_machine(session, host)) >= limit:
            return False
        # Nor two machines the last one that the workspace may have.
        await session.execute(_ONE_CLAIM_AT_A_TIME, {"key": f"jobs at work {found.workspace_id}"})
        job = await _take(session, found.job_id)
        if job is None or not _may_start(job, host, now):
            return False
        if job.status in WAITING and not await _has_room(session, platform.settings, found.workspace_id):
            return False
        if job.cancel_requested_at is not None:
            await endings.cancelled(session, job)
            return False
        if job.host is not None and job.host != host:
            await _leave_lost_machine(session, job, now)
            if job.fruitless > MAX_FRUITLESS:
                await endings.failed(
                    session, job, code="machine_lost",
                    message=f"{job.fruitless} times in a row its machine was lost, or it was stopped, before anything "
                    "was kept.",
                    advice="Find out what happens to the machines, then retry the job.",
                )  # fmt: skip
                return False
        job.status = JobStatus.INITIALIZING
        job.host = host
        job.waiting_reason = None
        job.next_attempt_at = None
        job.lease_owner = owner
        job.lease_expires_at = now + timedelta(seconds=platform.settings.job_lease_s)
        await session.flush()
        await announce(session, job)
    return True


async def _has_room(session: AsyncSession, settings: Settings, workspace_id: UUID) -> bool:
    """May the workspace have one more job at work?"""
    most = await workspace_limit(session, settings, workspace_id)
    return most is None or await at_work(session) < most


def _may_start(job: TrainingJob, host: str, now: datetime) -> bool:
    """The lookup said so a moment ago; is it still true?"""
    lost = now - timedelta(seconds=LOST_MACHINE_S)
    if job.status in WAITING:
        here = job.host in {None, host} or job.updated_at < lost
        return here and (job.next_attempt_at is None or job.next_attempt_at <= now)
    away = job.host != host and job.lease_expires_at is not None and job.lease_expires_at < lost
    return job.status in ACTIVE and job.trained_at is None and away


async def _leave_lost_machine(session: AsyncSession, job: TrainingJob, now: datetime) -> None:
    """Its run directory is out of reach: begin anew here. What an open attempt cost is known up to its last sign."""
    query = select(TrainingAttempt).where(TrainingAttempt.job_id == job.id, TrainingAttempt.ended_at.is_(None))
    attempt = (await session.execute(query)).scalar_one_or_none()
    if attempt is not None:
        expired = job.lease_expires_at or now
        await close_attempt(
            session, job, attempt, ended_at=max(attempt.started_at, min(now, expired)), exit_code=None,
            outcome=Outcome.INTERRUPTED, reason="machine_lost", message="The machine it ran on was lost.",
        )  # fmt: skip
    job.run_dir = None
    job.checkpoint_step, job.checkpoints, job.resume_step, job.run_changes = 0, [], None, {}
    job.fruitless += 1
    await note(session, job, "machine_lost", f"The machine {job.host} was lost; the run begins anew.", level="warning")


async def adopt(platform: Platform, found: Found, *, owner: str) -> bool:
    """Take a job of this machine that nobody follows any more: its lease has expired, or its supervisor is dead."""
    now = utcnow()
    async with platform.db.transaction(workspace_id=found.workspace_id) as session:
        job = await _take(session, found.job_id)
        if job is None or job.status not in ACTIVE or job.trained_at is not None:
            return False
        held = job.lease_owner is not None and job.lease_owner != owner
        if held and job.lease_expires_at is not None and job.lease_expires_at > now:
            assert job.lease_owner is not None
            if not is_dead(job.lease_owner):
                return False
        job.lease_owner = owner
        job.lease_expires_at = now + timedelta(seconds=platform.settings.job_lease_s)
        await session.flush()
        await note(session, job, "adopted", "A new supervisor follows this run.")
        await announce(session, job)
    return True


async def held(session: AsyncSession, job_id: UUID, owner: str) -> TrainingJob:
    """The job, locked, if it is still ours. Raises LostLeaseError."""
    query = select(TrainingJob).where(TrainingJob.id == job_id).with_for_update()
    job = (await session.execute(query.execution_options(populate_existing=True))).scalar_one_or_none()
    if job is None or job.lease_owner != owner or job.status not in ACTIVE:
        raise LostLeaseError(f"job {job_id} is followed by another supervisor, or has ended", gone=job is None)
    return job


def renew(job: TrainingJob, lease_s: float) -> None:
    job.lease_expires_at = utcnow() + timedelta(seconds=lease_s)
