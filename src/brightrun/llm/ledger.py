"""The ledger: every request is written down before it is sent and settled from what came back. All its SQL.

A batch writes its rows in groups of its own, beside its items (`generation/engine`); this is for single requests, for
sums, and for the cost records. Sums are exact; what is unknown is told beside them, never added in silence.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, case, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.clock import utcnow
from brightrun.ids import uuid7
from brightrun.llm.calls import Answer, CallError, Provider, Request, Via, request_hash
from brightrun.llm.tables import LlmRequest, RequestStatus

_MICRO = Decimal("0.000001")


def work_key(request: Request, provider: Provider, replicate: int = 0) -> str:
    """The ledger's name for what is asked; the same text asked on purpose again has another replicate."""
    return f"{request_hash(request, provider)}:{replicate}"


async def answered(session: AsyncSession, key: str) -> LlmRequest | None:
    """The last answer to this very work, of the transaction's workspace; None: it must be bought."""
    rows = await session.scalars(
        select(LlmRequest)
        .where(LlmRequest.work_key == key, LlmRequest.status == RequestStatus.ANSWERED)
        .order_by(LlmRequest.created_at.desc(), LlmRequest.id.desc())
        .limit(1)
    )
    return rows.first()


async def intend(
    session: AsyncSession,
    *,
    key: str,
    provider: Provider,
    model: str,
    via: Via,
    bound: Decimal | None,
    item_id: UUID | None = None,
    batch_id: UUID | None = None,
) -> UUID:
    """Write a request down. Commit before it leaves."""
    row = LlmRequest(
        id=uuid7(),
        workspace_id=session.info["workspace_id"],
        work_key=key,
        provider=provider.value,
        model=model,
        via=via.value,
        status=RequestStatus.SENT.value,
        bound=None if bound is None else bound.quantize(_MICRO, ROUND_CEILING),
        item_id=item_id,
        batch_id=batch_id,
    )
    session.add(row)
    await session.flush()
    return row.id


async def settle(session: AsyncSession, request_id: UUID, came: Answer | CallError, cost: Decimal | None) -> None:
    """An answer, or the error that came instead: `unknown` when it may be charged all the same. An answer that turns
    up after its request was given up for unknown still counts."""
    values: dict[str, Any] = {"settled_at": utcnow()}
    if isinstance(came, Answer):
        usage = came.usage
        values |= {
            "status": RequestStatus.ANSWERED.value,
            "cost": cost,
            "raw": came.raw.replace("\x00", "\ufffd"),
            "stop_reason": came.stop_said,
            "input_tokens": usage.prompt_tokens,
            "output_tokens": usage.output_tokens,
            "cache_read_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
            "duration_ms": round(came.duration_s * 1000),
        }
    else:
        unknown = came.charged == "unknown"
        values |= {
            "status": (RequestStatus.UNKNOWN if unknown else RequestStatus.FAILED).value,
            "cost": None if unknown else Decimal(0),
            "raw": came.raw.replace("\x00", "\ufffd") if came.raw else None,
            "error": came.message,
        }
    open_ones = (RequestStatus.SENT.value, RequestStatus.UNKNOWN.value)
    await session.execute(
        update(LlmRequest).where(LlmRequest.id == request_id, LlmRequest.status.in_(open_ones)).values(values)
    )


async def adopt(session: AsyncSession, before: datetime) -> int:
    """Single requests of the workspace, written before `before` and never settled, become `unknown`: whoever sent them
    is gone (an answer takes minutes at most). Requests of batches are their engine's own business."""
    result = await session.execute(
        update(LlmRequest)
        .where(
            LlmRequest.status == RequestStatus.SENT.value,
            LlmRequest.batch_id.is_(None),
            LlmRequest.created_at < before,
        )
        .values(status=RequestStatus.UNKNOWN.value, settled_at=utcnow(), error="whoever sent it is gone")
    )
    return int(getattr(result, "rowcount", 0))


@dataclass(frozen=True, slots=True)
class Spent:
    """cost: USD, exact, of what was answered at a known price. unknown_max: USD that requests without a known end may
    cost at most; in_flight_max: the same of those on their way. unpriced: answers whose price is not known."""

    answered: int
    cost: Decimal
    unknown: int
    unknown_max: Decimal
    in_flight: int
    in_flight_max: Decimal
    failed: int
    unpriced: int

    @property
    def upper(self) -> Decimal:
        """USD that this can have cost at most, priced work only."""
        return self.cost + self.unknown_max + self.in_flight_max


async def spent(
    session: AsyncSession, *, batch_id: UUID | None = None, since: datetime | None = None, until: datetime | None = None
) -> Spent:
    """Of the transaction's workspace: one batch's, or all of a period (by when the request was written)."""
    conditions: list[ColumnElement[bool]] = []
    if batch_id is not None:
        conditions.append(LlmRequest.batch_id == batch_id)
    if since is not None:
        conditions.append(LlmRequest.created_at >= since)
    if until is not None:
        conditions.append(LlmRequest.created_at < until)

    def count(status: RequestStatus) -> ColumnElement[Any]:
        return func.count(case((LlmRequest.status == status.value, 1)))

    def total(column: Any, status: RequestStatus) -> ColumnElement[Any]:
        return func.coalesce(func.sum(case((LlmRequest.status == status.value, column))), 0)

    row = (
        await session.execute(
            select(
                count(RequestStatus.ANSWERED),
                total(LlmRequest.cost, RequestStatus.ANSWERED),
                count(RequestStatus.UNKNOWN),
                total(LlmRequest.bound, RequestStatus.UNKNOWN),
                count(RequestStatus.SENT),
                total(LlmRequest.bound, RequestStatus.SENT),
                count(RequestStatus.FAILED),
                func.count(case(((LlmRequest.status == RequestStatus.ANSWERED.value) & LlmRequest.cost.is_(None), 1))),
            ).where(*conditions)
        )
    ).one()
    return Spent(*row)


async def has_room(session: AsyncSession, cap: Decimal, bound: Decimal | None, *, batch_id: UUID) -> bool:
    """Whether one more request fits under `cap`, with all that is on its way or unknown at its upper bound. Two who ask
    at once are let in one after the other: the lock is the transaction's, so write the intent in the same one.

    A request whose price is unknown fits under no cap.
    """
    await session.execute(text("select pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"cap {batch_id}"})
    if bound is None:
        return False
    return (await spent(session, batch_id=batch_id)).upper + bound.quantize(_MICRO, ROUND_CEILING) <= cap


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """What one batch (None: single requests) spent on one model since the last time, USD, exact."""

    batch_id: UUID | None
    provider: str
    model: str
    via: str
    cost: Decimal
    requests: int
    first: UUID
    last: UUID


async def take_unrecorded(session: AsyncSession) -> list[Unrecorded]:
    """Settled costs of the workspace that no cost record has yet; they count as recorded with this transaction, so
    record them in it."""
    rows = await session.execute(
        text(
            "with taken as (update llm_requests set recorded = true where id in ("
            " select id from llm_requests where workspace_id = :workspace and not recorded and cost > 0"
            " for update skip locked)"
            " returning id, batch_id, provider, model, via, cost)"
            " select batch_id, provider, model, via, sum(cost), count(*), min(id::text)::uuid, max(id::text)::uuid"
            " from taken group by batch_id, provider, model, via order by batch_id, model, via"
        ),
        {"workspace": session.info["workspace_id"]},
    )
    return [Unrecorded(*row) for row in rows]


async def workspaces_with_unrecorded(session: AsyncSession) -> list[UUID]:
    return list((await session.execute(text("select * from lookup_unrecorded_requests()"))).scalars())
