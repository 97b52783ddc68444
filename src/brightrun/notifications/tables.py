"""What happened and should be known: to all members of a workspace, with each member's own read marks."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from brightrun.db.base import Base, HasId, InWorkspace, enum_check


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
