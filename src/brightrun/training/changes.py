"""Tell live pages, and the job's own log, of a change in its transaction."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.clock import utcnow
from brightrun.ids import uuid7
from brightrun.queue.events import publish
from brightrun.training.tables import EventSource, JobEvent, TrainingJob

_LONGEST_MESSAGE = 2000


def eta_seconds(job: TrainingJob) -> float | None:
    """Seconds to the estimated end, never below 0; None when it is not known or no longer counts."""
    if job.estimated_completion_at is None or job.status != "running":
        return None
    return max(0.0, round((job.estimated_completion_at - datetime.now(UTC)).total_seconds(), 1))


async def announce(session: AsyncSession, job: TrainingJob, kind: str = "job.updated") -> None:
    """To everyone who watches the list, and to those who watch this job.

    kinds: `job.created`, `job.updated` (status, stage, progress or numbers changed).
    """
    metrics = job.current_metrics or {}
    payload: dict[str, Any] = {
        "id": str(job.id),
        "name": job.name,
        "status": job.status,
        "stage": job.stage,
        "progress": float(job.progress),
        "step": job.current_step,
        "total_steps": job.total_steps,
        "eta_seconds": eta_seconds(job),
        "cost_usd": f"{job.current_cost:.6f}",
        "cancelling": job.cancel_requested_at is not None and job.completed_at is None,
        "metrics": metrics,
        "error_code": job.error_code,
        "model_id": str(job.artifact_id) if job.artifact_id else None,
    }
    await publish(session, "jobs", kind, payload)
    await publish(session, f"job:{job.id}", kind, payload)


async def note(
    session: AsyncSession,
    job: TrainingJob,
    event_type: str,
    message: str,
    *,
    level: str = "info",
    details: dict[str, Any] | None = None,
) -> None:
    """A line of our own in the job's log. The job's row is locked by the caller, so numbers do not collide."""
    last = await session.scalar(
        select(func.max(JobEvent.seq)).where(JobEvent.job_id == job.id, JobEvent.source == EventSource.SUPERVISOR)
    )
    await session.execute(
        insert(JobEvent).values(
            id=uuid7(),
            workspace_id=job.workspace_id,
            job_id=job.id,
            source=EventSource.SUPERVISOR,
            run=0,
            seq=(last or 0) + 1,
            attempt=job.attempt,
            type=event_type,
            level=level,
            message=message[:_LONGEST_MESSAGE],
            details=details or {},
            recorded_at=utcnow(),
        )
    )
