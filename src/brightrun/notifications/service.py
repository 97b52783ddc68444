"""Tell the members of a workspace, once per event, in the transaction of the event itself."""

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.errors import NotFoundError
from brightrun.ids import uuid7
from brightrun.notifications import deliveries, repository
from brightrun.notifications.tables import Notification, NotificationType, Priority
from brightrun.queue.events import publish

TOPIC = "notifications"

_PRIORITY = {
    NotificationType.DATASET_READY: Priority.MEDIUM,
    NotificationType.DATASET_ERROR: Priority.HIGH,
    NotificationType.JOB_QUEUED: Priority.LOW,
    NotificationType.JOB_STARTED: Priority.MEDIUM,
    NotificationType.JOB_COMPLETED: Priority.HIGH,
    NotificationType.JOB_FAILED: Priority.HIGH,
    NotificationType.JOB_CANCELLED: Priority.MEDIUM,
    NotificationType.JOB_INTERRUPTED: Priority.HIGH,
    NotificationType.COST_ALERT: Priority.HIGH,
    NotificationType.SYSTEM: Priority.MEDIUM,
}


async def notify(
    session: AsyncSession,
    *,
    type: NotificationType,  # noqa: A002 (the column's name, and the field's own word)
    title: str,
    message: str,
    dedupe_key: str,
    action_url: str | None = None,
    priority: Priority | None = None,
    metadata: dict[str, Any] | None = None,
) -> bool:
    """Notify the workspace of the transaction. False when `dedupe_key` was notified of before: nothing is added then.

    title: at most 200 characters. message: one or two sentences. action_url: a path of ours, `/datasets/<id>`.
    priority: None takes the type's own. dedupe_key: names the event, `job_completed:<job id>`.

    Raises LookupError for a transaction without a workspace.
    """
    workspace_id = session.info.get("workspace_id")
    if workspace_id is None:
        raise LookupError("a notification belongs to a workspace; this transaction has none")
    notification = Notification(
        id=uuid7(),
        workspace_id=workspace_id,
        type=type.value,
        title=title if len(title) <= 200 else title[:199] + "…",
        message=message,
        priority=(priority or _PRIORITY[type]).value,
        action_url=action_url,
        details=metadata or {},
        dedupe_key=dedupe_key,
    )
    if not await repository.add_once(session, notification):
        return False
    await publish(
        session,
        TOPIC,
        "notification.created",
        {
            "id": str(notification.id),
            "type": notification.type,
            "title": notification.title,
            "priority": notification.priority,
            "action_url": notification.action_url,
        },
    )
    await deliveries.send_out(session, notification)
    return True


async def mark_read(session: AsyncSession, notification_id: UUID, user_id: UUID) -> Notification:
    """Raises NotFoundError for one that is not of this workspace."""
    notification = await repository.get(session, notification_id)
    if notification is None:
        raise NotFoundError(f"There is no notification {notification_id}")
    if await repository.mark_read(session, notification, user_id):
        await publish(session, TOPIC, "notification.read", {"id": str(notification_id), "user_id": str(user_id)})
    return notification


async def mark_all_read(session: AsyncSession, user_id: UUID) -> int:
    """How many were unread."""
    marked = await repository.mark_all_read(session, user_id)
    if marked:
        await publish(session, TOPIC, "notification.all_read", {"user_id": str(user_id)})
    return marked
