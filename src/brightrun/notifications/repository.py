"""All SQL of notifications. The workspace is the transaction's own."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, ScalarSelect, Uuid, delete, func, literal, select, text, true
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts.tables import WorkspaceMember
from brightrun.notifications.tables import Notification, NotificationRead


async def add_once(session: AsyncSession, notification: Notification) -> bool:
    """Insert unless its dedupe key is known; False when it was."""
    values = {
        column.name: getattr(notification, attribute.key)
        for attribute in Notification.__mapper__.column_attrs
        for column in attribute.columns
        if column.name != "created_at"
    }
    row = await session.execute(
        insert(Notification.__table__)  # type: ignore[arg-type]
        .values(values)
        .on_conflict_do_nothing(index_elements=["workspace_id", "dedupe_key"])
        .returning(text("id"))
    )
    return row.first() is not None


def _read(user_id: UUID) -> ColumnElement[bool]:
    """Whether `user_id` has read the notification of the outer query."""
    return (
        select(NotificationRead.read_at)
        .where(NotificationRead.notification_id == Notification.id, NotificationRead.user_id == user_id)
        .correlate(Notification)
        .exists()
    )


def _unread(user_id: UUID) -> ColumnElement[bool]:
    """Not read, and not from before `user_id` joined: a new member starts with nothing to catch up on."""
    joined = select(WorkspaceMember.created_at).where(
        WorkspaceMember.user_id == user_id, WorkspaceMember.workspace_id == Notification.workspace_id
    )
    return ~_read(user_id) & (Notification.created_at >= joined.correlate(Notification).scalar_subquery())


async def list_for(
    session: AsyncSession, user_id: UUID, *, unread_only: bool, offset: int, limit: int
) -> tuple[list[tuple[Notification, bool]], int]:
    """([(notification, read?)], total), newest first."""
    condition = _unread(user_id) if unread_only else true()
    total = await session.scalar(select(func.count()).select_from(Notification).where(condition))
    rows = await session.execute(
        select(Notification, _unread(user_id))
        .where(condition)
        .order_by(Notification.created_at.desc(), Notification.id.desc())
        .offset(offset)
        .limit(limit)
    )
    return [(notification, not unread) for notification, unread in rows], total or 0


async def get(session: AsyncSession, notification_id: UUID) -> Notification | None:
    return await session.get(Notification, notification_id)


def unread_count(user_id: UUID) -> ScalarSelect[int]:
    return select(func.count()).select_from(Notification).where(_unread(user_id)).scalar_subquery()


async def count_unread(session: AsyncSession, user_id: UUID) -> int:
    return await session.scalar(select(unread_count(user_id))) or 0


async def mark_read(session: AsyncSession, notification: Notification, user_id: UUID) -> bool:
    """False when it was read already."""
    row = await session.execute(
        insert(NotificationRead)
        .values(notification_id=notification.id, user_id=user_id, workspace_id=notification.workspace_id)
        .on_conflict_do_nothing()
        .returning(NotificationRead.notification_id)
    )
    return row.first() is not None


async def mark_all_read(session: AsyncSession, user_id: UUID) -> int:
    """How many were unread."""
    unread = select(Notification.id, literal(user_id, Uuid()), Notification.workspace_id).where(_unread(user_id))
    rows = await session.execute(
        insert(NotificationRead)
        .from_select(["notification_id", "user_id", "workspace_id"], unread)
        .on_conflict_do_nothing()
        .returning(NotificationRead.notification_id)
    )
    return len(rows.all())


async def workspaces_with_older(session: AsyncSession, before: datetime) -> list[UUID]:
    rows = await session.execute(text("select * from lookup_expired_notifications(:before)"), {"before": before})
    return list(rows.scalars())


async def delete_older(session: AsyncSession, before: datetime) -> None:
    await session.execute(delete(Notification).where(Notification.created_at < before))
