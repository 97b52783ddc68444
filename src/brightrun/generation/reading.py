"""Lists and details of batches, items, failures and conversations: the SQL that only reads."""

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.errors import NotFoundError
from brightrun.generation.tables import (
    BatchItem,
    BatchJob,
    BatchStatus,
    Conversation,
    ConversationStatus,
    ConversationTurn,
    FailedGeneration,
    GenerationLog,
    ItemStatus,
)
from brightrun.llm.calls import Outcome
from brightrun.llm.tables import LlmRequest
from brightrun.web.http import Page, pick_sort

_BATCH_SORTS: dict[str, Any] = {
    "created_at": BatchJob.created_at,
    "name": BatchJob.name,
    "status": BatchJob.status,
    "planned": BatchJob.total_items,
}
_CONVERSATION_SORTS: dict[str, Any] = {
    "created_at": Conversation.created_at,
    "title": Conversation.title,
    "turn_count": Conversation.turn_count,
    "total_tokens": Conversation.total_tokens,
    "cost_usd": Conversation.cost_usd,
}
_RATE = text("""
select count(*)::float8 / greatest(1, extract(epoch from max(updated_at) - min(updated_at)))
from batch_items where batch_job_id = :batch and status in ('written', 'failed') and not reused
  and updated_at > now() - interval '2 minutes'
""")


async def _page(
    session: AsyncSession, entity: Any, conditions: list[ColumnElement[bool]], order: list[Any], page: Page
) -> tuple[list[Any], int]:
    total = await session.scalar(select(func.count()).select_from(entity).where(*conditions))
    rows = await session.scalars(
        select(entity).where(*conditions).order_by(*order).offset(page.offset).limit(page.limit)
    )
    return list(rows), total or 0


async def batches(
    session: AsyncSession, page: Page, *, sort: str, status: list[BatchStatus] | None, search: str | None
) -> tuple[list[BatchJob], int]:
    conditions: list[ColumnElement[bool]] = []
    if status:
        conditions.append(BatchJob.status.in_(status))
    if search:
        conditions.append(BatchJob.name.icontains(search, autoescape=True))
    return await _page(session, BatchJob, conditions, [pick_sort(sort, _BATCH_SORTS), BatchJob.id.desc()], page)


async def rate(session: AsyncSession, batch_id: UUID) -> float | None:
    """Conversations a second in the last two minutes."""
    found = await session.scalar(_RATE, {"batch": batch_id})
    return float(found) if found else None


async def items(
    session: AsyncSession, batch_id: UUID, page: Page, *, status: ItemStatus | None, failure_class: Outcome | None
) -> tuple[list[BatchItem], int]:
    conditions = [BatchItem.batch_job_id == batch_id]
    if status is not None:
        conditions.append(BatchItem.status == status)
    if failure_class is not None:
        conditions.append(BatchItem.failure_class == failure_class)
    return await _page(session, BatchItem, conditions, [BatchItem.position], page)


async def log(
    session: AsyncSession, batch_id: UUID, page: Page, *, level: str | None, position: int | None, sort: str
) -> tuple[list[GenerationLog], int]:
    conditions = [GenerationLog.batch_job_id == batch_id]
    if level is not None:
        conditions.append(GenerationLog.level == level)
    if position is not None:
        conditions.append(GenerationLog.position == position)
    order = pick_sort(sort, {"created_at": GenerationLog.created_at})
    tie = GenerationLog.id.desc() if sort.startswith("-") else GenerationLog.id.asc()
    return await _page(session, GenerationLog, conditions, [order, tie], page)


async def failures(
    session: AsyncSession,
    page: Page,
    *,
    failure_class: list[Outcome] | None,
    batch_id: UUID | None,
    stop_reason: str | None,
    resolved: bool | None,
    search: str | None,
) -> tuple[list[Any], int]:
    conditions: list[ColumnElement[bool]] = []
    if failure_class:
        conditions.append(FailedGeneration.failure_class.in_(failure_class))
    if batch_id is not None:
        conditions.append(FailedGeneration.batch_job_id == batch_id)
    if stop_reason is not None:
        conditions.append(FailedGeneration.stop_reason == stop_reason)
    if resolved is not None:
        given = FailedGeneration.resolved_at.is_not(None) if resolved else FailedGeneration.resolved_at.is_(None)
        conditions.append(given)
    if search:
        conditions.append(
            or_(
                FailedGeneration.message.icontains(search, autoescape=True),
                FailedGeneration.reason.icontains(search, autoescape=True),
            )
        )
    total = await session.scalar(select(func.count()).select_from(FailedGeneration).where(*conditions))
    rows = await session.execute(
        select(FailedGeneration, BatchItem)
        .join(BatchItem, BatchItem.id == FailedGeneration.batch_item_id)
        .where(*conditions)
        .order_by(FailedGeneration.created_at.desc(), FailedGeneration.id.desc())
        .offset(page.offset)
        .limit(page.limit)
    )
    return list(rows), total or 0


async def failure(session: AsyncSession, failure_id: UUID) -> Any:
    """Raises NotFoundError."""
    row = (
        await session.execute(
            select(FailedGeneration, BatchItem, BatchJob, LlmRequest)
            .join(BatchItem, BatchItem.id == FailedGeneration.batch_item_id)
            .join(BatchJob, BatchJob.id == FailedGeneration.batch_job_id)
            .outerjoin(LlmRequest, LlmRequest.id == FailedGeneration.request_id)
            .where(FailedGeneration.id == failure_id)
        )
    ).one_or_none()
    if row is None:
        raise NotFoundError("There is no such failed generation")
    return row


async def conversations(
    session: AsyncSession,
    page: Page,
    *,
    sort: str,
    status: list[ConversationStatus] | None = None,
    batch_id: UUID | None = None,
    pack: str | None = None,
    persona: str | None = None,
    arc: str | None = None,
    topic: str | None = None,
    tier: str | None = None,
    search: str | None = None,
) -> tuple[list[Conversation], int]:
    conditions: list[ColumnElement[bool]] = []
    if status:
        conditions.append(Conversation.status.in_(status))
    if batch_id is not None:
        # Also what the batch took over: its items say which conversations are its own.
        own = select(BatchItem.conversation_id).where(
            BatchItem.batch_job_id == batch_id, BatchItem.conversation_id.is_not(None)
        )
        conditions.append(Conversation.id.in_(own))
    for column, value in (
        (Conversation.pack_key, pack),
        (Conversation.persona_key, persona),
        (Conversation.arc_key, arc),
        (Conversation.topic_key, topic),
        (Conversation.tier, tier),
    ):
        if value is not None:
            conditions.append(column == value)
    if search:
        conditions.append(Conversation.title.icontains(search, autoescape=True))
    order = [pick_sort(sort, _CONVERSATION_SORTS), Conversation.id.desc()]
    return await _page(session, Conversation, conditions, order, page)


async def conversation(session: AsyncSession, conversation_id: UUID) -> Conversation:
    """Raises NotFoundError."""
    found = await session.get(Conversation, conversation_id)
    if found is None:
        raise NotFoundError("There is no such conversation")
    return found


async def turns(session: AsyncSession, conversation_id: UUID) -> list[ConversationTurn]:
    rows = await session.scalars(
        select(ConversationTurn)
        .where(ConversationTurn.conversation_id == conversation_id)
        .order_by(ConversationTurn.turn_number)
    )
    return list(rows)


async def raw_answer(session: AsyncSession, request_id: UUID) -> str | None:
    """As it was received, from the ledger."""
    return await session.scalar(select(LlmRequest.raw).where(LlmRequest.id == request_id))
