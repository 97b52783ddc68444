"""The rules of models: look up, change, delete, restore, hand out files. `registration` makes them.

Functions take the transaction they work in; row-level security has narrowed it to one workspace.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts import quota
from brightrun.audit.service import record
from brightrun.clock import utcnow
from brightrun.errors import ConflictError, NotFoundError
from brightrun.models import repository
from brightrun.models.changes import announce
from brightrun.models.schemas import DatasetRef, FileLink, FilesData, JobRef, ModelOut, ModelUpdate, StoredFile
from brightrun.models.tables import ModelArtifact, ModelStatus
from brightrun.platform import Platform
from brightrun.storage import Bucket
from brightrun.web.http import Page, pick_sort

DeletionGuard = Callable[[AsyncSession, ModelArtifact], Awaitable[str | None]]

deletion_guards: list[DeletionGuard] = []
"""Each answers why the model may not be deleted now, as a sentence for a person, or None. Rooms that use models add
theirs when they are imported."""

quota.usage_sources.append(repository.stored_bytes)


async def get(session: AsyncSession, model_id: UUID, *, deleted: bool = False, lock: bool = False) -> ModelArtifact:
    """deleted: also from the trash. NotFoundError: absent or foreign."""
    model = await repository.find(session, model_id, deleted=deleted, lock=lock)
    if model is None:
        raise NotFoundError("There is no such model")
    return model


async def list_models(
    session: AsyncSession, page: Page, *, sort: str = "-created_at", **filters: Any
) -> tuple[Sequence[ModelArtifact], int]:
    """One page, and how many there are in all; filters as `repository.list_page`."""
    return await repository.list_page(session, page=page, order=pick_sort(sort, repository.SORTS), **filters)


async def views(session: AsyncSession, models: Sequence[ModelArtifact], *, whole: bool = False) -> list[ModelOut]:
    """Models as clients see them. whole: with files and configuration."""
    datasets, jobs = await repository.origins(session, models)
    found = []
    for model in models:
        dataset, job = datasets[model.dataset_id], jobs[model.job_id]
        found.append(
            ModelOut(
                id=model.id,
                name=model.name,
                version=model.version,
                description=model.description,
                status=ModelStatus(model.status),
                base_model=model.base_model["name"],
                base_model_details=model.base_model,
                dataset_id=model.dataset_id,
                dataset=DatasetRef(id=dataset.id, name=dataset.name, deleted=dataset.deleted_at is not None),
                job_id=model.job_id,
                job=JobRef(
                    id=job.id,
                    name=job.name,
                    preset_id=job.preset_id,
                    created_at=job.created_at,
                    cost_usd=job.current_cost if job.final_cost is None else job.final_cost,
                ),
                parent_model_id=model.parent_model_id,
                quality_metrics=model.quality_metrics,
                training_summary=model.training_summary,
                configuration=model.configuration if whole else None,
                files=[StoredFile.model_validate(file) for file in model.files] if whole else None,
                size_bytes=model.size_bytes,
                storage_bucket=model.storage_bucket,
                storage_path=model.storage_path,
                created_at=model.created_at,
                updated_at=model.updated_at,
                deleted_at=model.deleted_at,
            )
        )
    return found


async def view(session: AsyncSession, model: ModelArtifact) -> ModelOut:
    """One model with its files and configuration."""
    return (await views(session, [model], whole=True))[0]


async def update(session: AsyncSession, model_id: UUID, changes: ModelUpdate) -> ModelArtifact:
    model = await get(session, model_id, lock=True)
    given = changes.model_dump(exclude_unset=True, mode="json")
    for name in ("name", "status"):
        if given.get(name, "") is None:
            del given[name]  # a model has both; null leaves them
    before = {name: getattr(model, name) for name in given}
    if given != before:
        for name, value in given.items():
            setattr(model, name, value)
        await session.flush()
        await record(session, "model.updated", "model", model.id, {"before": before, "after": given})
        await announce(session, model)
    return await get(session, model_id)


async def delete(session: AsyncSession, model_id: UUID) -> ModelArtifact:
    """Into the trash. Raises ConflictError with the reasons while something needs the model."""
    model = await get(session, model_id, lock=True)
    reasons = [reason for guard in deletion_guards if (reason := await guard(session, model))]
    if reasons:
        raise ConflictError(" ".join(reasons), code="model_in_use", details={"reasons": reasons})
    model.deleted_at = utcnow()
    await session.flush()
    await record(session, "model.deleted", "model", model.id, {"name": model.name, "version": model.version})
    await announce(session, model, "model.deleted")
    return await get(session, model_id, deleted=True)


async def restore(session: AsyncSession, model_id: UUID) -> ModelArtifact:
    """Out of the trash; harmless when it is not there."""
    model = await get(session, model_id, deleted=True, lock=True)
    if model.deleted_at is not None:
        model.deleted_at = None
        await session.flush()
        await record(session, "model.restored", "model", model.id, {"name": model.name, "version": model.version})
        await announce(session, model, "model.restored")
    return await get(session, model_id)


def file_links(platform: Platform, model: ModelArtifact) -> FilesData:
    """A signed URL for each file of the model."""
    expires_s = platform.settings.signed_url_s
    bucket = Bucket(model.storage_bucket)
    return FilesData(
        files=[
            FileLink(
                name=file["name"],
                size=file["size"],
                sha256=file["sha256"],
                url=platform.store.presign_get(bucket, f"{model.storage_path}/{file['name']}", expires_s=expires_s),
            )
            for file in model.files
        ],
        expires_in_s=expires_s,
    )
