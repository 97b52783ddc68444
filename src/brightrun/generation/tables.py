"""Batches of conversations, their items, what was written and what was not, and the conversations themselves."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Double, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from brightrun.db.base import Base, BigInt, HasId, HasTimestamps, InWorkspace, Money, enum_check
from brightrun.llm.calls import Outcome, Via


class BatchStatus(StrEnum):
    """`queued → processing → completed`; it can be paused, cancelled, or stopped by a failure, and go on from each."""

    QUEUED = "queued"
    PROCESSING = "processing"
    PAUSED = "paused"
    """By somebody, or by its cap (`stopped_reason` says which)."""
    COMPLETED = "completed"
    """Every item is written or has failed."""
    FAILED = "failed"
    """Stopped: the provider cannot be used, or an item failed where the batch was to stop on errors."""
    CANCELLED = "cancelled"


RUNNABLE = (BatchStatus.QUEUED, BatchStatus.PROCESSING)


class StoppedReason(StrEnum):
    """Why the last run of a batch ended."""

    FINISHED = "finished"
    CAP = "cap"
    CANCELLED = "cancelled"
    ERROR = "error"
    PAUSED = "paused"


class BatchPriority(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class ErrorHandling(StrEnum):
    CONTINUE = "continue"
    STOP = "stop"


class ItemStatus(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    """Leased by a run: its request is about to leave, or is on its way."""
    WRITTEN = "written"
    FAILED = "failed"


class ConversationStatus(StrEnum):
    PENDING_REVIEW = "pending_review"
    APPROVED = "approved"
    NEEDS_REVISION = "needs_revision"
    REJECTED = "rejected"
    ARCHIVED = "archived"


class TurnRole(StrEnum):
    USER = "user"
    ASSISTANT = "assistant"


class LogLevel(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class BatchJob(HasId, InWorkspace, HasTimestamps, Base):
    """A plan that is being carried out.

    plan: what was asked, without its items. plan_hash: SHA-256 of plan, items, pack and prompts: the same plan again
    goes on with this batch. systems: system parts by their SHA-256; items name theirs. provider: `anthropic` or
    `openai`. via: one request at a time, or the provider's batches at half the price. concurrency: requests on their
    way at once, over all processes. max_attempts: how often one item may be sent. max_cost: USD the whole plan may
    cost, requests of unknown outcome counted at their bound. reserved: USD that is spent or may be: settled costs, and
    the bounds of what is on its way or unknown; kept only where there is a cap. quote: the promise, frozen.
    prices: the plan's own, where it gives some. stop_requested: `pause` or `cancel`, seen by the run that is at it.
    origin: `cli`, `api` or `page`; a batch of the command line is run by the command, not by a worker, until somebody
    resumes it elsewhere.
    """

    __tablename__ = "batch_jobs"
    __table_args__ = (
        enum_check("status", BatchStatus),
        enum_check("stopped_reason", StoppedReason),
        enum_check("priority", BatchPriority),
        enum_check("error_handling", ErrorHandling),
        enum_check("via", Via),
        CheckConstraint("char_length(name) between 1 and 255", name="name_length"),
        CheckConstraint("concurrency between 1 and 1000", name="concurrency"),
        CheckConstraint("max_attempts between 1 and 20", name="max_attempts"),
        CheckConstraint("max_cost > 0", name="max_cost"),
        CheckConstraint("total_items > 0", name="total_items"),
        CheckConstraint("stop_requested in ('pause', 'cancel')", name="stop_requested"),
        CheckConstraint("status <> 'completed' or completed_at is not null", name="completed"),
        UniqueConstraint("workspace_id", "idempotency_key"),
        Index("batch_jobs_workspace_id_created_at_idx", "workspace_id", text("created_at desc")),
        Index("batch_jobs_workspace_id_plan_hash_idx", "workspace_id", "plan_hash"),
        Index("batch_jobs_created_by_idx", "created_by", postgresql_where=text("created_by is not null")),
        Index("batch_jobs_open_idx", "created_at", postgresql_where=text("status in ('queued', 'processing')")),
    )

    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    name: Mapped[str]
    origin: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=BatchStatus.QUEUED)
    stopped_reason: Mapped[str | None]
    stop_requested: Mapped[str | None]
    priority: Mapped[str] = mapped_column(server_default=BatchPriority.NORMAL)
    plan: Mapped[dict[str, Any]]
    plan_hash: Mapped[str]
    pack_key: Mapped[str]
    pack_version: Mapped[str]
    systems: Mapped[dict[str, Any]]
    provider: Mapped[str]
    model: Mapped[str]
    via: Mapped[str] = mapped_column(server_default=Via.SYNC)
    concurrency: Mapped[int] = mapped_column(server_default=text("3"))
    error_handling: Mapped[str] = mapped_column(server_default=ErrorHandling.CONTINUE)
    max_attempts: Mapped[int] = mapped_column(server_default=text("3"))
    max_cost: Mapped[Money | None]
    reserved: Mapped[Money] = mapped_column(server_default=text("0"))
    quote: Mapped[dict[str, Any]]
    prices: Mapped[dict[str, Any] | None]
    total_items: Mapped[int]
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    idempotency_key: Mapped[str | None]
    request_hash: Mapped[str | None]


class BatchItem(HasId, InWorkspace, Base):
    """One conversation that a batch is to have.

    position: from 1. replicate: tells wanted repetitions of the same cell apart. work_key: the ledger's hash of the
    request (first attempt's) and the replicate: the same work is not bought twice, in whichever batch it stands.
    system_hash: which of the batch's system parts; prompt: the variable part as it is sent. turns_min, turns_max:
    messages asked for. bound: USD that one request can cost at most; null when the price is unknown.
    attempts: answers and failures so far, of this item. retry_at: not sent before. run_id: the run that leases it.
    request_id: its newest request in the ledger. message_batch_id: the provider's batch that holds it now.
    reused: written from an answer that was bought before this batch.
    """

    __tablename__ = "batch_items"
    __table_args__ = (
        enum_check("status", ItemStatus),
        enum_check("failure_class", Outcome),
        CheckConstraint("(status = 'failed') = (failure_class is not null)", name="failed"),
        CheckConstraint("status <> 'processing' or run_id is not null", name="leased"),
        CheckConstraint("attempts >= 0", name="attempts"),
        UniqueConstraint("batch_job_id", "position"),
        Index("batch_items_batch_job_id_status_idx", "batch_job_id", "status", "position"),
        Index("batch_items_workspace_id_work_key_idx", "workspace_id", "work_key"),
        Index(
            "batch_items_message_batch_id_idx",
            "message_batch_id",
            postgresql_where=text("message_batch_id is not null"),
        ),
        Index(
            "batch_items_conversation_id_idx", "conversation_id", postgresql_where=text("conversation_id is not null")
        ),
    )

    batch_job_id: Mapped[UUID] = mapped_column(ForeignKey("batch_jobs.id", ondelete="CASCADE"))
    position: Mapped[int]
    persona_key: Mapped[str]
    arc_key: Mapped[str]
    topic_key: Mapped[str]
    template_key: Mapped[str]
    tier: Mapped[str]
    replicate: Mapped[int]
    source: Mapped[dict[str, Any] | None]
    work_key: Mapped[str]
    system_hash: Mapped[str]
    prompt: Mapped[str]
    max_tokens: Mapped[int]
    turns_min: Mapped[int]
    turns_max: Mapped[int]
    bound: Mapped[Money | None]
    status: Mapped[str] = mapped_column(server_default=ItemStatus.PENDING)
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    reused: Mapped[bool] = mapped_column(server_default=text("false"))
    failure_class: Mapped[str | None]
    failure_message: Mapped[str | None]
    retry_at: Mapped[datetime | None]
    run_id: Mapped[UUID | None]
    request_id: Mapped[UUID | None]
    message_batch_id: Mapped[UUID | None] = mapped_column(ForeignKey("message_batches.id", ondelete="SET NULL"))
    conversation_id: Mapped[UUID | None] = mapped_column(ForeignKey("conversations.id", ondelete="SET NULL"))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class BatchRun(HasId, InWorkspace, Base):
    """A process at work on a batch. While it lives it holds an advisory lock on `lock_key`: a run whose lock is free is
    dead, however it died, and its leases are void.

    sent, reused, failed: of this run, written when it ends.
    """

    __tablename__ = "batch_runs"
    __table_args__ = (
        enum_check("stopped_reason", StoppedReason),
        UniqueConstraint("lock_key"),
        Index("batch_runs_batch_job_id_idx", "batch_job_id", "started_at"),
        Index("batch_runs_workspace_id_idx", "workspace_id"),
    )

    batch_job_id: Mapped[UUID] = mapped_column(ForeignKey("batch_jobs.id", ondelete="CASCADE"))
    lock_key: Mapped[BigInt]
    host: Mapped[str]
    pid: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
    stopped_reason: Mapped[str | None]
    sent: Mapped[int] = mapped_column(server_default=text("0"))


class MessageBatchStatus(StrEnum):
    INTENDED = "intended"
    """Written down; whether the provider has made it is not known yet."""
    CREATED = "created"
    COLLECTED = "collected"
    """Ended, and every result of it is kept."""
    LOST = "lost"
    """The provider never made it: its items went back."""


class MessageBatch(HasId, InWorkspace, Base):
    """A batch at the provider. provider_id: null until its creation was answered, or it was found and adopted."""

    __tablename__ = "message_batches"
    __table_args__ = (
        enum_check("status", MessageBatchStatus),
        CheckConstraint("status not in ('created', 'collected') or provider_id is not null", name="provider_id"),
        Index("message_batches_batch_job_id_idx", "batch_job_id", "status"),
        Index("message_batches_workspace_id_idx", "workspace_id"),
    )

    batch_job_id: Mapped[UUID] = mapped_column(ForeignKey("batch_jobs.id", ondelete="CASCADE"))
    provider_id: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default=MessageBatchStatus.INTENDED)
    requests: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]


class Conversation(HasId, InWorkspace, HasTimestamps, Base):
    """A conversation that a model wrote, parsed and checked. Its raw answer is in the ledger, under `request_id`.

    title: the client's name and the topic. metadata: the answer's `conversation_metadata` whole; client_persona is what
    was asked for, should the model have written another. notes: what was odd about the answer and no failure.
    scaffolding: keys and names of persona, arc, topic and template, pack and version, as they were. source: title, ref
    and SHA-256 of the text it was written from. work_key: as of the item it was written for.
    """

    __tablename__ = "conversations"
    __table_args__ = (
        enum_check("status", ConversationStatus),
        CheckConstraint("turn_count > 0", name="turn_count"),
        Index("conversations_workspace_id_created_at_idx", "workspace_id", text("created_at desc"), text("id desc")),
        Index("conversations_workspace_id_status_idx", "workspace_id", "status"),
        UniqueConstraint("workspace_id", "work_key"),
        Index("conversations_workspace_id_cell_idx", "workspace_id", "pack_key", "persona_key", "arc_key", "topic_key"),
        Index("conversations_batch_job_id_idx", "batch_job_id", postgresql_where=text("batch_job_id is not null")),
        Index("conversations_created_by_idx", "created_by", postgresql_where=text("created_by is not null")),
    )  # fmt: skip

    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    batch_job_id: Mapped[UUID | None] = mapped_column(ForeignKey("batch_jobs.id", ondelete="SET NULL"))
    request_id: Mapped[UUID]
    work_key: Mapped[str]
    title: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=ConversationStatus.PENDING_REVIEW)
    pack_key: Mapped[str]
    persona_key: Mapped[str]
    arc_key: Mapped[str]
    topic_key: Mapped[str]
    template_key: Mapped[str]
    tier: Mapped[str]
    scaffolding: Mapped[dict[str, Any]]
    details: Mapped[dict[str, Any]]
    notes: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    source: Mapped[dict[str, Any] | None]
    turn_count: Mapped[int]
    starting_emotion: Mapped[str | None]
    ending_emotion: Mapped[str | None]
    emotional_intensity_start: Mapped[float | None] = mapped_column(Double)
    emotional_intensity_end: Mapped[float | None] = mapped_column(Double)
    model: Mapped[str]
    total_tokens: Mapped[int]
    cost_usd: Mapped[Money | None]
    generation_duration_ms: Mapped[int | None]


class ConversationTurn(InWorkspace, Base):
    __tablename__ = "conversation_turns"
    __table_args__ = (
        enum_check("role", TurnRole),
        CheckConstraint("turn_number > 0", name="turn_number"),
        Index("conversation_turns_workspace_id_idx", "workspace_id"),
    )

    conversation_id: Mapped[UUID] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True)
    turn_number: Mapped[int] = mapped_column(primary_key=True)
    role: Mapped[str]
    content: Mapped[str]
    emotional_context: Mapped[dict[str, Any]]


class FailedGeneration(HasId, InWorkspace, Base):
    """One request that gave no conversation. Its raw answer, where one came, is in the ledger under `request_id`.

    failure_class: the class; reason: finer (`roles`, `text_cut_off`, the category of a refusal). attempt: which of its
    item it was; resolved_at: when the item was written after all.
    """

    __tablename__ = "failed_generations"
    __table_args__ = (
        enum_check("failure_class", Outcome),
        Index(
            "failed_generations_workspace_id_created_at_idx", "workspace_id", text("created_at desc"), text("id desc")
        ),
        Index("failed_generations_workspace_id_class_idx", "workspace_id", "failure_class"),
        Index("failed_generations_batch_item_id_idx", "batch_item_id"),
        Index("failed_generations_batch_job_id_idx", "batch_job_id"),
    )

    batch_job_id: Mapped[UUID] = mapped_column(ForeignKey("batch_jobs.id", ondelete="CASCADE"))
    batch_item_id: Mapped[UUID] = mapped_column(ForeignKey("batch_items.id", ondelete="CASCADE"))
    request_id: Mapped[UUID | None]
    attempt: Mapped[int]
    failure_class: Mapped[str]
    reason: Mapped[str]
    message: Mapped[str]
    stop_reason: Mapped[str | None]
    model: Mapped[str]
    max_tokens: Mapped[int]
    input_tokens: Mapped[int | None]
    output_tokens: Mapped[int | None]
    cost_usd: Mapped[Money | None]
    resolved_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class GenerationLog(HasId, InWorkspace, Base):
    """A line of a batch's log, of one item or of the whole. event: `written`, `failed`, `again`, `paused` …"""

    __tablename__ = "generation_logs"
    __table_args__ = (
        enum_check("level", LogLevel),
        Index("generation_logs_batch_job_id_created_at_idx", "batch_job_id", "created_at", "id"),
        Index("generation_logs_workspace_id_idx", "workspace_id"),
    )

    batch_job_id: Mapped[UUID] = mapped_column(ForeignKey("batch_jobs.id", ondelete="CASCADE"))
    position: Mapped[int | None]
    event: Mapped[str]
    level: Mapped[str] = mapped_column(server_default=LogLevel.INFO)
    message: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
