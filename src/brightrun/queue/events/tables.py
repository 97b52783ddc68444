"""One row an event, written in the transaction it tells of."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, Text, func
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

from brightrun.db.base import Base


class Xid8(UserDefinedType[str]):
    """PostgreSQL's 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


class Event(Base):
    """Something that happened, for live pages. `xid` says in which transaction: see `cursor`."""

    __tablename__ = "events"
    __table_args__ = (
        CheckConstraint("octet_length(payload::text) <= 16384", name="payload_size"),
        Index("events_workspace_id_xid_idx", "workspace_id", "xid"),
        Index("events_workspace_id_created_at_idx", "workspace_id", "created_at"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id", ondelete="CASCADE"))
    xid: Mapped[str] = mapped_column(Xid8, server_default=func.pg_current_xact_id())
    topic: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    payload: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
