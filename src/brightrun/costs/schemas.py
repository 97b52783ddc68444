"""What the costs API gives. Money is USD, as text with six decimals: a float would round it."""

import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints

from brightrun.costs.tables import CostType
from brightrun.web.text import STORABLE

Usd = Annotated[Decimal, PlainSerializer(lambda amount: f"{amount:.6f}", return_type=str)]


class CostOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    job_id: UUID | None
    cost_type: CostType
    amount: Usd
    details: dict[str, Any]
    billing_period: datetime.date
    recorded_at: datetime.datetime


class DayCost(BaseModel):
    date: datetime.date
    amount: Usd


class ShareOut(BaseModel):
    """key: a job's or dataset's id, or a preset; null for charges that belong to none."""

    model_config = ConfigDict(from_attributes=True)

    key: UUID | str | None
    name: str
    amount: Usd
    charges: int


class BudgetOut(BaseModel):
    """The budget of this calendar month, UTC. monthly_limit_usd: null for none.

    accrued_usd: of running attempts, not in the ledger yet. committed_usd: what jobs that have begun or wait may still
    cost, by upper estimates, accrued included. projected_usd: at the end of the month, at this month's daily mean.
    """

    monthly_limit_usd: Usd | None
    first_day: datetime.date
    last_day: datetime.date
    spent_usd: Usd
    accrued_usd: Usd
    committed_usd: Usd
    remaining_usd: Usd | None
    used_percent: float | None
    projected_usd: Usd
    warnings_percent: list[int]


class BudgetIn(BaseModel):
    """monthly_limit_usd: null for no limit. reason: kept in the audit log."""

    model_config = ConfigDict(extra="forbid")

    monthly_limit_usd: Annotated[Decimal, Field(gt=0, le=999_999, decimal_places=6)] | None
    reason: Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000), STORABLE] | None = None


class BudgetData(BaseModel):
    budget: BudgetOut


class CostSummary(BaseModel):
    """Recorded charges only. Every list of by_job, by_dataset and by_preset adds up to total_cost.
    start_date and end_date are both included, UTC; chart_data has every day between."""

    start_date: datetime.date
    end_date: datetime.date
    total_cost: Usd
    cost_by_type: dict[CostType, Usd]
    spent_this_month: Usd
    chart_data: list[DayCost]
    by_job: list[ShareOut]
    by_dataset: list[ShareOut]
    by_preset: list[ShareOut]


class CostsData(BaseModel):
    costs: CostSummary
