"""Record a charge once, and say what was spent."""

from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ScalarSelect, select
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.clock import utcnow
from brightrun.costs import breakdown, budgets, repository
from brightrun.costs.schemas import CostSummary, DayCost, ShareOut
from brightrun.costs.tables import CostRecord, CostType
from brightrun.errors import ConflictError, InvalidInputError
from brightrun.ids import uuid7
from brightrun.queue.events import publish

TOPIC = "costs"
_MICRO = Decimal("0.000001")
_LONGEST_RANGE_DAYS = 3 * 366
PERIOD_DAYS = {"week": 7, "month": 30, "year": 365}


def to_usd(amount: Decimal) -> Decimal:
    """Rounded half up to a millionth of a dollar, as the column keeps it."""
    if not isinstance(amount, Decimal):
        raise TypeError(f"money is a Decimal, never a {type(amount).__name__}")
    if not amount.is_finite() or amount < 0 or amount >= 1_000_000:
        raise ValueError(f"{amount} is no charge: 0 to 999999.999999 USD")
    return amount.quantize(_MICRO, rounding=ROUND_HALF_UP)


async def record(
    session: AsyncSession,
    *,
    cost_type: CostType,
    amount: Decimal,
    dedupe_key: str,
    job_id: UUID | None = None,
    details: dict[str, Any] | None = None,
) -> CostRecord:
    """Record a charge of the transaction's workspace; a second time with the same key gives the first record back.

    amount: USD. dedupe_key: names the charge, `job:<id>:compute`. details: how the amount came about (price, hours,
    units, and whether it is exact or estimated).

    Raises ConflictError when the key was used for another amount or type; LookupError without a workspace.
    """
    workspace_id = session.info.get("workspace_id")
    if workspace_id is None:
        raise LookupError("a charge belongs to a workspace; this transaction has none")
    amount, now = to_usd(amount), utcnow()
    added = await repository.add_once(
        session,
        {
            "id": uuid7(),
            "workspace_id": workspace_id,
            "job_id": job_id,
            "cost_type": cost_type.value,
            "amount": amount,
            "details": details or {},
            "billing_period": billing_period(now.date()),
            "recorded_at": now,
            "dedupe_key": dedupe_key,
        },
    )
    charge = await repository.by_key(session, dedupe_key)
    if added:
        await publish(
            session,
            TOPIC,
            "cost.recorded",
            {"job_id": str(job_id) if job_id else None, "cost_type": cost_type.value, "amount": str(amount)},
        )
        await budgets.warn_if_due(session)
    elif (charge.amount, charge.cost_type) != (amount, cost_type.value):
        raise ConflictError(
            f"the charge {dedupe_key!r} was recorded before as {charge.amount} USD of {charge.cost_type}, "
            f"it cannot be {amount} USD of {cost_type.value} too",
            code="charge_differs",
        )
    return charge


def billing_period(day: date) -> date:
    """The first day of its month."""
    return day.replace(day=1)


def month_so_far() -> ScalarSelect[Decimal]:
    """USD of the workspace since the first of the month, UTC; the sum of recorded charges."""
    return repository.total_of_period(billing_period(utcnow().date()))


async def spent_this_month(session: AsyncSession) -> Decimal:
    """What `month_so_far` is now."""
    return Decimal(await session.scalar(select(month_so_far())) or 0)


def chosen_days(period: str, start: date | None, end: date | None) -> tuple[date, date]:
    """First and last day, both included: of `period` back from today, or as given.

    Raises InvalidInputError when only one is given, in the wrong order, or more than three years apart.
    """
    if start is None and end is None:
        today = utcnow().date()
        return today - timedelta(days=PERIOD_DAYS[period] - 1), today
    problems: dict[str, list[str]] = {}
    if start is None:
        problems["start_date"] = ["give both start_date and end_date, or neither"]
    elif end is None:
        problems["end_date"] = ["give both start_date and end_date, or neither"]
    elif end < start:
        problems["end_date"] = ["is before start_date"]
    elif (end - start).days >= _LONGEST_RANGE_DAYS or end == date.max:
        problems["end_date"] = ["at most three years after start_date"]
    if problems or start is None or end is None:
        raise InvalidInputError("The dates do not make a period", code="validation_error", details=problems)
    return start, end


async def summarise(session: AsyncSession, first: date, last: date) -> CostSummary:
    """Sums over the days from `first` to `last`, both included; every day has an entry in the chart."""
    by_type = await repository.sums_by_type(session, first, last)
    by_day = await repository.sums_by_day(session, first, last)
    parts = await breakdown.break_down(session, first, last)
    days = [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
    return CostSummary(
        start_date=first,
        end_date=last,
        total_cost=sum(by_type.values(), Decimal(0)),
        cost_by_type={CostType(name): amount for name, amount in by_type.items()},
        spent_this_month=await spent_this_month(session),
        by_job=[ShareOut.model_validate(share) for share in parts.jobs],
        by_dataset=[ShareOut.model_validate(share) for share in parts.datasets],
        by_preset=[ShareOut.model_validate(share) for share in parts.presets],
        chart_data=[DayCost(date=day, amount=by_day.get(day, Decimal(0))) for day in days],
    )
