"""The month's budget and batches: what open ones may still cost, and whether a new one fits."""

from decimal import Decimal

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.costs import budgets
from brightrun.costs.budgets import Committed
from brightrun.errors import ConflictError
from brightrun.generation.tables import RUNNABLE, BatchJob
from brightrun.llm import ledger

_UNRECORDED = text("select coalesce(sum(cost), 0) from llm_requests where not recorded and cost > 0")


def upper(batch: BatchJob) -> Decimal:
    """USD that the batch may cost: its quote's upper end, or its cap; 0 where the price is unknown."""
    high = batch.quote["rest_batch" if batch.via == "batch" else "rest_now"]["high"]
    quoted = Decimal(high) if high is not None else Decimal(0)
    return min(quoted, batch.max_cost) if batch.max_cost is not None else quoted


async def committed(session: AsyncSession) -> Committed:
    """Of batches that wait or run, and what was answered and is not recorded yet."""
    accrued = Decimal(await session.scalar(_UNRECORDED) or 0)
    open_ones = await session.scalars(select(BatchJob).where(BatchJob.status.in_(RUNNABLE)))
    left = Decimal(0)
    for batch in open_ones:
        left += max(Decimal(0), upper(batch) - (await ledger.spent(session, batch_id=batch.id)).cost)
    return Committed(accrued=accrued, upper=accrued + left)


async def check(session: AsyncSession, batch: BatchJob) -> None:
    """Raises ConflictError when the batch, which is not running yet, may cost more than the month has left."""
    await budgets.hold(session)
    budget = await budgets.current(session)
    if budget.remaining is None:
        return
    # The batch counts as open already.
    spent = (await ledger.spent(session, batch_id=batch.id)).cost
    own = max(Decimal(0), upper(batch) - spent) if batch.status in RUNNABLE else Decimal(0)
    assert budget.limit is not None
    room = budget.limit - budget.spent - budget.upper + own
    if own > room:
        raise ConflictError(
            f"The batch may cost up to ${own:.2f}, and ${max(Decimal(0), room):.2f} of this month's budget is left. "
            "Give it a cap that fits (max_cost_usd), or raise the budget under Costs",
            code="budget_exceeded",
            details={"upper_usd": f"{own:.6f}", "left_usd": f"{max(Decimal(0), room):.6f}"},
        )


budgets.committed.append(committed)
