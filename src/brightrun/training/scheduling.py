"""The queue as people see it: who is before whom, when a job will start and how one knows, and who may change that."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts import quota
from brightrun.accounts.roles import Permission
from brightrun.accounts.signin import Principal
from brightrun.audit.service import record as audit
from brightrun.clock import utcnow
from brightrun.errors import ConflictError, ForbiddenError
from brightrun.settings import Settings
from brightrun.training import repository
from brightrun.training.changes import announce, note
from brightrun.training.forecast import Busy, Span, Waiting, starts
from brightrun.training.schemas import JobOut, QueueOut, StartEstimate
from brightrun.training.tables import (
    ENDED,
    WAITING,
    JobPriority,
    JobStatus,
    TrainingBacklog,
    TrainingJob,
    TrainingMachine,
)

MACHINE_IS_HERE_S = 60.0
"""A machine that was not seen for this long starts nothing."""
MARGIN = 0.15
"""Of a promise without an interval of its own: the documented ±15 %."""
_FORESEEN = 500
_QUEUE = text("select workspace, job from lookup_queue(:most, :aging)")


async def workspace_limit(session: AsyncSession, settings: Settings, workspace_id: UUID) -> int | None:
    """Jobs that the workspace may have at work at once; None: any number."""
    most, _own = await quota.running_jobs(session, settings, workspace_id)
    return most


# --- priority -------------------------------------------------------------------------------------------------------


def require_may_set(principal: Principal, before: JobPriority, after: JobPriority) -> None:
    """High comes before what everybody else has waiting: to give it, and to take it away, is for owners and admins."""
    if JobPriority.HIGH in {before, after} and before != after:
        if Permission.WORKSPACE_MANAGE in principal.permissions:
            return
        raise ForbiddenError("Only an owner or admin of the workspace may give or take high priority", code="role")


async def set_priority(
    session: AsyncSession, principal: Principal, job: TrainingJob, priority: JobPriority, *, reason: str | None
) -> TrainingJob:
    """job: locked. Repeating it changes nothing. Raises ConflictError for a job that has ended, ForbiddenError."""
    before = JobPriority(job.priority)
    if job.status in ENDED:
        raise ConflictError(f"The job is {job.status}: it waits for nothing any more", code="job_ended")
    require_may_set(principal, before, priority)
    if before == priority:
        return job
    job.priority = priority
    await session.flush()
    details = {"before": before.value, "after": priority.value, "reason": reason}
    why = f" Reason: {reason}" if reason else ""
    await note(session, job, "priority", f"Its priority is {priority} now; it was {before}.{why}", details=details)
    await audit(session, "job.priority_set", "job", job.id, details)
    await announce(session, job)
    await session.refresh(job)
    return job


# --- position and start ---------------------------------------------------------------------------------------------


def promised(estimate: dict[str, Any]) -> Span:
    """Seconds that a job was promised to take."""
    seconds = estimate["seconds"]
    value = float(seconds["value"])
    low, high = seconds.get("low"), seconds.get("high")
    return Span(
        value,
        float(low) if low is not None else value * (1 - MARGIN),
        float(high) if high is not None else value * (1 + MARGIN),
    )


def backlog(job: TrainingJob) -> TrainingBacklog:
    """What others may know of a job: how long it is expected to take."""
    takes = promised(job.estimate)
    return TrainingBacklog(job_id=job.id, seconds=takes.value, seconds_low=takes.low, seconds_high=takes.high)


async def add_places(session: AsyncSession, settings: Settings, jobs: Sequence[JobOut]) -> None:
    """Position and start estimate into those of `jobs` that wait."""
    waiting = {job.id: job for job in jobs if job.status in WAITING}
    if not waiting:
        return
    queue = await _look(session, settings, list(waiting.values()))
    for job_id, job in waiting.items():
        job.position = queue.positions.get(job_id)
        job.start_estimate = queue.start_of(job)


async def overview(session: AsyncSession, settings: Settings, jobs: Sequence[JobOut]) -> QueueOut:
    """The queue of the workspace: `jobs` that wait, with their places, in order; and what there is to run them."""
    await add_places(session, settings, jobs)
    machines = await _machines(session)
    workspace_id: UUID = session.info["workspace_id"]
    return QueueOut(
        jobs=sorted(jobs, key=lambda job: job.position or 0),
        machines=len(machines),
        places=sum(machine.places for machine in machines),
        busy=sum(len(machine.busy) for machine in machines),
        running=await repository.at_work(session),
        limit=await workspace_limit(session, settings, workspace_id),
        waiting_in_all=len((await session.execute(_QUEUE, _rules(settings))).all()),
    )


def _rules(settings: Settings) -> dict[str, Any]:
    return {"most": settings.workspace_running_jobs, "aging": settings.queue_aging_s}


async def _machines(session: AsyncSession) -> Sequence[TrainingMachine]:
    since = utcnow() - timedelta(seconds=MACHINE_IS_HERE_S)
    query = select(TrainingMachine).where(TrainingMachine.seen_at > since).order_by(TrainingMachine.host)
    return (await session.scalars(query.execution_options(populate_existing=True))).all()


class _Queue:
    """One look at the queue. positions: of every job that waits, from 1."""

    def __init__(self, order: list[tuple[UUID, UUID]], machines: Sequence[TrainingMachine], now: datetime) -> None:
        self.now = now
        self.positions = {job: place for place, (_workspace, job) in enumerate(order, start=1)}
        self.places = sum(machine.places for machine in machines)
        self.machines = len(machines)
        self.busy = [
            Busy(UUID(place["workspace"]), Span(*(self._in(place[key]) for key in ("at", "low", "high"))))
            for machine in machines
            for place in machine.busy
        ]
        self.measured = sum(bool(place["measured"]) for machine in machines for place in machine.busy)
        self.starts: dict[UUID, Span] = {}

    def _in(self, at: str) -> float:
        """Seconds from now. What should be over already is taken to end at any moment."""
        return max(0.0, (datetime.fromisoformat(at) - self.now).total_seconds())

    def start_of(self, job: JobOut) -> StartEstimate:
        """When it starts, or why nobody can tell."""
        position = self.positions.get(job.id)
        known = {"ahead": (position or 1) - 1, "running": len(self.busy), "places": self.places}
        reason = None
        if job.waiting_reason is not None:
            reason = job.waiting_reason
        elif not self.machines:
            reason = "No machine is looking for jobs: its worker is not running (`brightrun worker`)."
        elif position is None or position > _FORESEEN:
            reason = f"More than {_FORESEEN} jobs come before it: that is too far ahead to tell."
        found = self.starts.get(job.id)
        if reason is None and found is None:
            reason = "It starts when places and limits allow; that cannot be told from what runs now."
        if reason is not None or found is None:
            return StartEstimate(**known, reason=reason)
        if job.next_attempt_at is not None:
            pause = max(0.0, (job.next_attempt_at - self.now).total_seconds())
            found = Span(*(max(pause, seconds) for seconds in (found.value, found.low, found.high)))
        return StartEstimate(
            **known,
            at=self.now + timedelta(seconds=found.value),
            earliest=self.now + timedelta(seconds=found.low),
            latest=self.now + timedelta(seconds=found.high),
            seconds=round(found.value, 1),
            source=self._source(known["ahead"]),
        )

    def _source(self, ahead: int) -> str:
        if not ahead and len(self.busy) < self.places:
            return "a place is free"
        running, measured = len(self.busy), self.measured
        parts = []
        if running:
            known = "measured rate" if measured == running else "measured rates and promises"
            parts.append(f"from the {known if measured else 'promise'} of what runs")
        if ahead:
            parts.append(f"{'and' if parts else 'from'} the promises of {ahead} before it")
        return " ".join(parts) or "from the places there are"


async def _look(session: AsyncSession, settings: Settings, jobs: Sequence[JobOut]) -> _Queue:
    order = [(workspace, job) for workspace, job in await session.execute(_QUEUE, _rules(settings))]
    queue = _Queue(order, await _machines(session), utcnow())
    wanted = {job.id for job in jobs if queue.positions.get(job.id, _FORESEEN + 1) <= _FORESEEN}
    if not wanted or not queue.machines:
        return queue
    last = max(queue.positions[job_id] for job_id in wanted)
    ahead = order[:last]
    rows = await session.scalars(select(TrainingBacklog).where(TrainingBacklog.job_id.in_([job for _w, job in ahead])))
    takes = {row.job_id: Span(row.seconds, row.seconds_low, row.seconds_high) for row in rows}
    mine: UUID = session.info["workspace_id"]
    own_limit = await workspace_limit(session, settings, mine)
    others = settings.workspace_running_jobs or None
    left = {job.id: 1 - job.progress / 100 for job in jobs if job.status is JobStatus.INTERRUPTED}
    unknown = Span(0.0, 0.0, 0.0)
    queue.starts = starts(
        max(0, queue.places - len(queue.busy)),
        queue.busy,
        [Waiting(job, workspace, takes.get(job, unknown).scaled(left.get(job, 1.0))) for workspace, job in ahead],
        wanted,
        lambda workspace: own_limit if workspace == mine else others,
    )
    return queue
