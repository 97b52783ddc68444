"""The `model_artifacts` table: one trained adapter, its files, what was measured of it and what it comes from."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, Table, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from brightrun.db.base import Base, BigInt, HasId, HasTimestamps, InWorkspace, enum_check
from brightrun.training.tables import TrainingJob


class ModelStatus(StrEnum):
    STORED = "stored"
    ARCHIVED = "archived"
    """Kept, and out of the way: not in the list unless asked for."""


class ModelArtifact(HasId, InWorkspace, HasTimestamps, Base):
    """One model. Its files are `storage_path/<name>` in `storage_bucket`; rows keep no URL.

    version_number: counts the models of one dataset, from 1; version: the same as people read it, `1.0.0`, `1.1.0`, ….
    parent_model_id: the version before this one, null for the first (or when that one was purged).
    files: `[{name, size, sha256, crc32}]`, in the order of the package. size_bytes: all of them together.
    base_model: `{name, kind, revision, sha256}`, the untouched model that the adapter belongs to.
    quality_metrics: what was measured, with its n (`models/quality.py`). training_summary: how it was trained.
    configuration: preset, hyperparameters, device, split and package versions: what it takes to train it again.
    """

    __tablename__ = "model_artifacts"
    __table_args__ = (
        enum_check("status", ModelStatus),
        CheckConstraint("char_length(name) between 1 and 255", name="name_length"),
        CheckConstraint("char_length(description) <= 10000", name="description_length"),
        CheckConstraint("version_number > 0", name="version_number"),
        CheckConstraint("size_bytes > 0 and jsonb_array_length(files) > 0", name="has_files"),
        CheckConstraint("parent_model_id <> id", name="parent"),
        UniqueConstraint("job_id"),
        UniqueConstraint("dataset_id", "version_number"),
        UniqueConstraint("storage_bucket", "storage_path"),
        Index("model_artifacts_workspace_id_created_at_idx", "workspace_id", text("created_at desc")),
        Index("model_artifacts_parent_model_id_idx", "parent_model_id"),
        Index("model_artifacts_deleted_at_idx", "deleted_at", postgresql_where=text("deleted_at is not null")),
    )

    # Not RESTRICT: that is checked row by row, and would hold up the removal of a whole workspace.
    job_id: Mapped[UUID] = mapped_column(ForeignKey("training_jobs.id"))
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id"))
    parent_model_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_artifacts.id", ondelete="SET NULL"))
    name: Mapped[str]
    version: Mapped[str]
    version_number: Mapped[int]
    description: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default=ModelStatus.STORED)
    storage_bucket: Mapped[str]
    storage_path: Mapped[str]
    files: Mapped[list[dict[str, Any]]]
    size_bytes: Mapped[BigInt]
    base_model: Mapped[dict[str, Any]]
    quality_metrics: Mapped[dict[str, Any]]
    training_summary: Mapped[dict[str, Any]]
    configuration: Mapped[dict[str, Any]]
    deleted_at: Mapped[datetime | None]


# The job's side of the pair. It is said here because training, one floor down, does not know of models.
_jobs = TrainingJob.__table__
assert isinstance(_jobs, Table)
_jobs.append_constraint(
    ForeignKeyConstraint(
        ["artifact_id"],
        ["model_artifacts.id"],
        name="training_jobs_artifact_id_fkey",
        ondelete="SET NULL",
        use_alter=True,
    )
)
Index("training_jobs_artifact_id_idx", _jobs.c.artifact_id, postgresql_where=text("artifact_id is not null"))


def version_text(number: int) -> str:
    """1 → `1.0.0`, 2 → `1.1.0`: each training on a dataset is a new minor version of its model."""
    return f"1.{number - 1}.0"
