"""What the datasets API takes and gives."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from sqlalchemy import inspect

from brightrun.datasets.tables import Dataset, DatasetStatus
from brightrun.formats.names import AUTO, format_id
from brightrun.web.text import ONE_LINE, STORABLE


def _format(name: Any) -> Any:
    """Any spelling of a format's name; `auto` and an empty text mean: detect it."""
    if not isinstance(name, str):
        return name
    if not name.strip():
        return None
    found = format_id(name)
    return None if found == AUTO else found


Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255), ONE_LINE]
Description = Annotated[str, StringConstraints(strip_whitespace=True, max_length=10_000), STORABLE]
FormatName = Annotated[
    str | None,
    BeforeValidator(_format),
    Field(description="Any spelling of a format's name; leave it out, or `auto`, to detect it"),
]
Sha256 = Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True, pattern="^[0-9a-fA-F]{64}$")]


class DatasetCreate(BaseModel):
    """file_size: bytes of the file that will be uploaded, exactly. sha256: of the file, if it is known already."""

    name: Name
    description: Description | None = None
    format: FormatName = None
    file_name: Annotated[str, StringConstraints(min_length=1, max_length=255), ONE_LINE]
    file_size: Annotated[int, Field(gt=0, description="Bytes, exactly as many as will be uploaded")]
    sha256: Sha256 | None = None


class DatasetUpdate(BaseModel):
    """Only what is given changes; `description: null` removes it."""

    name: Name = ""
    description: Description | None = None


class DismissalOut(BaseModel):
    """A dismissed warning. line, path: of the one place; null when every finding of the code is meant."""

    id: UUID
    code: str
    line: int | None
    path: str | None
    reason: str
    by: str | None
    at: datetime


Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000), STORABLE]


class DismissalCreate(BaseModel):
    """Without `line`: every finding of the code, also of later checks. path: one field; left out: all on the line."""

    code: Annotated[str, StringConstraints(min_length=1, max_length=100), STORABLE]
    line: Annotated[int, Field(ge=1, le=2**53)] | None = None
    path: Annotated[str, StringConstraints(max_length=400), STORABLE] | None = None
    reason: Reason


class DismissalsData(BaseModel):
    dismissals: list[DismissalOut]


class DismissalData(BaseModel):
    dismissal: DismissalOut


class IssueOut(BaseModel):
    """One finding; see the catalogue of codes. line: 1-based physical line, or record or pair number."""

    line: int
    byte_offset: int
    path: str
    code: str
    severity: Literal["error", "warning", "info"]
    message: str
    suggestion: str
    fixable: bool
    excerpt: str = ""
    dismissed: DismissalOut | None = None


class RecordOut(BaseModel):
    """One record as it stands in the file, and as it was read.

    raw: its text, at most 1,000,000 characters (`raw_truncated`); bytes that are no UTF-8 as �. null when the record is
    above the limit for one. chats: what was read from it, `[{conversation_id, kind, messages, chosen?, rejected?,
    label?, scaffold?}]`; empty where it has an error. issues: the first 100 of this line.
    """

    line: int
    byte_offset: int
    length: int
    format: str
    raw: str | None
    raw_truncated: bool
    chats: list[dict[str, Any]]
    issues: list[IssueOut]
    issues_total: int


class RecordData(BaseModel):
    record: RecordOut


