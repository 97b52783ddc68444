"""Pause, resume, cancel, retry: asked of a batch, carried out by whoever is at it."""

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.audit.service import record as audit
from brightrun.errors import ConflictError, NotFoundError
from brightrun.generation import repository, service, spending
from brightrun.generation.carrying import announce
from brightrun.generation.tables import RUNNABLE, BatchItem, BatchJob, BatchStatus, FailedGeneration, StoppedReason
from brightrun.ids import uuid7
from brightrun.llm.calls import Outcome
from brightrun.queue import enqueue

PRIORITIES = {"low": -10, "normal": 0, "high": 10}


async def get(session: AsyncSession, batch_id: UUID, *, lock: bool = False) -> BatchJob:
    """Raises NotFoundError."""
    query = select(BatchJob).where(BatchJob.id == batch_id)
    if lock:
        query = query.with_for_update()
    batch = (await session.execute(query.execution_options(populate_existing=True))).scalar_one_or_none()
    if batch is None:
        raise NotFoundError("There is no such batch")
    return batch


async def start(session: AsyncSession, batch: BatchJob) -> None:
    """Have a worker carry the batch out."""
    await enqueue(
        session,
        "generation.run",
        lock=f"batch:{batch.id}",
        queueing_lock=f"batch:{batch.id}",
        priority=PRIORITIES[batch.priority],
        workspace_id=batch.workspace_id,
        batch_id=batch.id,
    )


async def pause(session: AsyncSession, batch_id: UUID) -> BatchJob:
    """What is on its way comes in; nothing more leaves. Raises ConflictError for a batch that does not run."""
    batch = await get(session, batch_id, lock=True)
    if batch.status not in RUNNABLE:
        raise ConflictError(
            f"The batch is {batch.status}: only one that waits or runs can be paused", code="not_running"
        )
    return await _stop(session, batch, "pause", BatchStatus.PAUSED, StoppedReason.PAUSED)


async def cancel(session: AsyncSession, batch_id: UUID) -> BatchJob:
    """As `pause`, for good; `resume` still takes it up again. Raises ConflictError for one that has ended."""
    batch = await get(session, batch_id, lock=True)
    if batch.status in {BatchStatus.COMPLETED, BatchStatus.CANCELLED}:
        raise ConflictError(f"The batch is {batch.status} already", code="batch_ended")
    return await _stop(session, batch, "cancel", BatchStatus.CANCELLED, StoppedReason.CANCELLED)


async def _stop(
    session: AsyncSession, batch: BatchJob, wish: str, status: BatchStatus, reason: StoppedReason
) -> BatchJob:
    if await repository.is_running(session, batch.id):
        batch.stop_requested = wish
    else:
        batch.status, batch.stopped_reason, batch.stop_requested = status, reason, None
    await session.flush()
    words = {"pause": "Somebody asked to pause.", "cancel": "Somebody asked to cancel."}
    await log(session, batch, wish, words[wish])
    await audit(session, f"batch.{wish}", "batch", batch.id, {"name": batch.name})
    await announce(session, batch.id)
    return batch


async def resume(
    session: AsyncSession, batch_id: UUID, *, max_cost: Decimal | None = None, concurrency: int | None = None
) -> BatchJob:
    """Go on: what is left is sent. max_cost: a new cap. Raises ConflictError when nothing is left, or it runs."""
    batch = await get(session, batch_id, lock=True)
    if await repository.is_running(session, batch.id) and batch.stop_requested is None:
        raise ConflictError("The batch runs already", code="batch_runs")
    if not await repository.count_unfinished(session, batch.id):
        raise ConflictError(
            "Nothing is left to send: every item is written or has failed. Retry the failed ones instead",
            code="nothing_left",
        )
    if max_cost is not None:
        service.check_priced(batch)
        batch.max_cost = max_cost
    if concurrency is not None:
        batch.concurrency = concurrency
    batch.status, batch.stopped_reason, batch.stop_requested = BatchStatus.QUEUED, None, None
    batch.error_code = batch.error_message = None
    batch.completed_at = None
    if batch.origin == "cli":
        batch.origin = "api"  # From here on workers look after it.
    await session.flush()
    await spending.check(session, batch)
    await start(session, batch)
    await log(session, batch, "resume", "Somebody asked to go on.")
    await audit(session, "batch.resume", "batch", batch.id, {"name": batch.name})
    await announce(session, batch.id)
    return batch


async def retry(session: AsyncSession, batch_id: UUID, classes: Sequence[Outcome] | None) -> tuple[BatchJob, int]:
    """Send failed items again, of some classes or all; how many. Raises ConflictError when there are none."""
    batch = await get(session, batch_id, lock=True)
    named = None if classes is None else [one.value for one in classes]
    count = await repository.requeue_failed(session, batch.id, named)
    if not count:
        raise ConflictError("No item of these classes has failed", code="nothing_failed")
    await log(
        session, batch, "retry", f"{count:,} failed items go back: {', '.join(named) if named else 'all classes'}."
    )
    if not await repository.is_running(session, batch.id):
        await resume(session, batch_id)
    return await get(session, batch_id), count


async def retry_one(session: AsyncSession, failure_id: UUID) -> BatchJob:
    """Send the item of one failed generation again. Raises ConflictError when it has not failed for good."""
    failure = await session.get(FailedGeneration, failure_id)
    if failure is None:
        raise NotFoundError("There is no such failed generation")
    item = await session.get(BatchItem, failure.batch_item_id, with_for_update=True, populate_existing=True)
    if item is None or item.status != "failed":
        raise ConflictError("This conversation was written after all, or is being sent", code="not_failed")
    item.status, item.failure_class, item.failure_message = "pending", None, None
    item.attempts, item.retry_at = 0, None
    await session.flush()
    batch = await get(session, failure.batch_job_id)
    await log(session, batch, "retry", "Sent again by hand.", position=item.position)
    if not await repository.is_running(session, batch.id):
        await resume(session, batch.id)
    return batch


async def log(session: AsyncSession, batch: BatchJob, event: str, message: str, position: int | None = None) -> None:
    await session.execute(
        text(
            "insert into generation_logs (id, workspace_id, batch_job_id, position, event, level, message)"
            " values (:id, :workspace, :batch, :position, :event, 'info', :message)"
        ),
        {
            "id": uuid7(),
            "workspace": batch.workspace_id,
            "batch": batch.id,
            "position": position,
            "event": event,
            "message": message,
        },
    )
