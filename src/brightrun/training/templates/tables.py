"""The `configuration_templates` table."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, Table, text
from sqlalchemy.orm import Mapped, mapped_column

from brightrun.db.base import Base, HasId, HasTimestamps, InWorkspace, Money, enum_check
from brightrun.training.tables import PresetId, TrainingJob


class ConfigurationTemplate(HasId, InWorkspace, HasTimestamps, Base):
    """What a job may be started with, by name. Everything but the dataset.

    overrides: hyperparameters on top of the preset, as a person set them; the rest is as the preset has it when it is
    used. gpu_config: `{type, count}`; null: this machine. base_model: null: the default one.
    source_job_id: the job that it was saved from. Its name is unique among those that are not deleted.
    """

    __tablename__ = "configuration_templates"
    __table_args__ = (
        enum_check("preset_id", PresetId),
        CheckConstraint("char_length(name) between 1 and 255", name="name_length"),
        CheckConstraint("char_length(description) <= 2000", name="description_length"),
        CheckConstraint("max_cost > 0", name="max_cost"),
        Index(
            "configuration_templates_name_key",
            "workspace_id",
            text("lower(name)"),
            unique=True,
            postgresql_where=text("deleted_at is null"),
        ),
        Index("configuration_templates_workspace_id_created_at_idx", "workspace_id", text("created_at desc")),
        Index(
            "configuration_templates_source_job_id_idx",
            "source_job_id",
            postgresql_where=text("source_job_id is not null"),
        ),
        Index("configuration_templates_created_by_idx", "created_by", postgresql_where=text("created_by is not null")),
    )

    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    name: Mapped[str]
    description: Mapped[str | None]
    preset_id: Mapped[str]
    overrides: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    base_model: Mapped[str | None]
    gpu_config: Mapped[dict[str, Any] | None]
    max_cost: Mapped[Money | None]
    source_job_id: Mapped[UUID | None] = mapped_column(ForeignKey("training_jobs.id", ondelete="SET NULL"))
    deleted_at: Mapped[datetime | None]


# A job names its template and a template its job; this half is added when the second table is known.
_jobs = TrainingJob.__table__
assert isinstance(_jobs, Table)
_jobs.append_constraint(
    ForeignKeyConstraint(
        ["template_id"],
        ["configuration_templates.id"],
        name="training_jobs_template_id_fkey",
        ondelete="SET NULL",
        use_alter=True,
    )
)
