"""What was spent: over a period, by type, by day, by job, charge by charge, and as CSV."""

import csv
import io
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from brightrun.accounts.context import PageCtx, page_needs
from brightrun.accounts.roles import Permission
from brightrun.costs import budgets, repository, service
from brightrun.costs.breakdown import facts_of
from brightrun.costs.schemas import BudgetIn, CostSummary
from brightrun.costs.tables import CostRecord, CostType
from brightrun.errors import BrightRunError, InvalidInputError
from brightrun.web import forms, views
from brightrun.web.http import PageParams, pick_sort
from brightrun.web.text import plain_cell
from brightrun.web.toasts import Toast, toast_redirect

router = APIRouter(include_in_schema=False)

_READ = page_needs(Permission.COSTS_READ)

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
_MOST_ROWS = 10

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


def breakdown_tables(summary: CostSummary) -> list[dict[str, Any]]:
    """The three ways to look at one sum: the dearest few of each, and the rest as one row, so that they add up."""
    kinds = [("job", "Job", "/training/", summary.by_job), ("dataset", "Dataset", "/datasets/", summary.by_dataset),
             ("preset", "Preset", None, summary.by_preset)]  # fmt: skip
    tables = []
    for kind, title, path, shares in kinds:
        rest = shares[_MOST_ROWS:]
        rows = [
            {
                "name": share.name, "url": f"{path}{share.key}" if path and share.key else None,
                "charges": share.charges, "amount": share.amount,
            }
            for share in shares[:_MOST_ROWS]
        ]  # fmt: skip
        if rest:
            amount, charges = sum((share.amount for share in rest), Decimal(0)), sum(share.charges for share in rest)
            rows.append({"name": f"{len(rest)} more", "url": None, "charges": charges, "amount": amount})
        tables.append({"kind": kind, "title": title, "rows": rows})
    return tables


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
    facts = await facts_of(ctx.session, {record.job_id for record in records if record.job_id is not None})
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
        budget=await budgets.current(ctx.session),
        can_manage=Permission.WORKSPACE_MANAGE in ctx.principal.permissions,
        tables=breakdown_tables(summary),
        jobs=await repository.count_jobs(ctx.session, chosen.first, chosen.last),
        names={job_id: known.name for job_id, known in facts.items()},
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
    writer.writerow(["recorded_at_utc", "type", "amount_usd", "job_id", "job_name", "dataset_name", "preset"])
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
        facts = await facts_of(ctx.session, {record.job_id for record in records if record.job_id is not None})
        for record in records:
            known = facts.get(record.job_id) if record.job_id else None
            writer.writerow(
                [
                    record.recorded_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    record.cost_type,
                    f"{record.amount:.6f}",
                    record.job_id or "",
                    plain_cell(known.name) if known else "",
                    plain_cell(known.dataset_name) if known else "",
                    known.preset if known else "",
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


@router.post("/costs/budget", **page_needs(Permission.WORKSPACE_MANAGE))
async def set_budget(ctx: PageCtx) -> Response:
    """An empty limit is none."""
    values = forms.text_fields(await ctx.request.form(), ("monthly_limit_usd", "reason"))
    limit = values["monthly_limit_usd"].removeprefix("$").replace(",", "") or None
    try:
        body = forms.parse(BudgetIn, {"monthly_limit_usd": limit, "reason": values["reason"] or None})
        await budgets.set_limit(ctx.session, body.monthly_limit_usd, reason=body.reason)
    except BrightRunError as error:
        text = " ".join(text for texts in forms.problems(error).values() for text in texts)
        toast = Toast(title="The budget was not changed", description=text, category="error")
    else:
        words = "no limit" if body.monthly_limit_usd is None else f"${body.monthly_limit_usd:,.2f} a month"
        toast = Toast(title="The budget is changed", description=f"Now {words}.")
    return toast_redirect(ctx.request, "/costs", toast)
