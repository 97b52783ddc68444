"""What the models API takes and gives."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from brightrun.costs.schemas import Usd
from brightrun.datasets.schemas import Description, Name
from brightrun.models.tables import ModelStatus


class ModelUpdate(BaseModel):
    """Only what is given changes; `description: null` removes it. status: `archived` takes it out of the list."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    description: Description | None = None
    status: ModelStatus | None = None


class DatasetRef(BaseModel):
    id: UUID
    name: str
    deleted: bool


class JobRef(BaseModel):
    id: UUID
    name: str
    preset_id: str
    created_at: datetime
    cost_usd: Usd


class StoredFile(BaseModel):
    """size: bytes. sha256: lower-case hex."""

    name: str
    size: int
    sha256: str


class FileLink(StoredFile):
    """url: signed, downloads the file; it expires."""

    url: str


class FilesData(BaseModel):
    files: list[FileLink]
    expires_in_s: int


class ModelOut(BaseModel):
    """One model.

    base_model: the name of the untouched model that the adapter belongs to; its revision and hash are in
    `base_model_details`. quality_metrics: measured numbers, each with its n, and `verdict`: `improved`, `not_proven`,
    `worse` or `not_measured`. parent_model_id: the version before this one.
    files, configuration: null in lists.
    """

    id: UUID
    name: str
    version: str
    description: str | None
    status: ModelStatus
    base_model: str
    base_model_details: dict[str, Any]
    dataset_id: UUID
    dataset: DatasetRef
    job_id: UUID
    job: JobRef
    parent_model_id: UUID | None
    quality_metrics: dict[str, Any]
    training_summary: dict[str, Any]
    configuration: dict[str, Any] | None
    files: list[StoredFile] | None
    size_bytes: int
    storage_bucket: str
    storage_path: str
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


class ModelData(BaseModel):
    model: ModelOut
