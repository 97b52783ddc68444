"""All SQL of generation but the engine's. The workspace is the transaction's own."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Row, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.generation.tables import BatchItem, BatchJob, ItemStatus

_KNOWN = text("""
select distinct on (item.work_key) item.work_key, item.status, item.conversation_id, item.attempts, item.failure_class,
  item.failure_message
from batch_items item left join conversations conversation on conversation.id = item.conversation_id
where item.work_key = any(:keys)
  and (item.status = 'failed' or (item.status = 'written' and conversation.id is not null))
order by item.work_key, item.status desc, item.updated_at desc
""")
_ITEMS = text("""
insert into batch_items (id, workspace_id, batch_job_id, position, persona_key, arc_key, topic_key, template_key, tier,
  replicate, source, work_key, system_hash, prompt, max_tokens, turns_min, turns_max, bound, status, attempts, reused,
  failure_class, failure_message, conversation_id)
select id, :workspace, :batch, position, persona, arc, topic, template, tier, replicate, source::jsonb, work_key,
  system_hash, prompt, max_tokens, turns_min, turns_max, bound, status, attempts, status = 'written', failure_class,
  failure_message, conversation
from unnest(cast(:ids as uuid[]), cast(:positions as int[]), cast(:personas as text[]), cast(:arcs as text[]),
  cast(:topics as text[]), cast(:templates as text[]), cast(:tiers as text[]), cast(:replicates as int[]),
  cast(:sources as text[]), cast(:work_keys as text[]), cast(:system_hashes as text[]), cast(:prompts as text[]),
  cast(:max_tokens as int[]), cast(:turns_min as int[]), cast(:turns_max as int[]), cast(:bounds as numeric[]),
  cast(:statuses as text[]), cast(:attempts as int[]), cast(:failure_classes as text[]),
  cast(:failure_messages as text[]), cast(:conversations as uuid[]))
  as given (id, position, persona, arc, topic, template, tier, replicate, source, work_key, system_hash, prompt,
  max_tokens, turns_min, turns_max, bound, status, attempts, failure_class, failure_message, conversation)
""")
_COUNTS = text("""
select status, coalesce(failure_class, ''), count(*) from batch_items where batch_job_id = :batch group by 1, 2
""")
_MONEY = text("""
select coalesce(sum(request.cost) filter (where request.status = 'answered'), 0),
  coalesce(sum(request.bound) filter (where request.status in ('unknown', 'sent')), 0),
  count(*) filter (where request.status in ('unknown', 'sent')),
  count(*) filter (where request.status = 'answered' and request.cost is null)
from (select distinct work_key from batch_items where batch_job_id = :batch) work
join llm_requests request on request.work_key = work.work_key
""")


async def known_work(session: AsyncSession, keys: Sequence[str]) -> dict[str, Row[Any]]:
    """What is written or has failed already, in any batch of the workspace, by work key."""
    rows = await session.execute(_KNOWN, {"keys": list(keys)})
    return {row.work_key: row for row in rows}


async def find_batch(session: AsyncSession, plan_hash: str, via: str | None = None) -> BatchJob | None:
    """The newest batch of this plan, locked."""
    query = select(BatchJob).where(BatchJob.plan_hash == plan_hash)
    if via is not None:
        query = query.where(BatchJob.via == via)
    return (await session.execute(query.order_by(BatchJob.created_at.desc()).limit(1))).scalar_one_or_none()


async def batch_of_key(session: AsyncSession, idempotency_key: str) -> BatchJob | None:
    """The one that was made with this Idempotency-Key."""
    return await session.scalar(select(BatchJob).where(BatchJob.idempotency_key == idempotency_key))


async def add_items(session: AsyncSession, values: dict[str, Any]) -> None:
    await session.execute(_ITEMS, values)


async def counts(session: AsyncSession, batch_id: UUID) -> list[tuple[str, str, int]]:
    """(status, failure class or '', items)."""
    return [(row[0], row[1], row[2]) for row in await session.execute(_COUNTS, {"batch": batch_id})]


async def money(session: AsyncSession, batch_id: UUID) -> tuple[Decimal, Decimal, int, int]:
    """(USD settled, USD bound of what is unknown, requests of unknown end, answers without a price) of its work."""
    row = (await session.execute(_MONEY, {"batch": batch_id})).one()
    return Decimal(row[0]), Decimal(row[1]), int(row[2]), int(row[3])


async def count_unfinished(session: AsyncSession, batch_id: UUID) -> int:
    query = select(func.count()).where(
        BatchItem.batch_job_id == batch_id, BatchItem.status.in_((ItemStatus.PENDING, ItemStatus.PROCESSING))
    )
    return await session.scalar(query) or 0


async def requeue_failed(session: AsyncSession, batch_id: UUID, classes: Sequence[str] | None) -> int:
    """Failed items go back, with all their attempts before them. classes: which; None for all."""
    result = await session.execute(
        text(
            "update batch_items set status = 'pending', failure_class = null, failure_message = null, attempts = 0,"
            " retry_at = null, updated_at = now() where batch_job_id = :batch and status = 'failed'"
            " and (cast(:classes as text[]) is null or failure_class = any(cast(:classes as text[])))"
        ),
        {"batch": batch_id, "classes": list(classes) if classes is not None else None},
    )
    return result.rowcount  # type: ignore[attr-defined, no-any-return]


def as_json(value: Any) -> str:
    return orjson.dumps(value).decode()


_RUNNING = text("""
select exists (
  select 1 from batch_runs run
  join pg_locks held on held.locktype = 'advisory' and held.objsubid = 1 and held.granted
    and held.database = (select oid from pg_database where datname = current_database())
    and ((held.classid::bigint << 32) | held.objid::bigint) = run.lock_key
  where run.batch_job_id = :batch and run.ended_at is null)
""")
_USAGE = text("""
select persona_key, arc_key, topic_key, template_key, sum(written)::int, sum(accepted)::int, sum(failed)::int, max(last)
from (
  select persona_key, arc_key, topic_key, template_key, count(*) as written,
    count(*) filter (where status = 'approved') as accepted, 0 as failed, max(created_at) as last
  from conversations where pack_key = :pack group by 1, 2, 3, 4
  union all
  select item.persona_key, item.arc_key, item.topic_key, item.template_key, 0, 0, count(*), max(item.updated_at)
  from batch_items item join batch_jobs job on job.id = item.batch_job_id
  where job.pack_key = :pack and item.status = 'failed' group by 1, 2, 3, 4
) parts group by 1, 2, 3, 4
""")


async def is_running(session: AsyncSession, batch_id: UUID) -> bool:
    """Whether a process is at the batch: its run holds its lock."""
    return bool(await session.scalar(_RUNNING, {"batch": batch_id}))


async def usage(session: AsyncSession, pack_key: str) -> list[Row[Any]]:
    """(persona, arc, topic, template, written, accepted, failed, last) of a pack."""
    return list(await session.execute(_USAGE, {"pack": pack_key}))
