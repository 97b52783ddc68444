"""A workspace's budget of a month: what may be spent, what is, what is on its way, and who is told in time."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.audit.service import record as audit
from brightrun.clock import utcnow
from brightrun.costs import repository
from brightrun.costs.tables import WorkspaceBudget
from brightrun.notifications.service import notify
from brightrun.notifications.tables import NotificationType, Priority
from brightrun.queue.events import publish

DEFAULT_MONTHLY_LIMIT = Decimal(500)
"""USD, of a workspace that has set no other."""
WARNINGS = (80, 95, 100)
"""Percent of the limit at which everyone is told, once a month each."""
TOPIC = "costs"


@dataclass(frozen=True)
class Committed:
    """USD of work that has begun and has not ended. accrued: cost so far that is not in the ledger yet.

    upper: what it may still cost, by upper estimates, accrued included.
    """

    accrued: Decimal = Decimal(0)
    upper: Decimal = Decimal(0)


CommittedOf = Callable[[AsyncSession], Awaitable[Committed]]
committed: list[CommittedOf] = []
"""Ask what is on its way; rooms upstairs add their own when they are imported."""


@dataclass(frozen=True)
class Budget:
    """limit: USD a month; None: none. spent: recorded since the first of the month, UTC."""

    limit: Decimal | None
    first: date
    last: date
    spent: Decimal
    accrued: Decimal
    upper: Decimal

    @property
    def used(self) -> Decimal:
        """Spent, and running up now."""
        return self.spent + self.accrued

    @property
    def remaining(self) -> Decimal | None:
        """What may still be begun: the limit less what is spent and what is on its way. Never below 0."""
        return None if self.limit is None else max(Decimal(0), self.limit - self.spent - self.upper)

    @property
    def percent(self) -> float | None:
        return None if self.limit is None else float(100 * self.used / self.limit)

    @property
    def projection(self) -> Decimal:
        """USD at the end of the month: spent, what is on its way, and the days left at this month's daily mean."""
        today = utcnow().date()
        days = (today - self.first).days + 1
        left = (self.last - today).days
        return (self.spent + self.upper + self.spent / days * left).quantize(Decimal("0.000001"))


async def current(session: AsyncSession) -> Budget:
    """Of the workspace of the transaction, this month."""
    today = utcnow().date()
    first = today.replace(day=1)
    last = (first + timedelta(days=32)).replace(day=1) - timedelta(days=1)
    parts = [await ask(session) for ask in committed]
    row = await session.get(WorkspaceBudget, session.info["workspace_id"], populate_existing=True)
    return Budget(
        limit=DEFAULT_MONTHLY_LIMIT if row is None else row.monthly_limit,
        first=first,
        last=last,
        spent=Decimal(await session.scalar(select(repository.total_of_period(first))) or 0),
        accrued=sum((part.accrued for part in parts), Decimal(0)),
        upper=sum((part.upper for part in parts), Decimal(0)),
    )


async def set_limit(session: AsyncSession, limit: Decimal | None, *, reason: str | None) -> Budget:
    """None: no limit. Noted in the audit log with who, when, why and what it was before."""
    before = await current(session)
    values = {"workspace_id": session.info["workspace_id"], "monthly_limit": limit}
    statement = insert(WorkspaceBudget).values(values)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["workspace_id"], set_={"monthly_limit": limit, "updated_at": utcnow()}
        )
    )
    words = {"before": _words(before.limit), "after": _words(limit), "reason": reason}
    await audit(session, "budget.changed", "budget", session.info["workspace_id"], words)
    await publish(session, TOPIC, "budget.changed", {"monthly_limit_usd": words["after"]})
    return await current(session)


def _words(limit: Decimal | None) -> str | None:
    return None if limit is None else f"{limit:.2f}"


async def hold(session: AsyncSession) -> None:
    """Two launches at once must not both take the last dollars: the second waits until the first has committed."""
    key = f"budget {session.info['workspace_id']}"
    await session.execute(text("select pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": key})


async def warn_if_due(session: AsyncSession) -> Budget:
    """Tell everyone of each threshold that is passed, once a month and limit."""
    budget = await current(session)
    if budget.limit is None or budget.percent is None:
        return budget
    passed = [threshold for threshold in WARNINGS if budget.percent >= threshold]
    for threshold in passed:
        if threshold == 100:
            title = "The monthly budget is used up"
            more = "Running jobs save a checkpoint and stop; none is begun. Raise the budget, or wait for next month."
        else:
            title = f"{threshold} % of the monthly budget is used"
            more = f"At this rate it will be ${budget.projection:.2f} at the end of the month."
        await notify(
            session,
            type=NotificationType.COST_ALERT,
            priority=Priority.HIGH if threshold >= 95 else Priority.MEDIUM,
            title=title,
            message=f"${budget.used:.2f} of ${budget.limit:.2f} since the first of the month. {more}",
            action_url="/costs",
            metadata={"threshold_percent": threshold, "monthly_limit_usd": f"{budget.limit:.2f}"},
            dedupe_key=f"budget:{budget.first}:{budget.limit:.2f}:{threshold}",
        )
    return budget
