"""What the API of probes and of the calibration report takes and gives."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from brightrun.training.estimates.tables import ProbeStatus
from brightrun.training.schemas import BaseModelName, GpuConfigIn, Overrides, PresetName


class ProbeCreate(BaseModel):
    """The configuration as a job would have it."""

    model_config = ConfigDict(extra="forbid")

    dataset_id: UUID
    preset_id: PresetName = "balanced"
    hyperparameters: Overrides = {}
    gpu_config: GpuConfigIn | None = None
    base_model: BaseModelName | None = None


class ProbeOut(BaseModel):
    """progress: 0…1; words: what it is doing. promise: of a finished one, what the estimate says with it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    dataset_id: UUID
    base_model: str
    preset_id: str
    hyperparameters: dict[str, Any]
    gpu_config: dict[str, Any]
    status: ProbeStatus
    progress: float
    words: str | None
    cancelling: bool
    machine: str | None
    measurement: dict[str, Any] | None
    promise: dict[str, Any] | None
    error_code: str | None
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class ProbeData(BaseModel):
    probe: ProbeOut


class FitsIn(BaseModel):
    """What is to be trained on; each preset is tried on each device of the catalogue."""

    model_config = ConfigDict(extra="forbid")

    dataset_id: UUID | None = None
    training_pairs: Annotated[int | None, Field(ge=1, le=1_000_000_000)] = None
    tokens: Annotated[int | None, Field(ge=1, le=1_000_000_000_000)] = None
    base_model: BaseModelName | None = None
    hyperparameters: Overrides = {}


class CellOut(BaseModel):
    """One preset on one device. fits: null where the device's memory is not known. available: a job can run there."""

    preset_id: str
    gpu_type: str
    fits: bool | None
    available: bool
    reasons: list[str]
    memory_bytes: dict[str, Any]
    seconds: dict[str, Any]
    cost_usd: dict[str, Any]


class FitsData(BaseModel):
    cells: list[CellOut]
