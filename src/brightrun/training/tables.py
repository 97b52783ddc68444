"""Training jobs, their attempts, the curves they draw and the log they keep."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Double, ForeignKey, Index, Numeric, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from brightrun.db.base import Base, BigInt, HasId, HasTimestamps, InWorkspace, Money, enum_check


class JobStatus(StrEnum):
    """`queued → initializing → running → completed | failed | cancelled`; `interrupted` goes on by itself."""

    QUEUED = "queued"
    INITIALIZING = "initializing"
    """The run directory is being made."""
    RUNNING = "running"
    """A trainer works, or its result is being stored."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """Stopped from outside; resumes from its last checkpoint."""
    PAUSED = "paused"


ACTIVE = (JobStatus.INITIALIZING, JobStatus.RUNNING)
"""A supervisor is responsible for the job."""
WAITING = (JobStatus.QUEUED, JobStatus.INTERRUPTED)
"""A supervisor may start it."""
ENDED = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


class JobStage(StrEnum):
    PREPROCESSING = "preprocessing"
    MODEL_LOADING = "model_loading"
    TRAINING = "training"
    FINALIZING = "finalizing"


class PresetId(StrEnum):
    CONSERVATIVE = "conservative"
    BALANCED = "balanced"
    AGGRESSIVE = "aggressive"
    CUSTOM = "custom"


class JobPriority(StrEnum):
    """Which of the jobs that wait starts first; between workspaces it counts before their fair shares."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class Outcome(StrEnum):
    """How an attempt ended."""

    DONE = "done"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    CANCELLED = "cancelled"


class SeriesKind(StrEnum):
    TRAIN = "train"
    HELDOUT = "heldout"


class EventSource(StrEnum):
    """Who wrote a line of a job's log."""

    TRAINER = "trainer"
    """An event of events.jsonl; its `seq` is the trainer's own."""
    LOG = "log"
    """A line of trainer.log; its `seq` is where in the file it begins."""
    SUPERVISOR = "supervisor"


