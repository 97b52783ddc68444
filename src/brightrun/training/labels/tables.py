"""The `training_job_tags` and `training_job_notes` tables."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func
from sqlalchemy import text as text_
from sqlalchemy.orm import Mapped, mapped_column

from brightrun.db.base import Base, HasId, InWorkspace


class JobTag(InWorkspace, Base):
    __tablename__ = "training_job_tags"
    __table_args__ = (
        CheckConstraint("char_length(tag) between 1 and 30", name="tag_length"),
        Index("training_job_tags_workspace_id_tag_idx", "workspace_id", "tag", "job_id"),
    )

    job_id: Mapped[UUID] = mapped_column(ForeignKey("training_jobs.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(primary_key=True)


class JobNote(HasId, InWorkspace, Base):
    """Plain text. author: the e-mail of whoever wrote it, kept when they are gone."""

    __tablename__ = "training_job_notes"
    __table_args__ = (
        CheckConstraint("char_length(text) between 1 and 2000", name="text_length"),
        Index("training_job_notes_job_id_created_at_idx", "job_id", "created_at"),
        Index("training_job_notes_workspace_id_idx", "workspace_id"),
        Index("training_job_notes_created_by_idx", "created_by", postgresql_where=text_("created_by is not null")),
    )

    job_id: Mapped[UUID] = mapped_column(ForeignKey("training_jobs.id", ondelete="CASCADE"))
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    author: Mapped[str]
    text: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
