"""The ledger of requests to models, and what a workspace has agreed with a provider: its key, its terms."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, Numeric, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from brightrun.db.base import Base, HasId, HasTimestamps, InWorkspace, Money, enum_check
from brightrun.llm.calls import Provider, Via

ExactMoney = Annotated[Decimal, mapped_column(Numeric(20, 12))]
"""USD of one request, unrounded: a token can cost a hundred-millionth. Sums are rounded, requests are not."""


class RequestStatus(StrEnum):
    SENT = "sent"
    """Written down; on its way, or about to be. A process that dies leaves these to whoever adopts them."""
    ANSWERED = "answered"
    FAILED = "failed"
    """No answer, and surely not charged."""
    UNKNOWN = "unknown"
    """Perhaps charged: counts at its upper bound until an answer turns up after all."""


class LlmRequest(HasId, InWorkspace, Base):
    """One request to a model: written before it is sent, settled from what came back.

    work_key: what is asked, with its replicate index: the same work is not bought twice. bound: USD it can cost at
    most; cost: exact, from the answer's usage; both null when the price is unknown. raw: the answer as it came.
    input_tokens: all of the prompt, cached parts included. item_id, batch_id: what it was for, in a room above.
    recorded: whether its cost went into the workspace's cost records.
    """

    __tablename__ = "llm_requests"
    __table_args__ = (
        enum_check("provider", Provider),
        enum_check("via", Via),
        enum_check("status", RequestStatus),
        CheckConstraint("bound >= 0", name="bound"),
        CheckConstraint("cost >= 0", name="cost"),
        CheckConstraint("status <> 'answered' or raw is not null", name="answered"),
        Index("llm_requests_workspace_id_work_key_idx", "workspace_id", "work_key"),
        Index("llm_requests_batch_id_idx", "batch_id", postgresql_where=text("batch_id is not null")),
        Index("llm_requests_workspace_id_created_at_idx", "workspace_id", "created_at"),
        Index(
            "llm_requests_unrecorded_idx", "workspace_id", postgresql_where=text("not recorded and cost > 0")
        ),
    )  # fmt: skip

    work_key: Mapped[str]
    provider: Mapped[str]
    model: Mapped[str]
    via: Mapped[str]
    status: Mapped[str]
    bound: Mapped[Money | None]
    cost: Mapped[ExactMoney | None]
    raw: Mapped[str | None]
    stop_reason: Mapped[str | None]
    input_tokens: Mapped[int | None]
    output_tokens: Mapped[int | None]
    cache_read_tokens: Mapped[int | None]
    cache_write_tokens: Mapped[int | None]
    error: Mapped[str | None]
    duration_ms: Mapped[int | None]
    item_id: Mapped[UUID | None]
    batch_id: Mapped[UUID | None]
    recorded: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    settled_at: Mapped[datetime | None]


class ProviderKey(HasId, InWorkspace, HasTimestamps, Base):
    """A workspace's own access to a provider. secret: the key, encrypted; null for a server that wants none.
    last_four: of the key. base_url: the server's address with its `/v1`, for OpenAI-compatible ones."""

    __tablename__ = "provider_keys"
    __table_args__ = (
        enum_check("provider", Provider),
        CheckConstraint("char_length(last_four) <= 4", name="last_four"),
        UniqueConstraint("workspace_id", "provider"),
        Index("provider_keys_created_by_idx", "created_by", postgresql_where=text("created_by is not null")),
    )

    provider: Mapped[str]
    secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    last_four: Mapped[str | None]
    base_url: Mapped[str | None]
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))


class ProviderTerms(HasId, InWorkspace, Base):
    """Who accepted, for their workspace, that the provider's terms on training with its answers apply.
    version: of our notice. accepted_email: as it was then."""

    __tablename__ = "provider_terms"
    __table_args__ = (
        enum_check("provider", Provider),
        UniqueConstraint("workspace_id", "provider", "version"),
        Index("provider_terms_accepted_by_idx", "accepted_by", postgresql_where=text("accepted_by is not null")),
    )

    provider: Mapped[str]
    version: Mapped[str]
    accepted_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    accepted_email: Mapped[str]
    accepted_at: Mapped[datetime] = mapped_column(server_default=func.now())