class TrainingJob(HasId, InWorkspace, HasTimestamps, Base):
    """One training run: what was asked for, where it is, what it cost, how it ended.

    overrides: hyperparameters that the user set on top of the preset; hyperparameters: all of them, as they run.
    gpu_config: `{type, count, price_per_gpu_hour_usd, …}`, frozen at creation. estimate: the promise at creation;
    actual: what became of it (`estimates/scoring.py`).
    dataset_sha256: of the bytes that were validated when the job was created; other bytes are not trained on.
    progress: 0…100, never goes back. trained_at: the trainer is done; the model is being stored.
    max_cost: USD that it may cost in all; it saves and stops there. budget_override: who let it pass the workspace's
    budget, when and why. template_id: what it was started with. acknowledged: the warnings that were shown before the
    start and accepted, `[{code, text}]`. retry_of: the failed job that this one was started instead of, with another
    configuration.
    host: the machine (data directory) whose disk has the run directory. run_number: how often one was made.
    lease_owner, lease_expires_at: the supervisor that follows the job; only it may write the run's state.
    attempt: number of the newest attempt. event_offset, last_event_seq, log_offset: how far the run's files are read.
    checkpoint_step: newest whole checkpoint; checkpoints: all that are kept. fruitless: interruptions in a row without
    a new one. pause_requested_at: asked to pause, and not paused yet. cancel_saves: a cancelled run saves first.
    resume_step, run_changes: from where, and with which other hyperparameters, the next attempt goes on.
    own_failures: failures that the run itself caused, since it was created or retried by hand.
    archived_at: put away, out of the lists.
    next_attempt_at: not started before. waiting_reason: why a queued job does not start.
    """

    __tablename__ = "training_jobs"
    __table_args__ = (
        enum_check("status", JobStatus),
        enum_check("stage", JobStage),
        enum_check("preset_id", PresetId),
        enum_check("priority", JobPriority),
        CheckConstraint("char_length(name) between 1 and 255", name="name_length"),
        CheckConstraint("char_length(cancel_note) <= 2000", name="cancel_note_length"),
        CheckConstraint("progress between 0 and 100", name="progress"),
        CheckConstraint("max_cost > 0", name="max_cost"),
        CheckConstraint("current_cost >= 0 and final_cost >= 0", name="cost"),
        CheckConstraint("status <> 'failed' or (error_code is not null and error_message is not null)", name="failed"),
        CheckConstraint("status <> 'completed' or (completed_at is not null and progress = 100)", name="completed"),
        CheckConstraint("(lease_owner is null) = (lease_expires_at is null)", name="lease"),
        CheckConstraint("archived_at is null or status in ('completed', 'failed', 'cancelled')", name="archived"),
        UniqueConstraint("workspace_id", "idempotency_key"),
        Index("training_jobs_workspace_id_created_at_idx", "workspace_id", text("created_at desc")),
        Index("training_jobs_workspace_id_status_idx", "workspace_id", "status"),
        Index(
            "training_jobs_shown_idx",
            "workspace_id",
            text("created_at desc"),
            text("id desc"),
            postgresql_where=text("archived_at is null"),
        ),
        Index("training_jobs_workspace_id_choices_idx", "workspace_id", "dataset_id", "base_model", "created_by"),
        Index("training_jobs_dataset_id_idx", "dataset_id"),
        Index("training_jobs_retry_of_idx", "retry_of", postgresql_where=text("retry_of is not null")),
        Index("training_jobs_template_id_idx", "template_id", postgresql_where=text("template_id is not null")),
        Index("training_jobs_created_by_idx", "created_by", postgresql_where=text("created_by is not null")),
        Index(
            "training_jobs_open_idx",
            "queued_at",
            postgresql_where=text("status in ('queued', 'interrupted', 'initializing', 'running')"),
        ),
        Index(
            "training_jobs_run_dir_idx",
            "host",
            "completed_at",
            postgresql_where=text("status = 'completed' and run_dir is not null"),
        ),
    )

    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="RESTRICT"))
    dataset_sha256: Mapped[str]
    name: Mapped[str]
    preset_id: Mapped[str]
    base_model: Mapped[str]
    seed: Mapped[BigInt]
    overrides: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    hyperparameters: Mapped[dict[str, Any]]
    rules_fired: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    gpu_config: Mapped[dict[str, Any]]
    price_per_hour: Mapped[Money]
    estimate: Mapped[dict[str, Any]]
    actual: Mapped[dict[str, Any] | None]
    idempotency_key: Mapped[str | None]
    request_hash: Mapped[str | None]
    retry_of: Mapped[UUID | None] = mapped_column(ForeignKey("training_jobs.id", ondelete="SET NULL"))
    template_id: Mapped[UUID | None]
    acknowledged: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))

    status: Mapped[str] = mapped_column(server_default=JobStatus.QUEUED)
    priority: Mapped[str] = mapped_column(server_default=JobPriority.NORMAL)
    stage: Mapped[str | None]
    progress: Mapped[Decimal] = mapped_column(Numeric(6, 3), server_default=text("0"))
    current_epoch: Mapped[float] = mapped_column(Double, server_default=text("0"))
    total_epochs: Mapped[int]
    current_step: Mapped[int] = mapped_column(server_default=text("0"))
    total_steps: Mapped[int | None]
    current_metrics: Mapped[dict[str, Any] | None]
    queued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    estimated_completion_at: Mapped[datetime | None]
    trained_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    archived_at: Mapped[datetime | None]
    current_cost: Mapped[Money] = mapped_column(server_default=text("0"))
    final_cost: Mapped[Money | None]
    max_cost: Mapped[Money | None]
    budget_override: Mapped[dict[str, Any] | None]
    waiting_reason: Mapped[str | None]

    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    error_advice: Mapped[str | None]
    error_evidence: Mapped[str | None]
    cancel_requested_at: Mapped[datetime | None]
    cancel_reason: Mapped[str | None]
    cancel_note: Mapped[str | None]
    cancel_saves: Mapped[bool] = mapped_column(server_default=text("true"))
    pause_requested_at: Mapped[datetime | None]

    executor: Mapped[str] = mapped_column(server_default="local")
    host: Mapped[str | None]
    run_dir: Mapped[str | None]
    run_number: Mapped[int] = mapped_column(server_default=text("0"))
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    event_offset: Mapped[BigInt] = mapped_column(server_default=text("0"))
    last_event_seq: Mapped[BigInt] = mapped_column(server_default=text("0"))
    log_offset: Mapped[BigInt] = mapped_column(server_default=text("0"))
    checkpoint_step: Mapped[int] = mapped_column(server_default=text("0"))
    checkpoints: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    resume_step: Mapped[int | None]
    run_changes: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    fruitless: Mapped[int] = mapped_column(server_default=text("0"))
    own_failures: Mapped[int] = mapped_column(server_default=text("0"))
    next_attempt_at: Mapped[datetime | None]

    artifact_id: Mapped[UUID | None]
    heldout_loss_base: Mapped[float | None] = mapped_column(Double)
    heldout_loss_adapter: Mapped[float | None] = mapped_column(Double)
    heldout_conversations: Mapped[int | None]
    heldout_tokens: Mapped[BigInt | None]
    train_loss_first: Mapped[float | None] = mapped_column(Double)
    train_loss_last: Mapped[float | None] = mapped_column(Double)
    result: Mapped[dict[str, Any] | None]


