"""Probes of the platform, and lengths of datasets as base models see them."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Numeric, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from brightrun.db.base import Base, BigInt, HasId, HasTimestamps, InWorkspace, enum_check


class ProbeStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class EstimateProbe(HasId, InWorkspace, HasTimestamps, Base):
    """A few real steps on the target machine, for one configuration.

    key: of everything that decides how fast and how large a pass is; promises for the same key use its measurement.
    hyperparameters: resolved. machine: type that it was run on. measurement: what was measured; promise: what the
    estimate says with it. progress: 0…1; words: what it is doing. attempt: fences overtaken runs.
    """

    __tablename__ = "estimate_probes"
    __table_args__ = (
        enum_check("status", ProbeStatus),
        CheckConstraint("progress between 0 and 1", name="progress"),
        CheckConstraint("status <> 'done' or (measurement is not null and ended_at is not null)", name="done"),
        CheckConstraint("status <> 'failed' or (error_code is not null and error_message is not null)", name="failed"),
        Index("estimate_probes_workspace_id_created_at_idx", "workspace_id", text("created_at desc")),
        Index("estimate_probes_workspace_id_key_idx", "workspace_id", "key"),
        Index("estimate_probes_dataset_id_idx", "dataset_id"),
        Index("estimate_probes_created_by_idx", "created_by", postgresql_where=text("created_by is not null")),
    )

    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    dataset_sha256: Mapped[str]
    base_model: Mapped[str]
    preset_id: Mapped[str]
    overrides: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    hyperparameters: Mapped[dict[str, Any]]
    gpu_config: Mapped[dict[str, Any]]
    key: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=ProbeStatus.QUEUED)
    progress: Mapped[Decimal] = mapped_column(Numeric(5, 4), server_default=text("0"))
    words: Mapped[str | None]
    host: Mapped[str | None]
    machine: Mapped[str | None]
    measurement: Mapped[dict[str, Any] | None]
    promise: Mapped[dict[str, Any] | None]
    cancel_requested_at: Mapped[datetime | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class DatasetLengths(HasId, InWorkspace, HasTimestamps, Base):
    """How long a dataset's records are with one tokenizer, counted in the background.

    rows: `[[tokens, trained tokens, records]…]`, null until counted. error: why it could not be.
    """

    __tablename__ = "dataset_lengths"
    __table_args__ = (
        UniqueConstraint("dataset_id", "dataset_sha256", "tokenizer_sha256", name="dataset_lengths_key"),
        CheckConstraint("(rows is null) = (conversations is null)", name="rows"),
        Index("dataset_lengths_workspace_id_idx", "workspace_id", "dataset_id"),
    )

    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    dataset_sha256: Mapped[str]
    tokenizer_sha256: Mapped[str]
    base_model: Mapped[str]
    rows: Mapped[list[Any] | None]
    conversations: Mapped[BigInt | None]
    error: Mapped[str | None]
