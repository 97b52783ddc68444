"""What the notifications API takes and gives."""

from datetime import datetime, time
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from brightrun.notifications.quiet import is_timezone
from brightrun.notifications.tables import (
    Channel,
    Delivery,
    DeliveryStatus,
    Notification,
    NotificationType,
    Priority,
    Webhook,
)
from brightrun.web.http import Items
from brightrun.web.text import STORABLE


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


class QuietHours(BaseModel):
    """From `start` to `end`, local times of `timezone`, mail waits; from 22:00 to 07:00 passes midnight."""

    model_config = ConfigDict(extra="forbid")

    start: time
    end: time
    timezone: Annotated[str, StringConstraints(max_length=100)] = "UTC"
    urgent_at_once: Annotated[bool, Field(description="Mail of high priority does not wait")] = False

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        if not is_timezone(name):
            raise ValueError("There is no such time zone; give one such as Europe/Berlin or UTC")
        return name

    @model_validator(mode="after")
    def _differ(self) -> "QuietHours":
        if self.start.tzinfo is not None or self.end.tzinfo is not None:
            raise ValueError("Give local times without an offset, and the time zone beside them")
        if self.start == self.end:
            raise ValueError("Quiet hours that end when they begin would never let mail through")
        return self


Types = Annotated[list[NotificationType], Field(max_length=100)]


class PreferencesIn(BaseModel):
    """One's own, in this workspace. muted: listed, but not counted as unread. email: also sent by mail."""

    model_config = ConfigDict(extra="forbid")

    muted: Types = []
    email: Types = []
    quiet_hours: QuietHours | None = None


class PreferencesData(BaseModel):
    """mail_available: whether a mail server is set, without which nothing is mailed."""

    preferences: PreferencesIn
    mail_available: bool


WebhookUrl = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000, pattern=r"^[\x21-\x7e]*$"), STORABLE
]
WebhookTypes = Annotated[list[NotificationType], Field(min_length=1, max_length=100)]


class WebhookIn(BaseModel):
    """url: https, or http where private addresses are allowed. types: what it is told of."""

    model_config = ConfigDict(extra="forbid")

    url: WebhookUrl
    types: WebhookTypes


class WebhookChange(BaseModel):
    """What is left out stays. active: switch it off, or on again."""

    model_config = ConfigDict(extra="forbid")

    url: WebhookUrl | None = None
    types: WebhookTypes | None = None
    active: bool | None = None


class WebhookOut(BaseModel):
    """inactive_reason: why nothing is sent. failures: deliveries in a row that were given up."""

    id: UUID
    url: str
    types: list[NotificationType]
    active: bool
    inactive_reason: str | None
    failures: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: Webhook) -> "WebhookOut":
        known = set(NotificationType)
        return cls(
            id=row.id,
            url=row.url,
            types=[NotificationType(name) for name in row.types if name in known],
            active=row.inactive_reason is None,
            inactive_reason=row.inactive_reason,
            failures=row.failures,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


class WebhookData(BaseModel):
    webhook: WebhookOut


class WebhookWithSecret(BaseModel):
    """secret: what signs the calls; shown only here."""

    webhook: WebhookOut
    secret: str


class WebhooksData(BaseModel):
    webhooks: list[WebhookOut]


class DeliveryOut(BaseModel):
    """title: of the notification; None for a test. due_at: of the next attempt while pending."""

    id: UUID
    channel: Channel
    status: DeliveryStatus
    title: str | None
    notification_id: UUID | None
    attempts: int
    due_at: datetime
    response_status: int | None
    error: str | None
    created_at: datetime
    sent_at: datetime | None

    @classmethod
    def of(cls, row: Delivery, title: str | None) -> "DeliveryOut":
        return cls(
            id=row.id,
            channel=Channel(row.channel),
            status=DeliveryStatus(row.status),
            title=title,
            notification_id=row.notification_id,
            attempts=row.attempts,
            due_at=row.due_at,
            response_status=row.response_status,
            error=row.error,
            created_at=row.created_at,
            sent_at=row.sent_at,
        )


class DeliveryData(BaseModel):
    delivery: DeliveryOut
