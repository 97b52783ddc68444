"""What the API of generation takes and gives. Money is USD, as text with six decimals."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from brightrun.costs.schemas import Usd
from brightrun.generation.tables import (
    BatchPriority,
    BatchStatus,
    ConversationStatus,
    ErrorHandling,
    ItemStatus,
    StoppedReason,
)
from brightrun.llm.calls import Outcome, Via
from brightrun.web.text import STORABLE

Cap = Annotated[Decimal, Field(gt=0, lt=1_000_000, decimal_places=6)]


class QuoteIn(BaseModel):
    """plan: as a plan file: `pack`, `model`, and `items` or `quotas`."""

    model_config = ConfigDict(extra="forbid")

    plan: dict[str, Any]
    via: Via = Via.SYNC


class QuoteData(BaseModel):
    """now, batch: USD of the whole plan by each route; rest_now, rest_batch: of what is not there already; each with an
    interval, and the most that it can be. null where the price is unknown."""

    quote: dict[str, Any]


class BatchCreate(QuoteIn):
    """concurrency: requests on their way at once. max_cost_usd: the whole plan may cost this much and no more."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255), STORABLE] | None = None
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 16
    max_cost_usd: Cap | None = None
    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    error_handling: ErrorHandling = ErrorHandling.CONTINUE
    priority: BatchPriority = BatchPriority.NORMAL


class BatchResume(BaseModel):
    """max_cost_usd: a new cap. concurrency: another one from here on."""

    model_config = ConfigDict(extra="forbid")

    max_cost_usd: Cap | None = None
    concurrency: Annotated[int, Field(ge=1, le=1000)] | None = None


class RetryIn(BaseModel):
    """classes: which failures to send again; all unless given."""

    model_config = ConfigDict(extra="forbid")

    classes: Annotated[list[Outcome], Field(min_length=1, max_length=9)] | None = None


class BatchOut(BaseModel):
    """planned = written + pending + all of failed_by_class. cost_usd: settled, null while an answer's price is unknown;
    cost_unknown_max_usd: what requests of unknown end can have cost at most. running: whether a process is at it now.
    eta_seconds: at the rate of the last minutes; null when nothing runs. suggestions: what to do about failures.
    """

    id: UUID
    name: str
    status: BatchStatus
    stopped_reason: StoppedReason | None
    running: bool
    origin: str
    priority: BatchPriority
    pack: str
    provider: str
    model: str
    via: Via
    concurrency: int
    max_attempts: int
    error_handling: ErrorHandling
    planned: int
    written: int
    pending: int
    failed_by_class: dict[str, int]
    max_cost_usd: Usd | None
    cost_usd: Usd | None
    cost_unknown_max_usd: Usd
    quote: dict[str, Any]
    rate_per_s: float | None
    eta_seconds: float | None
    suggestions: dict[str, str]
    error_code: str | None
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None


class BatchData(BaseModel):
    batch: BatchOut


class RetryData(BaseModel):
    batch: BatchOut
    retried: int


class ItemOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    position: int
    persona_key: str
    arc_key: str
    topic_key: str
    template_key: str
    tier: str
    replicate: int
    status: ItemStatus
    attempts: int
    reused: bool
    failure_class: Outcome | None
    failure_message: str | None
    conversation_id: UUID | None
    updated_at: datetime


class LogOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    position: int | None
    event: str
    level: str
    message: str
    created_at: datetime


class FailureOut(BaseModel):
    """reason: finer than the class. resolved_at: when the conversation was written after all."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    batch_job_id: UUID
    batch_item_id: UUID
    position: int
    persona_key: str
    arc_key: str
    topic_key: str
    attempt: int
    failure_class: Outcome
    reason: str
    message: str
    suggestion: str
    stop_reason: str | None
    model: str
    max_tokens: int
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Usd | None
    resolved_at: datetime | None
    created_at: datetime


class FailureDetail(FailureOut):
    """system, prompt: as they were sent. raw_response: as it was received; null when nothing came."""

    template_key: str
    system: str | None
    prompt: str
    raw_response: str | None
    error: str | None


class FailureData(BaseModel):
    failure: FailureDetail


class ConversationOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    title: str
    status: ConversationStatus
    pack_key: str
    persona_key: str
    arc_key: str
    topic_key: str
    template_key: str
    tier: str
    turn_count: int
    starting_emotion: str | None
    ending_emotion: str | None
    model: str
    total_tokens: int
    cost_usd: Usd | None
    generation_duration_ms: int | None
    batch_job_id: UUID | None
    created_at: datetime


class TurnOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    turn_number: int
    role: str
    content: str
    emotional_context: dict[str, Any]


class ConversationDetail(ConversationOut):
    """conversation_metadata: the answer's own. scaffolding: what it was made of. notes: what was odd and no failure."""

    conversation_metadata: dict[str, Any]
    scaffolding: dict[str, Any]
    source: dict[str, Any] | None
    notes: list[Any]
    turns: list[TurnOut]


class ConversationData(BaseModel):
    conversation: ConversationDetail
