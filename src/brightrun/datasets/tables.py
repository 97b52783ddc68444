"""The `datasets` table: one uploaded file, what the validator found in it, and whether it may be trained on."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Double, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from brightrun.db.base import Base, BigInt, HasId, HasTimestamps, InWorkspace, enum_check
from brightrun.formats.names import FORMAT_IDS

_FORMATS = ", ".join(f"'{name}'" for name in FORMAT_IDS)
_LIVE = text("deleted_at is null")


class DatasetStatus(StrEnum):
    """`uploading → validating → ready | error`; confirming a ready or faulty dataset validates it again."""

    UPLOADING = "uploading"
    VALIDATING = "validating"
    READY = "ready"
    ERROR = "error"


class Dataset(HasId, InWorkspace, HasTimestamps, Base):
    """One training file.

    declared_format: what the uploader said; null to detect. format: what it is, once validated.
    declared_sha256: what the uploader announced. sha256: of the bytes that were validated.
    upload_id: the multipart upload, if one is open. upload_renewed_at: when upload URLs were last handed out.
    object_deleted_at: the stored file was removed, and why is in `error_code`; such a dataset is never ready again.
    validation_attempt: counts confirmations; only the run that carries the current number may write its outcome.
    validation_heartbeat_at: last sign of life of the running validation; validated_bytes: how far it is.
    validation_sweeps: how often the sweeper had to start it again.
    validation_errors: the first 1,000 issues of severity error. report: the whole report with its first 1,000 issues.
    issues_path: the complete list, JSON Lines, in the same bucket; null when there are none.
    version: 1 for an uploaded file. A higher one was made by mending `parent_id`; all versions share `root_id`, the id
    of the first, which stays when that one is purged. repair: what was to be mended, `{"codes": […], "issues": [[code,
    line, path]…]}`. repaired_at: when the file was made; until then the validation makes it first. repair_counts:
    {code: changes}; repair_log_path: every change, JSON Lines. request_hash: of what an Idempotency-Key asked for.
    """

    __tablename__ = "datasets"
    __table_args__ = (
        enum_check("status", DatasetStatus),
        CheckConstraint("char_length(name) between 1 and 255", name="name_length"),
        CheckConstraint("char_length(description) <= 10000", name="description_length"),
        CheckConstraint("char_length(file_name) between 1 and 255", name="file_name_length"),
        CheckConstraint("file_size > 0", name="file_size"),
        CheckConstraint(f"declared_format in ({_FORMATS})", name="declared_format"),
        CheckConstraint(f"format in ({_FORMATS})", name="format"),
        CheckConstraint("declared_sha256 ~ '^[0-9a-f]{64}$'", name="declared_sha256"),
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256"),
        CheckConstraint(
            "status <> 'error' or (error_code is not null and error_message is not null)", name="error_is_explained"
        ),
        CheckConstraint(
            "status <> 'ready' or (validated_at is not null and format is not null and sha256 is not null)",
            name="ready_is_validated",
        ),
        CheckConstraint("not training_ready or status = 'ready'", name="training_ready"),
        CheckConstraint(
            "version > 0 and (version = 1) = (root_id is null) and (version = 1) = (repair is null)", name="version"
        ),
        CheckConstraint("(idempotency_key is null) = (request_hash is null)", name="idempotency"),
        Index("datasets_version_key", "workspace_id", "root_id", "version", unique=True),
        Index("datasets_idempotency_key_key", "workspace_id", "idempotency_key", unique=True),
        Index("datasets_parent_id_idx", "parent_id", postgresql_where=text("parent_id is not null")),
        CheckConstraint(
            "status <> 'validating' or validation_heartbeat_at is not null", name="validating_has_heartbeat"
        ),
        Index(
            "datasets_workspace_id_storage_path_key",
            "workspace_id",
            "storage_bucket",
            "storage_path",
            unique=True,
            postgresql_where=_LIVE,
        ),
        Index("datasets_workspace_id_created_at_idx", "workspace_id", text("created_at desc"), postgresql_where=_LIVE),
        Index("datasets_workspace_id_status_idx", "workspace_id", "status", postgresql_where=_LIVE),
        Index("datasets_created_by_idx", "created_by", postgresql_where=text("created_by is not null")),
        Index("datasets_validating_idx", "validation_heartbeat_at", postgresql_where=text("status = 'validating'")),
        Index("datasets_uploading_idx", "upload_renewed_at", postgresql_where=text("status = 'uploading'")),
        Index("datasets_deleted_at_idx", "deleted_at", postgresql_where=text("deleted_at is not null")),
    )

    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    name: Mapped[str]
    description: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default=DatasetStatus.UPLOADING)
    declared_format: Mapped[str | None]
    format: Mapped[str | None]
    format_reason: Mapped[str | None]
    file_name: Mapped[str]
    file_size: Mapped[BigInt]
    declared_sha256: Mapped[str | None]
    sha256: Mapped[str | None]
    storage_bucket: Mapped[str] = mapped_column(server_default="lora-datasets")
    storage_path: Mapped[str]
    upload_id: Mapped[str | None]
    upload_renewed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    object_deleted_at: Mapped[datetime | None]

    validation_attempt: Mapped[int] = mapped_column(server_default=text("0"))
    validation_sweeps: Mapped[int] = mapped_column(server_default=text("0"))
    validation_started_at: Mapped[datetime | None]
    validation_heartbeat_at: Mapped[datetime | None]
    validated_bytes: Mapped[BigInt] = mapped_column(server_default=text("0"))

    validated_at: Mapped[datetime | None]
    training_ready: Mapped[bool] = mapped_column(server_default=text("false"))
    total_records: Mapped[BigInt | None]
    total_conversations: Mapped[BigInt | None]
    total_training_pairs: Mapped[BigInt | None]
    total_turns: Mapped[BigInt | None]
    total_tokens: Mapped[BigInt | None]
    tokens_source: Mapped[str | None]
    avg_turns_per_conversation: Mapped[float | None] = mapped_column(Double)
    avg_tokens_per_turn: Mapped[float | None] = mapped_column(Double)
    errors_total: Mapped[BigInt | None]
    warnings_total: Mapped[BigInt | None]
    issue_counts: Mapped[dict[str, Any] | None]
    issues_path: Mapped[str | None]
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("datasets.id", ondelete="SET NULL"))
    root_id: Mapped[UUID | None]
    version: Mapped[int] = mapped_column(server_default=text("1"))
    repair: Mapped[dict[str, Any] | None]
    repaired_at: Mapped[datetime | None]
    repair_counts: Mapped[dict[str, Any] | None]
    repair_log_path: Mapped[str | None]
    idempotency_key: Mapped[str | None]
    request_hash: Mapped[str | None]
    validation_errors: Mapped[list[Any] | None] = mapped_column(deferred=True)
    sample_data: Mapped[list[Any] | None] = mapped_column(deferred=True)
    report: Mapped[dict[str, Any] | None] = mapped_column(deferred=True)
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    deleted_at: Mapped[datetime | None]


class Dismissal(HasId, InWorkspace, Base):
    """A warning that somebody looked at and let stand, with the reason. Errors cannot be dismissed.

    line, path, fingerprint: of the one place; all null when every finding of the code is meant, also of later checks.
    fingerprint: of what was found there (`dismissals.fingerprint`). A later check that finds something else at the
    place is not silenced.
    """

    __tablename__ = "dataset_dismissals"
    __table_args__ = (
        CheckConstraint("char_length(reason) between 1 and 1000", name="reason_length"),
        CheckConstraint(
            "(line is null) = (path is null) and (line is null) = (fingerprint is null) and (line is null or line > 0)",
            name="place",
        ),
        UniqueConstraint(
            *("dataset_id", "code", "line", "path", "fingerprint"),
            name="dataset_dismissals_place_key",
            postgresql_nulls_not_distinct=True,
        ),
        Index("dataset_dismissals_workspace_id_idx", "workspace_id", "dataset_id"),
        Index("dataset_dismissals_dismissed_by_idx", "dismissed_by", postgresql_where=text("dismissed_by is not null")),
    )

    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    code: Mapped[str]
    line: Mapped[BigInt | None]
    path: Mapped[str | None]
    fingerprint: Mapped[str | None]
    reason: Mapped[str]
    dismissed_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    dismissed_at: Mapped[datetime] = mapped_column(server_default=func.now())
