"""Who did what, when. Rows are written once: the application's roles may neither change nor delete them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from brightrun.db.base import Base, HasId


class AuditEntry(HasId, Base):
    """workspace_id: null for what happens before there is one, such as a sign-in. user_id: null for background work.

    actor: the e-mail address of whoever acted, as it was then: a member who leaves takes the name along.
    """

    __tablename__ = "audit_log"
    __table_args__ = (
        Index("audit_log_workspace_id_created_at_idx", "workspace_id", "created_at", "id"),
        Index("audit_log_user_id_idx", "user_id"),
    )

    workspace_id: Mapped[UUID | None] = mapped_column(ForeignKey("workspaces.id", ondelete="CASCADE"))
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    actor: Mapped[str | None]
    action: Mapped[str]
    target_kind: Mapped[str]
    target_id: Mapped[str | None]
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
