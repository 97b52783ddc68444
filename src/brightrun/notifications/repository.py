"""All SQL of notifications. The workspace is the transaction's own."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, ScalarSelect, Uuid, delete, func, literal, select, text, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts.tables import User, Workspace, WorkspaceMember
from brightrun.notifications.tables import (
    Delivery,
    DeliveryStatus,
    Notification,
    NotificationPreference,
    NotificationRead,
    Webhook,
)


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


def _muted(user_id: UUID) -> ColumnElement[bool]:
    """Whether `user_id` does not want to be told of the type of the outer query's notification."""
    return (
        select(NotificationPreference.user_id)
        .where(
            NotificationPreference.workspace_id == Notification.workspace_id,
            NotificationPreference.user_id == user_id,
            Notification.type == NotificationPreference.muted.any_(),
        )
        .correlate(Notification)
        .exists()
    )


def _unread(user_id: UUID) -> ColumnElement[bool]:
    """Not read, of a type that is not muted, and not from before `user_id` joined: a new member starts with nothing to
    catch up on."""
    joined = select(WorkspaceMember.created_at).where(
        WorkspaceMember.user_id == user_id, WorkspaceMember.workspace_id == Notification.workspace_id
    )
    return (
        ~_read(user_id)
        & ~_muted(user_id)
        & (Notification.created_at >= joined.correlate(Notification).scalar_subquery())
    )


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


# --- what leaves the house --------------------------------------------------------------------------------------------


async def preference_of(session: AsyncSession, user_id: UUID) -> NotificationPreference | None:
    return await session.scalar(select(NotificationPreference).where(NotificationPreference.user_id == user_id))


async def save_preference(session: AsyncSession, values: dict[str, Any]) -> None:
    """Insert, or replace what is there."""
    changed = {name: value for name, value in values.items() if name not in ("workspace_id", "user_id")}
    await session.execute(
        insert(NotificationPreference)
        .values(values)
        .on_conflict_do_update(index_elements=["workspace_id", "user_id"], set_=changed | {"updated_at": func.now()})
    )


async def wanted_by_mail(session: AsyncSession, type_: str) -> list[NotificationPreference]:
    """Those of the members who want this type by mail."""
    rows = await session.scalars(
        select(NotificationPreference)
        .join(
            WorkspaceMember,
            (WorkspaceMember.user_id == NotificationPreference.user_id)
            & (WorkspaceMember.workspace_id == NotificationPreference.workspace_id),
        )
        .where(literal(type_) == NotificationPreference.email.any_())
    )
    return list(rows)


async def webhooks_for(session: AsyncSession, type_: str) -> list[Webhook]:
    """The active ones that are told of this type."""
    rows = await session.scalars(
        select(Webhook).where(Webhook.inactive_reason.is_(None), literal(type_) == Webhook.types.any_())
    )
    return list(rows)


async def list_webhooks(session: AsyncSession) -> list[Webhook]:
    return list(await session.scalars(select(Webhook).order_by(Webhook.created_at, Webhook.id)))


async def count_webhooks(session: AsyncSession) -> int:
    return await session.scalar(select(func.count()).select_from(Webhook)) or 0


async def get_webhook(session: AsyncSession, webhook_id: UUID) -> Webhook | None:
    return await session.get(Webhook, webhook_id)


async def lock_webhook(session: AsyncSession, webhook_id: UUID) -> Webhook | None:
    return await session.get(Webhook, webhook_id, with_for_update=True, populate_existing=True)


async def due_mail(session: AsyncSession, user_id: UUID, now: datetime) -> list[tuple[Delivery, Notification]]:
    """What waits for a member and is due, oldest first."""
    rows = await session.execute(
        select(Delivery, Notification)
        .join(Notification, Notification.id == Delivery.notification_id)
        .where(Delivery.user_id == user_id, Delivery.status == DeliveryStatus.PENDING, Delivery.due_at <= now)
        .order_by(Notification.created_at, Notification.id)
        .with_for_update(of=Delivery)
    )
    return [(delivery, notification) for delivery, notification in rows]


async def address_of(session: AsyncSession, user_id: UUID) -> str | None:
    """A member's; None for somebody who is none any more."""
    return await session.scalar(
        select(User.email)
        .join(WorkspaceMember, WorkspaceMember.user_id == User.id)
        .where(User.id == user_id, WorkspaceMember.workspace_id == session.info["workspace_id"])
    )


async def workspace_name(session: AsyncSession, workspace_id: UUID) -> str:
    return await session.scalar(select(Workspace.name).where(Workspace.id == workspace_id)) or "BrightRun"


async def delivery_to_call(
    session: AsyncSession, delivery_id: UUID
) -> tuple[Delivery, Webhook, Notification | None] | None:
    """A delivery that waits, with its webhook; None for one that does not, or is gone."""
    row = (
        await session.execute(
            select(Delivery, Webhook, Notification)
            .join(Webhook, Webhook.id == Delivery.webhook_id)
            .outerjoin(Notification, Notification.id == Delivery.notification_id)
            .where(Delivery.id == delivery_id, Delivery.status == DeliveryStatus.PENDING)
            .with_for_update(of=Delivery)
        )
    ).first()
    return None if row is None else (row[0], row[1], row[2])


async def settle(
    session: AsyncSession, ids: list[UUID], *, error: str | None, again: datetime | None, status: int | None = None
) -> None:
    """Write down how an attempt ended: sent, to be tried again, or given up."""
    values: dict[str, Any] = {"error": error, "response_status": status}
    if error is None:
        values |= {"status": DeliveryStatus.SENT.value, "sent_at": func.now()}
    elif again is not None:
        values |= {"due_at": again}
    else:
        values |= {"status": DeliveryStatus.FAILED.value}
    await session.execute(
        update(Delivery).where(Delivery.id.in_(ids), Delivery.status == DeliveryStatus.PENDING).values(values)
    )


async def get_delivery(session: AsyncSession, delivery_id: UUID) -> Delivery | None:
    return await session.get(Delivery, delivery_id)


async def list_deliveries(
    session: AsyncSession, *, webhook_id: UUID | None = None, user_id: UUID | None = None, offset: int, limit: int
) -> tuple[list[tuple[Delivery, str | None]], int]:
    """([(delivery, title of its notification)], total), newest first."""
    condition = Delivery.webhook_id == webhook_id if webhook_id is not None else Delivery.user_id == user_id
    total = await session.scalar(select(func.count()).select_from(Delivery).where(condition))
    rows = await session.execute(
        select(Delivery, Notification.title)
        .outerjoin(Notification, Notification.id == Delivery.notification_id)
        .where(condition)
        .order_by(Delivery.created_at.desc(), Delivery.id.desc())
        .offset(offset)
        .limit(limit)
    )
    return [(delivery, title) for delivery, title in rows], total or 0
