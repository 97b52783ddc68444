"""What the training API takes and gives. Recorded money is USD as text; an estimate is a number."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from brightrun.costs.schemas import Usd
from brightrun.datasets.schemas import Name
from brightrun.formats.hyperparameters import ADJUSTABLE
from brightrun.training.failures.classes import FailureClass
from brightrun.training.failures.remedies import ActionKind
from brightrun.training.tables import EventSource, JobPriority, JobStage, JobStatus, Outcome, PresetId, SeriesKind
from brightrun.web.text import STORABLE


class GpuConfigIn(BaseModel):
    """type: an id of the GPU catalogue. count: devices."""

    model_config = ConfigDict(extra="forbid")

    type: Annotated[str, StringConstraints(min_length=1, max_length=100), STORABLE]
    count: Annotated[int, Field(ge=1, le=8)] = 1


HyperparameterValue = bool | int | float | str | list[str]
Overrides = Annotated[
    dict[str, HyperparameterValue],
    Field(max_length=64, description="On top of the preset; names and ranges: GET /api/training/options"),
]
PresetName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=50),
    Field(description="conservative, balanced, aggressive or custom; fast and quality are understood too"),
]
BaseModelName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class EstimateIn(BaseModel):
    """Give a dataset, or the numbers that matter of one. Without gpu_config: this machine."""

    model_config = ConfigDict(extra="forbid")

    dataset_id: UUID | None = None
    training_pairs: Annotated[int | None, Field(ge=1, le=1_000_000_000)] = None
    tokens: Annotated[int | None, Field(ge=1, le=1_000_000_000_000)] = None
    preset_id: PresetName = "balanced"
    hyperparameters: Overrides = {}
    gpu_config: GpuConfigIn | None = None
    base_model: BaseModelName | None = None
    method: Annotated[
        Literal["analytic", "documented"],
        Field(description="analytic: our model, with memory and intervals; documented: the earlier product's formula"),
    ] = "analytic"


MaxCost = Annotated[
    Decimal,
    Field(gt=0, le=100_000, decimal_places=6, description="It saves a checkpoint and stops before it costs more"),
]
OverrideReason = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=20, max_length=1000),
    STORABLE,
    Field(description="Why it may pass the month's budget; for owners and admins, kept in the audit log"),
]


class JobCreate(BaseModel):
    """base_model: `tiny`, `tiny-random`, a folder's name below the base-model directory, or a hub id.

    template_id: a saved configuration; what is given besides goes before it, hyperparameters are joined.
    """

    model_config = ConfigDict(extra="forbid")

    dataset_id: UUID
    template_id: UUID | None = None
    preset_id: PresetName = "balanced"
    hyperparameters: Overrides = {}
    gpu_config: GpuConfigIn | None = None
    base_model: BaseModelName | None = None
    name: Name | None = None
    acknowledged: Annotated[
        list[Annotated[str, StringConstraints(max_length=100)]],
        Field(max_length=100, description="Codes of the estimate's `warnings` that somebody has read; kept in the job"),
    ] = []
    seed: Annotated[int | None, Field(ge=0, le=4_294_967_295)] = None
    promise_digest: Annotated[
        str | None,
        Field(max_length=64, description="`digest` of the promise that was shown; another one now answers 409"),
    ] = None
    max_cost_usd: MaxCost | None = None
    budget_override_reason: OverrideReason | None = None
    priority: JobPriority = JobPriority.NORMAL


CancelReason = Literal[
    "loss_not_decreasing", "cost_too_high", "wrong_configuration", "testing", "better_results_elsewhere",
    "client_request", "no_longer_needed", "other",
]  # fmt: skip


class JobCancel(BaseModel):
    """reason: one of the list, or words of your own."""

    reason: Annotated[
        Annotated[str, StringConstraints(strip_whitespace=True, max_length=200), STORABLE] | None,
        Field(examples=list(get_args(CancelReason))),
    ] = None
    note: Annotated[str, StringConstraints(max_length=2000), STORABLE] | None = None
    checkpoint: Annotated[
        bool, Field(description="Save a checkpoint first, to go on from later; false: stop at the next step")
    ] = True


class JobResume(BaseModel):
    """From where, and with what changed; both left out: from the newest checkpoint, as it was."""

    model_config = ConfigDict(extra="forbid")

    checkpoint_step: Annotated[
        int | None, Field(ge=1, le=1_000_000_000, description="One of the job's `checkpoints`")
    ] = None
    hyperparameters: Annotated[
        dict[str, HyperparameterValue],
        Field(max_length=64, description=f"Only what does not change the result: {', '.join(sorted(ADJUSTABLE))}"),
    ] = {}
    max_cost_usd: MaxCost | None = None
    budget_override_reason: OverrideReason | None = None


class AttemptOut(BaseModel):
    """One trainer process. seconds and cost_usd of a running one are up to now.

    lost_seconds, lost_usd: of an attempt that was interrupted or failed, what came after its last whole checkpoint and
    is done again; steps_lost: that many steps.
    """

    model_config = ConfigDict(from_attributes=True)

    n: int
    started_at: datetime
    ended_at: datetime | None
    exit_code: int | None
    outcome: Outcome | None
    reason: str | None
    message: str | None
    failure_class: FailureClass | None
    checkpoint_before: int
    checkpoint_after: int | None
    step_reached: int
    seconds: float
    cost_usd: Usd
    steps_lost: int
    lost_seconds: float
    lost_usd: Usd


class ChangeOut(BaseModel):
    """One line of a diff."""

    model_config = ConfigDict(from_attributes=True)

    field: str
    before: HyperparameterValue
    after: HyperparameterValue


class FixOut(BaseModel):
    """What would change. starts_anew: it changes what is learned, so that it makes a new job, linked to this one."""

    model_config = ConfigDict(from_attributes=True)

    why: str
    changes: list[ChangeOut]
    starts_anew: bool


class ActionOut(BaseModel):
    """The one button. retry, retry_with_fix: `POST /api/jobs/{id}/retry`; the others lead to `url`."""

    model_config = ConfigDict(from_attributes=True)

    kind: ActionKind
    label: str
    url: str | None


class FailureOut(BaseModel):
    """Why a job failed, in plain words. evidence: the line that shows it. fix: null where no change helps."""

    kind: FailureClass
    title: str
    cause: str
    evidence: str
    advice: str
    fix: FixOut | None
    action: ActionOut


class JobRetry(BaseModel):
    """apply_fix: with the change that `failure.fix` suggests."""

    model_config = ConfigDict(extra="forbid")

    apply_fix: bool = False
    budget_override_reason: OverrideReason | None = None


class InterruptionsOut(BaseModel):
    """count: attempts that were interrupted or failed; the rest: what was done in vain in all of them together."""

    count: int
    steps_lost: int
    lost_seconds: float
    lost_usd: Usd


class DatasetRef(BaseModel):
    id: UUID
    name: str
    format: str | None
    total_training_pairs: int | None
    total_tokens: int | None
    deleted: bool


class StartEstimate(BaseModel):
    """When a job that waits is expected to start, with an interval and what it is from.

    ahead: jobs before it, whoever's they are; running: places that are taken; places: those of all machines.
    reason: why nobody can tell; then the times are null.
    """

    at: datetime | None = None
    earliest: datetime | None = None
    latest: datetime | None = None
    seconds: float | None = None
    source: str | None = None
    reason: str | None = None
    ahead: int
    running: int
    places: int


class JobOut(BaseModel):
    """One job.

    progress: percent, never goes back. eta_seconds: from the measured rate; null where none is known yet.
    cost_usd: up to now, exact to the second; final_cost_usd once it has ended. promise: the estimate at creation,
    frozen; actual: what became of it, once the run is done.
    metrics: the latest point of the curves. series: the curves, thinned to about 500 points each; null in lists and
    in answers to writes, and at /metrics with as many points as asked for. cancelling: asked to stop, not stopped yet.
    pausing: asked to pause, not paused yet. stop_overdue: asked to stop, and not confirmed within a minute.
    can: what may be done with it now. attempts, interruptions: null in lists. waiting_reason: why it has not started.
    tags; notes: how many there are. archived_at: put away, out of the lists; it can be brought back.
    position: in the queue of the whole installation, 1 being the next; start_estimate: when that will be. Both null for
    a job that does not wait.
    checkpoints: steps that it can go on from. failure: of a failed job. retry_of, retried_as: the failed job that this
    one was started instead of, and the newest one that was started instead of this (null in lists). template_id: of the
    saved configuration that it was started with. acknowledged: warnings that were shown before the start and accepted.
    train_loss_first, _last: per trained token, over the first and last tenth of the steps. heldout_loss_*: per trained
    token of conversations that training never saw; heldout_conversations, heldout_tokens are their n.
    """

    id: UUID
    name: str
    status: JobStatus
    stage: JobStage | None
    progress: float
    step: int
    total_steps: int | None
    epoch: float
    total_epochs: int
    eta_seconds: float | None
    cost_usd: Usd
    final_cost_usd: Usd | None
    price_per_hour_usd: Usd
    max_cost_usd: Usd | None
    budget_override: dict[str, Any] | None
    cancelling: bool
    stop_overdue: bool
    pausing: bool
    waiting_reason: str | None
    tags: list[str] = []
    notes: int = 0
    archived_at: datetime | None
    priority: JobPriority
    position: int | None = None
    start_estimate: StartEstimate | None = None
    can: dict[str, bool]

    dataset_id: UUID
    dataset: DatasetRef
    preset_id: PresetId
    base_model: str
    seed: int
    hyperparameters: dict[str, Any]
    overrides: dict[str, Any]
    rules_fired: list[str]
    gpu_config: dict[str, Any]
    promise: dict[str, Any]
    actual: dict[str, Any] | None

    metrics: dict[str, Any] | None
    series: dict[SeriesKind, "SeriesOut"] | None = None
    training_loss: float | None
    validation_loss: float | None
    tokens_per_s: float | None
    train_loss_first: float | None
    train_loss_last: float | None
    heldout_loss_base: float | None
    heldout_loss_adapter: float | None
    heldout_conversations: int | None
    heldout_tokens: int | None
    checkpoint_step: int
    checkpoints: list[int]
    model_id: UUID | None

    error_code: str | None
    error_message: str | None
    error_advice: str | None
    error_evidence: str | None
    failure: FailureOut | None
    template_id: UUID | None
    acknowledged: list[dict[str, str]]
    retry_of: UUID | None
    retried_as: UUID | None = None
    cancel_reason: str | None
    cancel_note: str | None

    created_by: UUID | None
    created_at: datetime
    updated_at: datetime
    queued_at: datetime
    started_at: datetime | None
    trained_at: datetime | None
    completed_at: datetime | None
    next_attempt_at: datetime | None
    attempts: list[AttemptOut] | None = None
    interruptions: InterruptionsOut | None = None


class JobData(BaseModel):
    job: JobOut


class PriorityIn(BaseModel):
    """high: to give or to take it is for owners and admins. reason: kept in the job's log and the audit log."""

    model_config = ConfigDict(extra="forbid")

    priority: JobPriority
    reason: Annotated[str, StringConstraints(strip_whitespace=True, max_length=500), STORABLE] | None = None


