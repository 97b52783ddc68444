"""What the costs API gives. Money is USD, as text with six decimals: a float would round it."""

import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, PlainSerializer

from brightrun.costs.tables import CostType

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


class CostSummary(BaseModel):
    """Recorded charges only. start_date and end_date are both included, UTC; chart_data has every day between."""

    start_date: datetime.date
    end_date: datetime.date
    total_cost: Usd
    cost_by_type: dict[CostType, Usd]
    spent_this_month: Usd
    chart_data: list[DayCost]


class CostsData(BaseModel):
    costs: CostSummary
