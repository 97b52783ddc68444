"""All SQL that reads the audit log. The newest entries come first; `created_at` and `id` together are the order."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.audit.tables import AuditEntry
from brightrun.errors import NotFoundError


@dataclass(frozen=True)
class Wanted:
    """Which entries: every filter that is not None must hold. who: part of an e-mail address. Days are UTC, included.

    action: one of them (`member.removed`), or all of a kind of target (`member`).
    """

    workspace_id: UUID
    who: str | None = None
    action: str | None = None
    target_id: str | None = None
    first: date | None = None
    last: date | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = [AuditEntry.workspace_id == self.workspace_id]
        if self.who:
            found.append(AuditEntry.actor.icontains(self.who, autoescape=True))
        if self.action:
            column = AuditEntry.action if "." in self.action else AuditEntry.target_kind
            found.append(column == self.action)
        if self.target_id:
            found.append(AuditEntry.target_id == self.target_id)
        if self.first:
            found.append(AuditEntry.created_at >= datetime.combine(self.first, time.min, UTC))
        if self.last:
            found.append(AuditEntry.created_at < datetime.combine(self.last + timedelta(days=1), time.min, UTC))
        return found


async def count(session: AsyncSession, wanted: Wanted) -> int:
    return await session.scalar(select(func.count()).select_from(AuditEntry).where(*wanted.conditions())) or 0


async def list_entries(
    session: AsyncSession, wanted: Wanted, *, limit: int, offset: int = 0, after: UUID | None = None
) -> Sequence[AuditEntry]:
    """after: the id of the entry before the first wanted one: as quick at the end of a long log as at its start."""
    query = select(AuditEntry).where(*wanted.conditions())
    if after is not None:
        known = AuditEntry.id == after, AuditEntry.workspace_id == wanted.workspace_id
        last = await session.scalar(select(AuditEntry).where(*known))
        if last is None:
            raise NotFoundError("There is no such entry to go on after")
        query = query.where(tuple_(AuditEntry.created_at, AuditEntry.id) < (last.created_at, last.id))
    rows = await session.scalars(
        query.order_by(AuditEntry.created_at.desc(), AuditEntry.id.desc()).offset(offset).limit(limit)
    )
    return rows.all()


async def actions(session: AsyncSession, workspace_id: UUID) -> Sequence[str]:
    """Every action that is in the log, for a filter."""
    query = select(AuditEntry.action).where(AuditEntry.workspace_id == workspace_id).distinct()
    return (await session.scalars(query.order_by(AuditEntry.action))).all()
