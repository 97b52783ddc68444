"""What jobs may cost before they begin, and what they do while they run: the budget of the month, the cap of a job."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts.roles import Permission
from brightrun.accounts.signin import Principal
from brightrun.audit.service import record as audit
from brightrun.clock import utcnow
from brightrun.costs import budgets
from brightrun.costs.budgets import Committed
from brightrun.errors import ConflictError, ForbiddenError
from brightrun.training.tables import ACTIVE, WAITING, TrainingAttempt, TrainingJob

_MARGIN = Decimal("1.15")
"""An estimate without an interval of its own may be passed by this much: the documented ±15 %."""


def upper_estimate(estimate: Mapping[str, Any], price_per_hour: Decimal, max_cost: Decimal | None) -> Decimal:
    """USD that a job may cost at most, as was promised before it began; a cap makes it less."""
    if price_per_hour == 0:
        return Decimal(0)
    cost = estimate["cost_usd"]
    upper = Decimal(str(cost["high"])) if cost.get("high") is not None else Decimal(str(cost["value"])) * _MARGIN
    return min(upper, max_cost) if max_cost is not None else upper


@dataclass(frozen=True)
class _Open:
    """A job that has begun or waits to. recorded: USD of it in the ledger."""

    job: TrainingJob
    recorded: Decimal

    @property
    def committed(self) -> Committed:
        upper = upper_estimate(self.job.estimate, self.job.price_per_hour, self.job.max_cost)
        accrued = max(Decimal(0), self.job.current_cost - self.recorded)
        return Committed(accrued=accrued, upper=max(accrued, upper - self.recorded))


async def _open(session: AsyncSession, *, but: UUID | None = None) -> list[_Open]:
    recorded = (
        select(TrainingAttempt.job_id, func.coalesce(func.sum(TrainingAttempt.cost), 0).label("usd"))
        .group_by(TrainingAttempt.job_id)
        .subquery()
    )
    query = (
        select(TrainingJob, recorded.c.usd)
        .outerjoin(recorded, recorded.c.job_id == TrainingJob.id)
        .where(TrainingJob.status.in_((*ACTIVE, *WAITING)), TrainingJob.trained_at.is_(None))
        .where(TrainingJob.price_per_hour > 0)
    )
    rows = await session.execute(query)
    return [_Open(job, Decimal(usd or 0)) for job, usd in rows if job.id != but]


async def committed(session: AsyncSession) -> Committed:
    """Of all jobs of the workspace that have not ended; a paused one is counted when it is resumed."""
    parts = [each.committed for each in await _open(session)]
    return Committed(
        accrued=sum((part.accrued for part in parts), Decimal(0)),
        upper=sum((part.upper for part in parts), Decimal(0)),
    )


budgets.committed.append(committed)


async def require_budget(
    session: AsyncSession, principal: Principal, upper: Decimal, *, override: str | None
) -> dict[str, Any] | None:
    """Before a job begins or goes on: may it cost `upper` more this month?

    override: the reason of somebody who may manage the workspace for beginning it all the same. Returns what is to be
    remembered of it, None when it was not needed. Raises ConflictError with the shortfall, ForbiddenError.
    """
    await budgets.hold(session)
    budget = await budgets.current(session)
    if upper == 0 or budget.remaining is None or upper <= budget.remaining:
        return None
    if override is None:
        raise ConflictError(
            f"It may cost up to ${upper:.2f}, and ${budget.remaining:.2f} of this month's ${budget.limit:.2f} are left "
            f"(${budget.spent:.2f} spent, up to ${budget.upper:.2f} on their way). Choose a smaller run or a cap, "
            "raise the budget, or have an admin start it with a reason",
            code="budget_exceeded",
            details={
                "monthly_limit_usd": f"{budget.limit:.6f}",
                "spent_usd": f"{budget.spent:.6f}",
                "committed_usd": f"{budget.upper:.6f}",
                "upper_estimate_usd": f"{upper:.6f}",
                "shortfall_usd": f"{upper - budget.remaining:.6f}",
            },
        )
    if Permission.WORKSPACE_MANAGE not in principal.permissions:
        raise ForbiddenError("Only an owner or admin of the workspace may pass its budget", code="role")
    by = str(principal.user_id) if principal.user_id is not None else None
    return {"reason": override, "by": by, "at": utcnow().isoformat(), "upper_estimate_usd": f"{upper:.2f}"}


async def note_override(session: AsyncSession, job: TrainingJob, override: dict[str, Any] | None) -> None:
    """In the job, where it lifts the month's limit for this run, and in the audit log."""
    if override is None:
        return
    job.budget_override = override
    await audit(
        session, "budget.overridden", "job", job.id, {key: override[key] for key in ("reason", "upper_estimate_usd")}
    )


def left_to_spend(job: TrainingJob) -> Decimal | None:
    """USD that its cap leaves, by the ledger and what runs up now; None without a cap."""
    return None if job.max_cost is None else job.max_cost - job.current_cost


async def over_the_month(session: AsyncSession, job: TrainingJob) -> str | None:
    """Why a running job has to stop for the month's budget, as a sentence. Also tells everyone of what is passed."""
    if job.price_per_hour == 0:
        return None
    budget = await budgets.warn_if_due(session)
    if budget.limit is None or job.budget_override is not None or budget.used < budget.limit:
        return None
    return f"The workspace's budget of this month is used up: ${budget.used:.2f} of ${budget.limit:.2f}."
