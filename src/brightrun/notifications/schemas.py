"""What the notifications API gives."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from brightrun.notifications.tables import Notification, NotificationType, Priority
from brightrun.web.http import Items


class NotificationOut(BaseModel):
    """read: by the caller."""

    id: UUID
    type: NotificationType
    title: str
    message: str
    priority: Priority
    action_url: str | None
    metadata: dict[str, Any]
    read: bool
    created_at: datetime

    @classmethod
    def of(cls, notification: Notification, *, read: bool) -> "NotificationOut":
        return cls(
            id=notification.id,
            type=NotificationType(notification.type),
            title=notification.title,
            message=notification.message,
            priority=Priority(notification.priority),
            action_url=notification.action_url,
            metadata=notification.details,
            read=read,
            created_at=notification.created_at,
        )


class NotificationData(BaseModel):
    notification: NotificationOut


class NotificationItems(Items[NotificationOut]):
    """unread_count: of the whole workspace for the caller, whatever the page and filters."""

    unread_count: int


class MarkedRead(BaseModel):
    """How many were unread before."""

    marked: int
