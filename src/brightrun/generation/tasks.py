"""Batches in a worker: carried out, taken up again after a worker died, and counted for the scaffolding's coverage."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.errors import ConflictError
from brightrun.generation import actions, repository
from brightrun.generation.carrying import announce, carry_out
from brightrun.generation.clients import client_for
from brightrun.generation.tables import RUNNABLE, BatchJob
from brightrun.llm import terms
from brightrun.llm.calls import Provider, ProviderUnusable
from brightrun.logs import get_logger
from brightrun.platform import Platform
from brightrun.queue import RunAgainError, TaskFailure, schedule, stopping, task
from brightrun.scaffolding import usage
from brightrun.scaffolding.service import load_pack

log = get_logger(__name__)

QUEUE = "generation"
_ATTEMPTS = 1000
"""A worker that dies, however often, must not end a batch: its answers are safe and nothing is bought twice."""


async def _give_up(platform: Platform, failure: TaskFailure, *, workspace_id: str, batch_id: str) -> None:
    async with platform.db.transaction(workspace_id=UUID(workspace_id)) as session:
        await session.execute(
            text(
                "update batch_jobs set status = 'failed', stopped_reason = 'error', error_code = :code,"
                " error_message = :message, updated_at = now() where id = :id and status in ('queued', 'processing')"
            ),
            {"id": batch_id, "code": failure.code, "message": failure.message},
        )
        await announce(session, UUID(batch_id))


@task("generation.run", queue=QUEUE, attempts=_ATTEMPTS, on_failure=_give_up)
async def run_batch(platform: Platform, *, workspace_id: str, batch_id: str) -> None:
    """Carry a batch out. A worker that stops lets answers come in, and the next one goes on."""
    async with platform.db.transaction(workspace_id=UUID(workspace_id)) as session:
        batch = await session.get(BatchJob, UUID(batch_id))
        if batch is None or batch.status not in RUNNABLE:
            return
        pack = await load_pack(session, batch.workspace_id, batch.pack_key)
    try:
        async with platform.db.transaction(workspace_id=batch.workspace_id) as session:
            provider = Provider(batch.provider)
            await terms.require(session, provider)
            client = await client_for(session, platform, provider, concurrency=batch.concurrency)
    except (ProviderUnusable, ConflictError) as error:  # Nothing for the log of faults: the batch says what to do.
        failure = TaskFailure(error.code, error.message, 1)
        await _give_up(platform, failure, workspace_id=workspace_id, batch_id=batch_id)
        return
    stop = stopping()
    try:
        await carry_out(platform, batch, pack, client, stop=stop)
    finally:
        await client.aclose()
    if stop.is_set():
        async with platform.db.transaction(workspace_id=batch.workspace_id) as session:
            await session.execute(
                text(
                    "update batch_jobs set status = 'queued', stopped_reason = null where id = :id"
                    " and status = 'paused' and stopped_reason = 'paused' and stop_requested is null"
                ),
                {"id": batch.id},
            )
        raise RunAgainError("the worker stops; the batch goes on with the next one")


@schedule("* * * * *", name="generation.sweep")
async def sweep(platform: Platform) -> None:
    """Batches that should run and that nobody is at: their worker was lost with its queue job."""
    async with platform.db.transaction() as session:
        idle = list(await session.execute(text("select workspace, batch from lookup_idle_batches()")))
    for workspace_id, batch_id in idle:
        async with platform.db.transaction(workspace_id=workspace_id) as session:
            batch = await session.get(BatchJob, batch_id)
            if batch is not None and batch.status in RUNNABLE and not await repository.is_running(session, batch_id):
                log.warning("nobody was at a batch; it goes on", batch=str(batch_id))
                await actions.start(session, batch)


async def _usage(session: AsyncSession, pack_key: str) -> list[usage.Use]:
    return [usage.Use(*tuple(row)) for row in await repository.usage(session, pack_key)]


usage.usage_sources.append(_usage)