class DatasetOut(BaseModel):
    """validation_errors (first 1,000 errors) and sample_data (first 3 conversations) are null in lists.

    version: 1 for an uploaded file; a higher one was made by mending `parent_id`, and `root_id` is the first of them.
    repair_counts: {code: changes} of that mending; null before it was made.
    """

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    description: str | None
    status: DatasetStatus
    format: str | None
    declared_format: str | None
    format_reason: str | None
    file_name: str
    file_size: int
    sha256: str | None
    declared_sha256: str | None
    storage_bucket: str
    storage_path: str
    total_records: int | None
    total_conversations: int | None
    total_training_pairs: int | None
    total_turns: int | None
    total_tokens: int | None
    tokens_source: str | None
    avg_turns_per_conversation: float | None
    avg_tokens_per_turn: float | None
    training_ready: bool
    validated_at: datetime | None
    validated_bytes: int
    validation_attempt: int
    errors_total: int | None
    warnings_total: int | None
    issue_counts: dict[str, int] | None
    validation_errors: list[IssueOut] | None = None
    sample_data: list[Any] | None = None
    parent_id: UUID | None
    root_id: UUID | None
    version: int
    repair_counts: dict[str, int] | None
    error_code: str | None
    error_message: str | None
    created_by: UUID | None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """Also of a row whose large columns were not loaded."""
        unloaded = inspect(dataset).unloaded
        return cls.model_validate({name: getattr(dataset, name) for name in cls.model_fields if name not in unloaded})


class IssuePlace(BaseModel):
    """One finding of the report."""

    code: Annotated[str, StringConstraints(min_length=1, max_length=100), STORABLE]
    line: Annotated[int, Field(ge=1, le=2**53)]
    path: Annotated[str, StringConstraints(max_length=400), STORABLE] = ""


class RepairSelection(BaseModel):
    """What to mend: everything that can be, all findings of some codes, or single ones. Nothing given: everything."""

    all: bool = False
    codes: Annotated[list[Annotated[str, StringConstraints(max_length=100), STORABLE]], Field(max_length=100)] = []
    issues: Annotated[list[IssuePlace], Field(max_length=1_000)] = []

    @model_validator(mode="after")
    def _nothing_given(self) -> Self:
        if not self.codes and not self.issues:
            self.all = True
        return self


class RepairCreate(RepairSelection):
    """name: of the new version; left out: the dataset's, with the number of the version."""

    name: Name | None = None


class PreviewedIssueOut(BaseModel):
    """A finding and what mending it would do. before, after: a short picture of the place; `after` is empty where
    something is taken out. Both are null where this finding cannot be mended."""

    line: int
    path: str
    code: str
    message: str
    before: str | None
    after: str | None


class VersionsData(BaseModel):
    """All versions of one dataset, the first first; those in the trash have `deleted_at`."""

    versions: list[DatasetOut]


class DatasetData(BaseModel):
    dataset: DatasetOut


class PartUrlOut(BaseModel):
    number: int
    url: str
    size: int


class StoredPartOut(BaseModel):
    number: int
    size: int


class MultipartOut(BaseModel):
    """PUT each part (its URL takes exactly `size` bytes), in any order and in parallel, then POST `complete_url`.

    parts: those still missing. stored: those that arrived. status_url: the same, for whoever has only the URL.
    """

    upload_id: str
    part_size: int
    size: int
    parts: list[PartUrlOut]
    stored: list[StoredPartOut] = []
    complete: bool = False
    complete_url: str
    status_url: str


class UploadData(BaseModel):
    """uploadUrl: takes one plain PUT of the whole body; null where the storage cannot (S3 above 5 GB).

    uploaded: the file is there, whole; confirm it. URLs live one hour; ask again for fresh ones.
    """

    dataset: DatasetOut
    uploadUrl: str | None  # noqa: N815 - the contract's own spelling
    storagePath: str  # noqa: N815
    multipart: MultipartOut
    uploaded: bool = False


class DatasetStats(BaseModel):
    """How many datasets there are by status (deleted ones apart), and the room they take.

    quota_bytes: null when there is no limit. used_bytes: everything in the workspace that counts against it.
    """

    total: int
    by_status: dict[DatasetStatus, int]
    deleted: int
    used_bytes: int
    quota_bytes: int | None


class StatsData(BaseModel):
    stats: DatasetStats


class ValidationData(BaseModel):
    """The validator's whole report, as `brightrun validate --json` prints it."""

    validation: dict[str, Any]
