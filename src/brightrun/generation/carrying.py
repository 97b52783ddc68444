"""One way to carry a batch out, for the command line and for workers: the run, its costs, who is told."""

import asyncio
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.costs.model_calls import record_model_calls
from brightrun.generation import service
from brightrun.generation.engine.provider_run import ProviderRun
from brightrun.generation.engine.run import Progress, Run, RunEnd
from brightrun.generation.tables import BatchJob, StoppedReason
from brightrun.llm.calls import ChatClient, Via
from brightrun.llm.prices import catalogue
from brightrun.notifications.service import notify
from brightrun.notifications.tables import NotificationType, Priority
from brightrun.platform import Platform
from brightrun.queue.events import publish
from brightrun.scaffolding.pack import Pack

TOPIC = "batches"
_TELL_S, _CHARGE_S = 1.0, 5.0


async def carry_out(
    platform: Platform,
    batch: BatchJob,
    pack: Pack,
    client: ChatClient,
    *,
    stop: asyncio.Event,
    on_progress: Callable[[Progress], None] | None = None,
) -> RunEnd:
    """Run `batch` to its end, its cap, or until `stop` or somebody's pause. Its costs are recorded as they arise."""
    facts = service.facts_of(batch, pack, catalogue(), user_id=batch.created_by)
    kind = ProviderRun if facts.via is Via.BATCH else Run
    run = kind(platform.db.url, facts, client, stop=stop, on_progress=on_progress)
    teller = asyncio.create_task(_tell_and_charge(platform, batch, run), name="progress of a batch")
    try:
        end = await run.go()
    finally:
        teller.cancel()
        await asyncio.gather(teller, return_exceptions=True)
        async with platform.db.transaction(workspace_id=batch.workspace_id) as session:
            await record_model_calls(session)
    async with platform.db.transaction(workspace_id=batch.workspace_id) as session:
        await announce(session, batch.id)
        await _notify(session, batch.id, end)
    return end


async def _tell_and_charge(platform: Platform, batch: BatchJob, run: Run) -> None:
    told, charged = -1, time.monotonic()
    while True:
        await asyncio.sleep(_TELL_S)
        done = run.progress.written + run.progress.failed + run.progress.sent
        if done == told:
            continue
        told = done
        async with platform.db.transaction(workspace_id=batch.workspace_id) as session:
            if time.monotonic() - charged > _CHARGE_S:
                charged = time.monotonic()
                await record_model_calls(session)
            await announce(session, batch.id, eta_s=eta_s(run.progress, batch))


def eta_s(progress: Progress, batch: BatchJob) -> float | None:
    """Seconds left at the rate of this run; None while nothing is written."""
    if progress.first_sent is None or progress.written + progress.failed == 0:
        return None
    rate = (progress.written + progress.failed) / max(0.001, time.monotonic() - progress.first_sent)
    return max(0.0, (batch.total_items - progress.written - progress.failed) / rate)


async def announce(session: AsyncSession, batch_id: UUID, **more: Any) -> None:
    """Tell live pages of a batch that it has changed, with its counts."""
    batch = await session.get(BatchJob, batch_id, populate_existing=True)
    if batch is None:
        return
    summary = await service.summarise(session, batch)
    payload = {
        "id": str(batch_id),
        "status": batch.status,
        "planned": summary.planned,
        "written": summary.written,
        "failed": sum(summary.failed_by_class.values()),
        "pending": summary.pending,
        "cost_usd": None if summary.cost is None else f"{summary.cost:.6f}",
        **more,
    }
    for topic in (TOPIC, f"batch:{batch_id}"):
        await publish(session, topic, "batch.updated", payload)


async def _notify(session: AsyncSession, batch_id: UUID, end: RunEnd) -> None:
    if end.reason in {StoppedReason.PAUSED, StoppedReason.CANCELLED} or not end.progress.sent:
        return
    batch = await session.get(BatchJob, batch_id, populate_existing=True)
    if batch is None:
        return
    summary = await service.summarise(session, batch)
    failed = sum(summary.failed_by_class.values())
    titles = {
        StoppedReason.FINISHED: f"{summary.written:,} conversations are written",
        StoppedReason.CAP: "A batch has reached its cap",
        StoppedReason.ERROR: "A batch was stopped by an error",
    }
    cost = "of unknown cost" if summary.cost is None else f"for ${summary.cost:.2f}"
    more = f" {end.error.message}" if end.error is not None else ""
    await notify(
        session,
        type=NotificationType.SYSTEM,
        priority=Priority.MEDIUM if end.reason is StoppedReason.FINISHED else Priority.HIGH,
        title=titles[end.reason],
        message=f"{batch.name}: {summary.written:,} written {cost}, {failed:,} failed, {summary.pending:,} left.{more}",
        action_url=f"/batch-jobs/{batch_id}",
        metadata={"batch_id": str(batch_id)},
        dedupe_key=f"batch:{batch_id}:{end.reason.value}:{summary.written}:{failed}:{summary.pending}",
    )
