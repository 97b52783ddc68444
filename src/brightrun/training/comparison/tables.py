"""The `training_heldout_losses` table."""

from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from brightrun.db.base import Base, InWorkspace


class HeldoutLosses(InWorkspace, Base):
    """Of one finished run. unit: of the losses, as the trainer names it.

    conversations: `[id, digest, n, base, adapter]` of each: the losses are sums over `n` trained tokens (or pairs). The
    digest is of the very tokens that were measured: equal ones are the same conversation, cut and tokenised alike.
    """

    __tablename__ = "training_heldout_losses"
    __table_args__ = (Index("training_heldout_losses_workspace_id_idx", "workspace_id"),)

    job_id: Mapped[UUID] = mapped_column(ForeignKey("training_jobs.id", ondelete="CASCADE"), primary_key=True)
    unit: Mapped[str]
    conversations: Mapped[list[Any]]
