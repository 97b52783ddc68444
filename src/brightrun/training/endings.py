"""The ways a job ends, each in one transaction: state, notification, event, a line in its log.

Callers hold the job's row locked (`repository.find(…, lock=True)`) and have checked that the step is theirs to take.
"""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.clock import utcnow
from brightrun.notifications.service import notify
from brightrun.notifications.tables import NotificationType
from brightrun.training.changes import announce, note
from brightrun.training.tables import JobStatus, TrainingJob


def job_url(job: TrainingJob) -> str:
    return f"/training/{job.id}"


async def tell(
    session: AsyncSession, job: TrainingJob, kind: NotificationType, title: str, message: str, *, once: str
) -> None:
    """One notification for the event that `once` names within this job."""
    await notify(
        session,
        type=kind,
        title=title,
        message=f"{job.name}: {message}",
        action_url=job_url(job),
        metadata={"job_id": str(job.id), "dataset_id": str(job.dataset_id), "error_code": job.error_code},
        dedupe_key=f"job:{job.id}:{once}",
    )


def _settle(job: TrainingJob, status: JobStatus) -> None:
    job.status = status
    job.completed_at = utcnow()
    job.pause_requested_at = None
    job.final_cost = job.current_cost
    job.estimated_completion_at = None
    job.next_attempt_at = None
    job.waiting_reason = None
    job.lease_owner = None
    job.lease_expires_at = None


async def cancelled(session: AsyncSession, job: TrainingJob) -> None:
    """Nothing of it runs any more."""
    _settle(job, JobStatus.CANCELLED)
    await session.flush()
    spent = f"It cost ${job.current_cost:.2f}." if job.current_cost else "Nothing was spent."
    reason = f" Reason: {job.cancel_reason}." if job.cancel_reason else ""
    await note(session, job, "cancelled", f"The job is cancelled. {spent}{reason}")
    await tell(
        session, job, NotificationType.JOB_CANCELLED, "Training cancelled", spent, once=f"cancelled:{_round(job)}"
    )
    await announce(session, job)


async def paused(session: AsyncSession, job: TrainingJob) -> None:
    """Nothing of it runs until somebody resumes it; what it reached is kept."""
    job.status = JobStatus.PAUSED
    job.pause_requested_at = None
    job.estimated_completion_at = None
    job.next_attempt_at = None
    job.waiting_reason = None
    job.lease_owner = job.lease_expires_at = None
    await session.flush()
    where = f"after step {job.checkpoint_step}" if job.checkpoint_step else "before its first checkpoint"
    await note(session, job, "paused", f"Paused {where}. It cost ${job.current_cost:.2f} so far.")
    await announce(session, job)


async def failed(
    session: AsyncSession, job: TrainingJob, *, code: str, message: str, advice: str = "", evidence: str = ""
) -> None:
    """code: the class of the failure. message: what happened. advice: what to do. evidence: the lines that show it."""
    _settle(job, JobStatus.FAILED)
    job.error_code, job.error_message = code, message
    job.error_advice, job.error_evidence = advice or None, evidence or None
    await session.flush()
    await note(session, job, "failed", f"The job has failed: {message}", level="error", details={"code": code})
    await tell(
        session, job, NotificationType.JOB_FAILED, "Training failed", f"{message} {advice}".strip(),
        once=f"failed:{_round(job)}",
    )  # fmt: skip
    await announce(session, job)


async def completed(session: AsyncSession, job: TrainingJob, artifact_id: UUID) -> None:
    """The adapter is stored as the model `artifact_id`."""
    job.artifact_id = artifact_id
    job.progress = 100  # type: ignore[assignment]  # numeric column: the driver takes an int
    _settle(job, JobStatus.COMPLETED)
    job.error_code = job.error_message = job.error_advice = job.error_evidence = None
    await session.flush()
    await note(session, job, "completed", "The adapter is stored.", details={"model_id": str(artifact_id)})
    await tell(session, job, NotificationType.JOB_COMPLETED, "Training complete", _proof(job), once="completed")
    await announce(session, job)


def _proof(job: TrainingJob) -> str:
    """What the message says of the result: numbers with their n, and no claim."""
    base, tuned = job.heldout_loss_base, job.heldout_loss_adapter
    if base is None or tuned is None:
        return f"the adapter is stored. Nothing was held out to measure it. It cost ${job.current_cost:.2f}."
    if (job.result or {}).get("method") == "dpo":
        won = (job.result or {}).get("heldout_reward_accuracy") or 0.0
        return (
            f"on {job.heldout_conversations} held-out pairs the chosen answer is ahead in {won:.0%}; their loss is "
            f"{base:.3f} without and {tuned:.3f} with the adapter. It cost ${job.current_cost:.2f}."
        )
    return (
        f"loss per trained token on {job.heldout_conversations} held-out conversations {base:.3f} without and "
        f"{tuned:.3f} with the adapter. It cost ${job.current_cost:.2f}."
    )


def _round(job: TrainingJob) -> str:
    """A job that is retried by hand may end again, and that is another event."""
    return f"{job.queued_at.timestamp():.3f}"
