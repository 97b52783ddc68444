"""One thing done to many jobs: each in a savepoint of its own, and what became of each is told."""

from collections.abc import Awaitable, Callable
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts.signin import Principal
from brightrun.audit.service import record as audit
from brightrun.clock import utcnow
from brightrun.errors import BrightRunError, ConflictError, InvalidInputError
from brightrun.settings import Settings
from brightrun.training import actions, scheduling
from brightrun.training.bulk_schemas import BulkAction, BulkIn, BulkOut, BulkResult
from brightrun.training.changes import announce
from brightrun.training.labels import service as labels
from brightrun.training.schemas import JobCancel, JobResume, JobRetry
from brightrun.training.service import get
from brightrun.training.tables import ENDED, TrainingJob

Do = Callable[[UUID], Awaitable[str]]


async def archive(session: AsyncSession, job: TrainingJob) -> TrainingJob:
    """Out of the lists; its model, costs and log stay, and it can be brought back. job: locked."""
    if job.archived_at is not None:
        return job
    if job.status not in ENDED:
        raise ConflictError(f"The job is {job.status}; only one that has ended can be archived", code="job_not_ended")
    job.archived_at = utcnow()
    await session.flush()
    await audit(session, "job.archived", "job", job.id, {"name": job.name})
    await announce(session, job)
    return job


async def unarchive(session: AsyncSession, job: TrainingJob) -> TrainingJob:
    if job.archived_at is not None:
        job.archived_at = None
        await session.flush()
        await audit(session, "job.unarchived", "job", job.id, {"name": job.name})
        await announce(session, job)
    return job


async def run(session: AsyncSession, settings: Settings, principal: Principal, body: BulkIn) -> BulkOut:
    """Do it to each, in the order given; what is refused for one does not touch the others.

    Raises InvalidInputError for an action that lacks what it needs.
    """
    do = _what(session, settings, principal, body)
    results = []
    for job_id in dict.fromkeys(body.ids):
        name: str | None = None
        try:
            async with session.begin_nested():
                name = (await get(session, job_id)).name
                message = await do(job_id)
        except BrightRunError as error:
            results.append(BulkResult(id=job_id, name=name, ok=False, code=error.code, message=error.message))
        else:
            results.append(BulkResult(id=job_id, name=name, ok=True, code=None, message=message))
    done = sum(result.ok for result in results)
    return BulkOut(action=body.action, results=results, done=done, refused=len(results) - done)


def _what(session: AsyncSession, settings: Settings, principal: Principal, body: BulkIn) -> Do:
    """What is done to one job, and says in a sentence what became of it."""

    async def cancel(job_id: UUID) -> str:
        wanted = JobCancel(reason=body.reason, note=body.note, checkpoint=body.checkpoint)
        job = await actions.cancel(session, job_id, wanted)
        return "Cancelled." if job.status in ENDED else "Asked to stop; it is gone within a minute."

    async def pause(job_id: UUID) -> str:
        job = await actions.pause(session, job_id)
        return "Paused." if job.pause_requested_at is None else "Asked to pause; it saves a checkpoint first."

    async def resume(job_id: UUID) -> str:
        job = await actions.resume(session, principal, job_id, JobResume())
        return _goes_on(job)

    async def retry(job_id: UUID) -> str:
        job = await actions.retry(session, settings, principal, job_id, JobRetry())
        return _goes_on(job)

    async def tag(job_id: UUID) -> str:
        job = await get(session, job_id, lock=True)
        tags = await labels.change_tags(session, job, add=body.tags)
        return f"Tags: {', '.join(tags)}."

    async def untag(job_id: UUID) -> str:
        job = await get(session, job_id, lock=True)
        tags = await labels.change_tags(session, job, remove=body.tags)
        return f"Tags: {', '.join(tags)}." if tags else "It has no tags any more."

    async def priority(job_id: UUID) -> str:
        assert body.priority is not None
        job = await get(session, job_id, lock=True)
        await scheduling.set_priority(session, principal, job, body.priority, reason=body.reason)
        return f"Its priority is {job.priority}."

    async def put_away(job_id: UUID) -> str:
        await archive(session, await get(session, job_id, lock=True))
        return "Archived."

    async def bring_back(job_id: UUID) -> str:
        await unarchive(session, await get(session, job_id, lock=True))
        return "Back in the list."

    match body.action:
        case BulkAction.CANCEL:
            return cancel
        case BulkAction.PAUSE:
            return pause
        case BulkAction.RESUME:
            return resume
        case BulkAction.RETRY:
            return retry
        case BulkAction.TAG | BulkAction.UNTAG:
            if not body.tags:
                raise InvalidInputError("Which tags?", code="validation_error", details={"tags": ["at least one"]})
            return tag if body.action is BulkAction.TAG else untag
        case BulkAction.PRIORITY:
            if body.priority is None:
                raise InvalidInputError(
                    "Which priority?", code="validation_error", details={"priority": ["low, normal or high"]}
                )
            return priority
        case BulkAction.ARCHIVE:
            return put_away
        case BulkAction.UNARCHIVE:
            return bring_back


def _goes_on(job: TrainingJob) -> str:
    return f"It goes on from step {job.checkpoint_step:,}." if job.checkpoint_step else "It starts from the beginning."
