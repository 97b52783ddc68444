"""What happened and should be known: to all members of a workspace, with each member's own read marks."""

from datetime import datetime, time
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from brightrun.db.base import Base, HasId, HasTimestamps, InWorkspace, enum_check


class NotificationType(StrEnum):
    DATASET_READY = "dataset_ready"
    DATASET_ERROR = "dataset_error"
    JOB_QUEUED = "job_queued"
    JOB_STARTED = "job_started"
    JOB_COMPLETED = "job_completed"
    JOB_FAILED = "job_failed"
    JOB_CANCELLED = "job_cancelled"
    JOB_INTERRUPTED = "job_interrupted"
    COST_ALERT = "cost_alert"
    SYSTEM = "system"


class Priority(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Notification(HasId, InWorkspace, Base):
    """dedupe_key: one event gives one notification, however often the task that tells of it runs."""

    __tablename__ = "notifications"
    __table_args__ = (
        enum_check("type", NotificationType),
        enum_check("priority", Priority),
        CheckConstraint("char_length(title) between 1 and 200", name="title_length"),
        UniqueConstraint("workspace_id", "dedupe_key"),
        Index("notifications_workspace_id_created_at_idx", "workspace_id", "created_at"),
    )

    type: Mapped[str]
    title: Mapped[str]
    message: Mapped[str]
    priority: Mapped[str]
    action_url: Mapped[str | None]
    # `metadata` is SQLAlchemy's own name on a mapped class.
    details: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=text("'{}'"))
    dedupe_key: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class NotificationRead(InWorkspace, Base):
    __tablename__ = "notification_reads"
    __table_args__ = (
        Index("notification_reads_user_id_idx", "user_id"),
        Index("notification_reads_workspace_id_idx", "workspace_id"),
    )

    notification_id: Mapped[UUID] = mapped_column(ForeignKey("notifications.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    read_at: Mapped[datetime] = mapped_column(server_default=func.now())


class NotificationPreference(InWorkspace, HasTimestamps, Base):
    """What one member wants to be told of, and how. Without a row: everything in the panel, nothing by e-mail.

    muted: types that are listed but do not count as unread. email: types that are also sent by mail. quiet_from,
    quiet_to: local times in `timezone` between which mail waits; from 22:00 to 07:00 passes midnight. urgent_at_once:
    mail of high priority does not wait.
    """

    __tablename__ = "notification_preferences"
    __table_args__ = (
        CheckConstraint("(quiet_from is null) = (quiet_to is null)", name="quiet_hours"),
        Index("notification_preferences_user_id_idx", "user_id"),
    )

    # In the order of the index of the primary key: a workspace's rows lie together.
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    muted: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    email: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    quiet_from: Mapped[time | None]
    quiet_to: Mapped[time | None]
    timezone: Mapped[str] = mapped_column(server_default=text("'UTC'"))
    urgent_at_once: Mapped[bool] = mapped_column(server_default=text("false"))


class Webhook(HasId, InWorkspace, HasTimestamps, Base):
    """A URL that is told of what happens.

    types: which. secret_version: the signing secret is derived from the installation's own and this number, so that it
    is kept nowhere. failures: deliveries in a row that were given up. inactive_reason: why nothing is sent; None while
    active.
    """

    __tablename__ = "webhooks"
    __table_args__ = (
        CheckConstraint("char_length(url) between 1 and 2000", name="url_length"),
        CheckConstraint("cardinality(types) > 0", name="types"),
        Index("webhooks_workspace_id_idx", "workspace_id"),
        Index("webhooks_created_by_idx", "created_by", postgresql_where=text("created_by is not null")),
    )

    url: Mapped[str]
    types: Mapped[list[str]] = mapped_column(ARRAY(Text))
    secret_version: Mapped[int] = mapped_column(server_default=text("1"))
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    inactive_reason: Mapped[str | None]
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))


class Channel(StrEnum):
    EMAIL = "email"
    WEBHOOK = "webhook"


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    """Waits for its time, for the next attempt, or for the end of quiet hours."""
    SENT = "sent"
    FAILED = "failed"


class Delivery(HasId, InWorkspace, Base):
    """One notification on its way to one mailbox or webhook. There is one each, however often its task runs.

    notification_id: None for the test that someone asked for. due_at: of the next attempt. response_status: the
    webhook's last HTTP status. error: why the last attempt failed.
    """

    __tablename__ = "notification_deliveries"
    __table_args__ = (
        enum_check("channel", Channel),
        enum_check("status", DeliveryStatus),
        CheckConstraint(
            "(channel = 'email') = (user_id is not null) and (channel = 'webhook') = (webhook_id is not null)",
            name="target",
        ),
        Index(
            "notification_deliveries_mail_key",
            "notification_id",
            "user_id",
            unique=True,
            postgresql_where=text("user_id is not null"),
        ),
        Index(
            "notification_deliveries_webhook_key",
            "notification_id",
            "webhook_id",
            unique=True,
            postgresql_where=text("webhook_id is not null"),
        ),
        Index("notification_deliveries_workspace_id_idx", "workspace_id", "created_at"),
        Index("notification_deliveries_webhook_id_idx", "webhook_id", "created_at"),
        Index("notification_deliveries_user_id_idx", "user_id", "status"),
    )

    notification_id: Mapped[UUID | None] = mapped_column(ForeignKey("notifications.id", ondelete="CASCADE"))
    channel: Mapped[str]
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    webhook_id: Mapped[UUID | None] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    status: Mapped[str] = mapped_column(server_default=text("'pending'"))
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    response_status: Mapped[int | None]
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    sent_at: Mapped[datetime | None]