class TrainingAttempt(HasId, InWorkspace, Base):
    """One trainer process of a job.

    pid, process_started: what tells the process from a later one of the same pid; both null for the moment between
    deciding to launch and having launched. seconds: what is charged. checkpoint_before, checkpoint_after: steps.
    step_reached: last step it reported; saved_at: when its last whole checkpoint was written. What came later is done
    again when it was interrupted.
    events_before: number of the run's last event when it was launched; what follows is this attempt's own.
    exit_code: null when nobody saw it (the supervisor had died too); then `reason` comes from the run's own events.
    """

    __tablename__ = "training_attempts"
    __table_args__ = (
        enum_check("outcome", Outcome),
        CheckConstraint("(ended_at is null) = (outcome is null)", name="ended"),
        CheckConstraint("cost >= 0 and seconds >= 0", name="cost"),
        UniqueConstraint("job_id", "n"),
        Index("training_attempts_workspace_id_started_at_idx", "workspace_id", "started_at"),
    )

    job_id: Mapped[UUID] = mapped_column(ForeignKey("training_jobs.id", ondelete="CASCADE"))
    n: Mapped[int]
    host: Mapped[str]
    devices: Mapped[str | None]
    pid: Mapped[int | None]
    process_started: Mapped[float | None] = mapped_column(Double)
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
    exit_code: Mapped[int | None]
    outcome: Mapped[str | None]
    reason: Mapped[str | None]
    message: Mapped[str | None]
    events_before: Mapped[BigInt] = mapped_column(server_default=text("0"))
    checkpoint_before: Mapped[int] = mapped_column(server_default=text("0"))
    checkpoint_after: Mapped[int | None]
    step_reached: Mapped[int] = mapped_column(server_default=text("0"))
    saved_at: Mapped[datetime | None]
    seconds: Mapped[Decimal | None] = mapped_column(Numeric(14, 3))
    cost: Mapped[Money | None]


class TrainingMachine(Base):
    """A machine whose worker starts jobs. Belongs to nobody, and says of its jobs only what the queue needs.

    places: jobs at once. busy: of each place that is taken, `{workspace, at, low, high, measured}`: whose it is (an
    id), when it is expected to be free, and whether that comes from a measured rate or from the promise.
    """

    __tablename__ = "training_machines"
    __table_args__ = (CheckConstraint("places >= 0", name="places"),)

    host: Mapped[str] = mapped_column(primary_key=True)
    places: Mapped[int]
    busy: Mapped[list[dict[str, Any]]] = mapped_column(server_default=text("'[]'"))
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TrainingBacklog(Base):
    """How long a job was promised to take, seconds. Belongs to nobody: whoever waits behind it may know no more."""

    __tablename__ = "training_backlog"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("training_jobs.id", ondelete="CASCADE"), primary_key=True)
    seconds: Mapped[float] = mapped_column(Double)
    seconds_low: Mapped[float] = mapped_column(Double)
    seconds_high: Mapped[float] = mapped_column(Double)


class MetricsPoint(InWorkspace, Base):
    """One point of a curve. A step that was run again after a resume replaces the earlier one.

    throughput: tokens/s without padding. memory_bytes: resident; gpu_memory_bytes: peak on the device.
    gpu_utilization: percent of the time that it computed. cpu_percent: 100 is one core. reward_margin, _accuracy: with
    DPO, how far and how often the chosen answers are ahead.
    run, seq: the event it comes from, so that reading the same events twice changes nothing.
    """

    __tablename__ = "metrics_points"
    __table_args__ = (
        enum_check("kind", SeriesKind),
        Index("metrics_points_workspace_id_idx", "workspace_id"),
    )

    job_id: Mapped[UUID] = mapped_column(ForeignKey("training_jobs.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    epoch: Mapped[float] = mapped_column(Double)
    training_loss: Mapped[float | None] = mapped_column(Double)
    validation_loss: Mapped[float | None] = mapped_column(Double)
    learning_rate: Mapped[float | None] = mapped_column(Double)
    gradient_norm: Mapped[float | None] = mapped_column(Double)
    trained_tokens: Mapped[BigInt | None]
    throughput: Mapped[float | None] = mapped_column(Double)
    memory_bytes: Mapped[BigInt | None]
    gpu_memory_bytes: Mapped[BigInt | None]
    gpu_utilization: Mapped[float | None] = mapped_column(Double)
    cpu_percent: Mapped[float | None] = mapped_column(Double)
    reward_margin: Mapped[float | None] = mapped_column(Double)
    reward_accuracy: Mapped[float | None] = mapped_column(Double)
    recorded_at: Mapped[datetime]
    run: Mapped[int]
    seq: Mapped[BigInt]


class JobEvent(HasId, InWorkspace, Base):
    """A line of a job's log. type: stage, checkpoint, sample, warning, done, failed, log, or what a supervisor did."""

    __tablename__ = "job_events"
    __table_args__ = (
        enum_check("source", EventSource),
        CheckConstraint("level in ('info', 'warning', 'error')", name="level"),
        UniqueConstraint("job_id", "source", "run", "seq"),
        Index("job_events_job_id_recorded_at_idx", "job_id", "recorded_at", "id"),
        Index("job_events_workspace_id_idx", "workspace_id"),
    )

    job_id: Mapped[UUID] = mapped_column(ForeignKey("training_jobs.id", ondelete="CASCADE"))
    source: Mapped[str]
    run: Mapped[int]
    seq: Mapped[BigInt]
    attempt: Mapped[int]
    type: Mapped[str]
    level: Mapped[str] = mapped_column(server_default="info")
    message: Mapped[str]
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    recorded_at: Mapped[datetime]
