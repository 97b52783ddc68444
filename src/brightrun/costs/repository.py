"""All SQL of costs. The workspace is the transaction's own; days are UTC."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Date, ScalarSelect, cast, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.costs.tables import CostRecord


async def add_once(session: AsyncSession, values: dict[str, Any]) -> bool:
    """Insert unless its dedupe key is known; False when it was."""
    row = await session.execute(
        insert(CostRecord)
        .values(values)
        .on_conflict_do_nothing(index_elements=["workspace_id", "dedupe_key"])
        .returning(CostRecord.id)
    )
    return row.first() is not None


async def by_key(session: AsyncSession, dedupe_key: str) -> CostRecord:
    return (await session.execute(select(CostRecord).where(CostRecord.dedupe_key == dedupe_key))).scalar_one()


def _between(first: date, last: date) -> list[ColumnElement[bool]]:
    """Recorded from the start of `first` to the end of `last`."""
    return [
        CostRecord.recorded_at >= datetime.combine(first, time.min, UTC),
        CostRecord.recorded_at < datetime.combine(last + timedelta(days=1), time.min, UTC),
    ]


def total_of_period(billing_period: date) -> ScalarSelect[Decimal]:
    total = func.coalesce(func.sum(CostRecord.amount), 0)
    return select(total).where(CostRecord.billing_period == billing_period).scalar_subquery()


async def sums_by_type(session: AsyncSession, first: date, last: date) -> dict[str, Decimal]:
    rows = await session.execute(
        select(CostRecord.cost_type, func.sum(CostRecord.amount))
        .where(*_between(first, last))
        .group_by(CostRecord.cost_type)
        .order_by(CostRecord.cost_type)
    )
    return {row[0]: row[1] for row in rows}


async def sums_by_day(session: AsyncSession, first: date, last: date) -> dict[date, Decimal]:
    """Only days with a charge."""
    day = cast(func.timezone("UTC", CostRecord.recorded_at), Date)
    rows = await session.execute(
        select(day, func.sum(CostRecord.amount)).where(*_between(first, last)).group_by(text("1"))
    )
    return {row[0]: row[1] for row in rows}


async def sums_by_job(session: AsyncSession, first: date, last: date) -> list[tuple[UUID | None, Decimal, int]]:
    """(job, sum, charges) of every job with a charge, the dearest first; None is what belongs to no job."""
    amount = func.sum(CostRecord.amount)
    rows = await session.execute(
        select(CostRecord.job_id, amount, func.count())
        .where(*_between(first, last))
        .group_by(CostRecord.job_id)
        .order_by(amount.desc(), CostRecord.job_id)
    )
    return [(row[0], row[1], row[2]) for row in rows]


async def count_jobs(session: AsyncSession, first: date, last: date) -> int:
    """Jobs with a charge."""
    jobs = await session.scalar(select(func.count(CostRecord.job_id.distinct())).where(*_between(first, last)))
    return jobs or 0


async def list_between(
    session: AsyncSession,
    first: date,
    last: date,
    *,
    cost_type: str | None,
    job_id: UUID | None,
    order: Any,
    offset: int,
    limit: int,
) -> tuple[list[CostRecord], int]:
    """(records, total)."""
    conditions = _between(first, last)
    if cost_type is not None:
        conditions.append(CostRecord.cost_type == cost_type)
    if job_id is not None:
        conditions.append(CostRecord.job_id == job_id)
    total = await session.scalar(select(func.count()).select_from(CostRecord).where(*conditions))
    rows = await session.scalars(
        select(CostRecord).where(*conditions).order_by(order, CostRecord.id.desc()).offset(offset).limit(limit)
    )
    return list(rows), total or 0
