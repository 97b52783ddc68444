"""What the API of templates takes and gives."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from brightrun.costs.schemas import Usd
from brightrun.datasets.schemas import Name
from brightrun.training.schemas import (
    BaseModelName,
    GpuConfigIn,
    HyperparameterValue,
    MaxCost,
    Overrides,
    PresetName,
)
from brightrun.training.tables import PresetId
from brightrun.web.text import STORABLE

Description = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000), STORABLE]


class TemplateCreate(BaseModel):
    """Give a job to save its configuration, or the configuration itself. Left out: as a new job has it."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    description: Description | None = None
    job_id: Annotated[UUID | None, Field(description="Save what this job was started with")] = None
    preset_id: PresetName = "balanced"
    hyperparameters: Overrides = {}
    base_model: BaseModelName | None = None
    gpu_config: GpuConfigIn | None = None
    max_cost_usd: MaxCost | None = None


class TemplateUpdate(BaseModel):
    """Only what is given changes; a null description removes it."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    description: Description | None = None


class TemplateOut(BaseModel):
    """overrides: what was set on top of the preset. hyperparameters: all of them, before the rules of a dataset.

    jobs, completed: how many jobs were started with it, and how many of them completed. problem: why it cannot be used
    as it is, null when it can.
    """

    id: UUID
    name: str
    description: str | None
    preset_id: PresetId
    overrides: dict[str, HyperparameterValue]
    hyperparameters: dict[str, Any]
    base_model: str | None
    gpu_config: dict[str, Any] | None
    max_cost_usd: Usd | None
    problem: str | None
    source_job_id: UUID | None
    jobs: int
    completed: int
    last_used_at: datetime | None
    created_by: UUID | None
    created_at: datetime
    updated_at: datetime


class TemplateData(BaseModel):
    template: TemplateOut


class SideOut(BaseModel):
    """One of the two that are compared."""

    kind: Literal["job", "template"]
    id: UUID
    name: str


class DifferenceOut(BaseModel):
    """One line. set_left, set_right: a person set it there; otherwise it is the preset's, or a rule's."""

    field: str
    label: str
    left: Any
    right: Any
    equal: bool
    set_left: bool = False
    set_right: bool = False


class DiffOut(BaseModel):
    """lines: everything that is compared, differences first. different: how many differ."""

    left: SideOut
    right: SideOut
    different: int
    lines: list[DifferenceOut]


class DiffData(BaseModel):
    diff: DiffOut