class QueueOut(BaseModel):
    """jobs: those of the workspace that wait, in the order in which they will start.

    machines, places, busy: those of the installation that look for jobs, what they run at once, and how many places
    are taken. running, limit: jobs of the workspace at work, and how many it may have (null: any number).
    waiting_in_all: jobs that wait, whoever's they are.
    """

    jobs: list[JobOut]
    machines: int
    places: int
    busy: int
    running: int
    limit: int | None
    waiting_in_all: int


class QueueData(BaseModel):
    queue: QueueOut


class JobStats(BaseModel):
    total: int
    by_status: dict[JobStatus, int]
    active: int


class JobStatsData(BaseModel):
    stats: JobStats


class PointOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    step: int
    epoch: float
    training_loss: float | None
    validation_loss: float | None
    learning_rate: float | None
    gradient_norm: float | None
    trained_tokens: int | None
    throughput: float | None
    memory_bytes: int | None
    gpu_memory_bytes: int | None
    gpu_utilization: float | None
    cpu_percent: float | None
    reward_margin: float | None
    reward_accuracy: float | None
    recorded_at: datetime


class SeriesOut(BaseModel):
    """total: points there are; with more than asked for, each stretch keeps its lowest and its highest loss."""

    points: list[PointOut]
    total: int
    downsampled: bool


class MetricsData(BaseModel):
    """train: one point an optimiser step. heldout: one an evaluation, step 0 being the untouched base model."""

    series: dict[SeriesKind, SeriesOut]


class JobEventOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    source: EventSource
    seq: int
    attempt: int
    type: str
    level: Literal["info", "warning", "error"]
    message: str
    details: dict[str, Any]
    recorded_at: datetime
