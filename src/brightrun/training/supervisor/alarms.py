"""When stopping does not work: somebody must look, because a forgotten machine costs money by the hour."""

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.logs import get_logger
from brightrun.notifications.service import notify
from brightrun.notifications.tables import NotificationType, Priority
from brightrun.training.changes import announce, note
from brightrun.training.endings import job_url
from brightrun.training.tables import TrainingJob

log = get_logger(__name__)

STOPPED_WITHIN_S = 60.0
"""A job that was asked to stop is verified gone within this, or people are told."""


async def process_left(session: AsyncSession, job: TrainingJob, host: str) -> None:
    """A process of the trainer survived being killed."""
    text = f"A process of the trainer is still there after it was killed, on the machine {host}. End it by hand."
    await _tell(session, job, "process_left", "A training process could not be ended", text)


async def stop_overdue(session: AsyncSession, job: TrainingJob) -> None:
    """Nobody has confirmed in time that a cancelled job's trainer is gone."""
    text = (
        f"It was asked to stop more than {STOPPED_WITHIN_S:.0f} seconds ago, and nobody has confirmed that its trainer "
        f"is gone. Look at the machine {job.host or 'it ran on'}: is its worker running? It may still cost money."
    )
    await _tell(session, job, "stop_overdue", "A cancelled job may still be running", text)


async def _tell(session: AsyncSession, job: TrainingJob, kind: str, title: str, text: str) -> None:
    """Once an attempt, in the job's log, in the process's log and to everyone."""
    new = await notify(
        session,
        type=NotificationType.SYSTEM,
        priority=Priority.HIGH,
        title=title,
        message=f"{job.name}: {text}",
        action_url=job_url(job),
        metadata={"job_id": str(job.id)},
        dedupe_key=f"job:{job.id}:{kind}:{job.attempt}",
    )
    if new:
        await note(session, job, kind, text, level="error")
        await announce(session, job)
        log.error(title, job=str(job.id), machine=job.host)
