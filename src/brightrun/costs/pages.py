"""What was spent: over a period, by type, by day, by job, charge by charge, and as CSV."""

import csv
import io
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts.context import PageCtx, page_needs
from brightrun.accounts.roles import Permission
from brightrun.costs import repository, service
from brightrun.costs.tables import CostRecord, CostType
from brightrun.errors import InvalidInputError
from brightrun.web import forms, views
from brightrun.web.http import PageParams, pick_sort
from brightrun.web.text import plain_cell

router = APIRouter(include_in_schema=False)

_READ = page_needs(Permission.COSTS_READ)
JobNames = Callable[[AsyncSession, set[UUID]], Awaitable[dict[UUID, str]]]
job_names: list[JobNames] = []
"""Ask for the names of jobs; the training room, one floor up, adds its own when it is imported."""

TYPE_WORDS = {
    CostType.COMPUTE: "Training compute",
    CostType.STORAGE: "Storage",
    CostType.DATA_TRANSFER: "Data transfer",
    CostType.API_CALLS: "API calls",
}
PERIODS = {"week": "Last 7 days", "month": "Last 30 days", "year": "Last 365 days"}
_SORTS = {"recorded_at": CostRecord.recorded_at, "amount": CostRecord.amount, "cost_type": CostRecord.cost_type}
_CSV_BATCH = 1000
_MOST_BARS = 62

Text = Annotated[str, Query(max_length=40)]


@dataclass(frozen=True)
class Bar:
    """Spend of a stretch of days. share: of the highest bar, 0…1."""

    first: date
    last: date
    amount: Decimal
    share: float


@dataclass(frozen=True)
class Chosen:
    """What the address asks for. errors: field → messages, when its dates do not make a period."""

    period: str
    start: str
    end: str
    first: date
    last: date
    cost_type: CostType | None
    errors: dict[str, list[str]]


def _chosen(period: str, start_date: str, end_date: str, cost_type: str) -> Chosen:
    """What cannot be read in an address is said on the page, and the last 30 days are shown."""
    errors: dict[str, list[str]] = {}
    known = period if period in PERIODS else "month"
    kind = CostType(cost_type) if cost_type in set(CostType) else None
    first, last = service.chosen_days(known, None, None)
    try:
        dates = [date.fromisoformat(text) if text else None for text in (start_date, end_date)]
        first, last = service.chosen_days(known, *dates)
    except InvalidInputError as error:
        errors = forms.problems(error)
    except ValueError:
        errors = {"start_date": ["Dates are written like 2026-01-31"]}
    return Chosen(known, start_date, end_date, first, last, kind, errors)


def bars(days: list[Any], most: int = _MOST_BARS) -> list[Bar]:
    """Days in order as at most `most` bars of equally many days (the last may have fewer)."""
    width = -(-len(days) // most) if days else 1
    groups = [days[start : start + width] for start in range(0, len(days), width)]
    sums = [sum((day.amount for day in group), Decimal(0)) for group in groups]
    highest = max(sums, default=Decimal(0))
    return [
        Bar(group[0].date, group[-1].date, amount, float(amount / highest) if highest else 0.0)
        for group, amount in zip(groups, sums, strict=True)
    ]


async def names_of(session: AsyncSession, ids: set[UUID]) -> dict[UUID, str]:
    """Names of the jobs that somebody knows."""
    names: dict[UUID, str] = {}
    if ids:
        for ask in job_names:
            names |= await ask(session, ids)
    return names


@router.get("/costs", **_READ)
async def costs_page(
    ctx: PageCtx,
    page: PageParams,
    period: Text = "month",
    start_date: Text = "",
    end_date: Text = "",
    cost_type: Text = "",
    sort: Text = "-recorded_at",
) -> Response:
    chosen = _chosen(period, start_date, end_date, cost_type)
    summary = await service.summarise(ctx.session, chosen.first, chosen.last)
    records, total = await repository.list_between(
        ctx.session,
        chosen.first,
        chosen.last,
        cost_type=chosen.cost_type.value if chosen.cost_type else None,
        job_id=None,
        order=pick_sort(sort, _SORTS),
        offset=page.offset,
        limit=page.limit,
    )
    by_job = await repository.sums_by_job(ctx.session, chosen.first, chosen.last, limit=10)
    ids = {job_id for job_id, _amount, _count in by_job} | {record.job_id for record in records}
    return views.render(
        ctx.request,
        "costs/costs.html",
        block="live" if views.is_fragment_request(ctx.request) else None,
        status=400 if chosen.errors else 200,
        chosen=chosen,
        errors=chosen.errors,
        periods=PERIODS,
        type_words=TYPE_WORDS,
        summary=summary,
        bars=bars(summary.chart_data),
        records=records,
        total=total,
        page_number=page,
        sort=sort,
        by_job=by_job,
        jobs=await repository.count_jobs(ctx.session, chosen.first, chosen.last),
        names=await names_of(ctx.session, {job_id for job_id in ids if job_id is not None}),
    )


@router.get("/costs/export.csv", **_READ)
async def export_costs(
    ctx: PageCtx, period: Text = "month", start_date: Text = "", end_date: Text = "", cost_type: Text = ""
) -> Response:
    """Every charge of the period, newest first, amounts with all six decimals."""
    chosen = _chosen(period, start_date, end_date, cost_type)
    if chosen.errors:
        raise InvalidInputError("The dates do not make a period", code="validation_error", details=chosen.errors)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["recorded_at_utc", "type", "amount_usd", "job_id", "job_name"])
    offset = 0
    while True:
        records, total = await repository.list_between(
            ctx.session,
            chosen.first,
            chosen.last,
            cost_type=chosen.cost_type.value if chosen.cost_type else None,
            job_id=None,
            order=CostRecord.recorded_at.desc(),
            offset=offset,
            limit=_CSV_BATCH,
        )
        names = await names_of(ctx.session, {record.job_id for record in records if record.job_id is not None})
        for record in records:
            name = names.get(record.job_id, "") if record.job_id else ""
            writer.writerow(
                [
                    record.recorded_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    record.cost_type,
                    f"{record.amount:.6f}",
                    record.job_id or "",
                    plain_cell(name),
                ]
            )
        offset += len(records)
        if not records or offset >= total:
            break
    name = f"brightrun-costs-{chosen.first}-to-{chosen.last}.csv"
    return Response(
        text.getvalue(),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
