"""What is asked for many jobs at once, and what became of each."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from brightrun.training.labels.schemas import Tag
from brightrun.training.tables import JobPriority
from brightrun.web.text import STORABLE


class BulkAction(StrEnum):
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    TAG = "tag"
    UNTAG = "untag"
    PRIORITY = "priority"
    ARCHIVE = "archive"
    UNARCHIVE = "unarchive"


class BulkIn(BaseModel):
    """reason, note, checkpoint: of a cancellation, as in `POST /api/jobs/{id}/cancel`; reason also of a priority.
    tags: to add or to take away. priority: for that action."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[UUID], Field(min_length=1, max_length=100)]
    action: BulkAction
    reason: Annotated[str, StringConstraints(strip_whitespace=True, max_length=200), STORABLE] | None = None
    note: Annotated[str, StringConstraints(max_length=2000), STORABLE] | None = None
    checkpoint: bool = True
    tags: Annotated[list[Tag], Field(max_length=10)] = []
    priority: JobPriority | None = None


class BulkResult(BaseModel):
    """ok: it was done, or was so already. message: what became of it, or why not. name: null for an unknown id."""

    id: UUID
    name: str | None
    ok: bool
    code: str | None
    message: str


class BulkOut(BaseModel):
    action: BulkAction
    results: list[BulkResult]
    done: int
    refused: int


class BulkData(BaseModel):
    bulk: BulkOut
