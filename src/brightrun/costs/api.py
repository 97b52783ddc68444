"""JSON routes: what a workspace has spent."""

from datetime import date
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query

from brightrun.accounts.context import Ctx, needs
from brightrun.accounts.roles import Permission
from brightrun.costs import budgets, repository, service
from brightrun.costs.budgets import WARNINGS, Budget
from brightrun.costs.schemas import BudgetData, BudgetIn, BudgetOut, CostOut, CostsData
from brightrun.costs.tables import CostRecord, CostType
from brightrun.web.http import Items, PageParams, Success, many, one, pick_sort

router = APIRouter(prefix="/api/costs", tags=["costs"])
budget_router = APIRouter(prefix="/api/budget", tags=["costs"])

Period = Annotated[
    Literal["week", "month", "year"], Query(description="The last 7, 30 or 365 days, when no dates are given")
]
Start = Annotated[date | None, Query(alias="start_date", description="First day, UTC; needs end_date")]
End = Annotated[date | None, Query(alias="end_date", description="Last day, UTC, included; needs start_date")]

_SORTS = {"recorded_at": CostRecord.recorded_at, "amount": CostRecord.amount, "cost_type": CostRecord.cost_type}


@router.get("", **needs(Permission.COSTS_READ))
async def get_costs(ctx: Ctx, period: Period = "month", start: Start = None, end: End = None) -> Success[CostsData]:
    """Sums of recorded charges over a period: in all, by type, by day."""
    first, last = service.chosen_days(period, start, end)
    return one(CostsData(costs=await service.summarise(ctx.session, first, last)))


@budget_router.get("", **needs(Permission.COSTS_READ))
async def get_budget(ctx: Ctx) -> Success[BudgetData]:
    """What may be spent this month, what is, and what is on its way."""
    return one(BudgetData(budget=budget_view(await budgets.current(ctx.session))))


@budget_router.put("", **needs(Permission.WORKSPACE_MANAGE))
async def set_budget(ctx: Ctx, body: BudgetIn) -> Success[BudgetData]:
    """Change the monthly limit, for owners and admins; noted in the audit log."""
    budget = await budgets.set_limit(ctx.session, body.monthly_limit_usd, reason=body.reason)
    return one(BudgetData(budget=budget_view(budget)))


def budget_view(budget: Budget) -> BudgetOut:
    percent = budget.percent
    return BudgetOut(
        monthly_limit_usd=budget.limit,
        first_day=budget.first,
        last_day=budget.last,
        spent_usd=budget.spent,
        accrued_usd=budget.accrued,
        committed_usd=budget.upper,
        remaining_usd=budget.remaining,
        used_percent=None if percent is None else round(percent, 2),
        projected_usd=budget.projection,
        warnings_percent=[threshold for threshold in WARNINGS if percent is not None and percent >= threshold],
    )


@router.get("/records", **needs(Permission.COSTS_READ))
async def list_cost_records(
    ctx: Ctx,
    page: PageParams,
    period: Period = "month",
    start: Start = None,
    end: End = None,
    cost_type: CostType | None = None,
    job_id: UUID | None = None,
    sort: Annotated[str, Query(description="recorded_at, amount or cost_type; with - for descending")] = "-recorded_at",
) -> Success[Items[CostOut]]:
    """The charges themselves."""
    first, last = service.chosen_days(period, start, end)
    records, total = await repository.list_between(
        ctx.session,
        first,
        last,
        cost_type=cost_type.value if cost_type else None,
        job_id=job_id,
        order=pick_sort(sort, _SORTS),
        offset=page.offset,
        limit=page.limit,
    )
    return many([CostOut.model_validate(record) for record in records], total, page)
