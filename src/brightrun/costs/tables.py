"""Money spent, by what and on what. Rows are written once and never changed."""

from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from brightrun.db.base import Base, HasId, HasTimestamps, InWorkspace, Money, enum_check


class CostType(StrEnum):
    COMPUTE = "compute"
    STORAGE = "storage"
    DATA_TRANSFER = "data_transfer"
    API_CALLS = "api_calls"


class CostRecord(HasId, InWorkspace, Base):
    """amount: USD. billing_period: the first day of its month, UTC. dedupe_key: one charge is recorded once."""

    __tablename__ = "cost_records"
    __table_args__ = (
        enum_check("cost_type", CostType),
        CheckConstraint("amount >= 0", name="amount"),
        CheckConstraint("extract(day from billing_period) = 1", name="billing_period"),
        UniqueConstraint("workspace_id", "dedupe_key"),
        Index("cost_records_workspace_id_recorded_at_idx", "workspace_id", "recorded_at"),
        Index("cost_records_workspace_id_billing_period_idx", "workspace_id", "billing_period"),
        Index("cost_records_job_id_idx", "job_id", postgresql_where=text("job_id is not null")),
    )

    job_id: Mapped[UUID | None]
    cost_type: Mapped[str]
    amount: Mapped[Money]
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    billing_period: Mapped[date]
    dedupe_key: Mapped[str]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())


class WorkspaceBudget(HasTimestamps, InWorkspace, Base):
    """monthly_limit: USD a calendar month, UTC; null: none. A workspace without a row has the default."""

    __tablename__ = "workspace_budgets"
    __table_args__ = (CheckConstraint("monthly_limit > 0", name="monthly_limit"),)

    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id", ondelete="CASCADE"), primary_key=True)
    monthly_limit: Mapped[Money | None]
