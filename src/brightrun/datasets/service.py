"""The rules of datasets: look up, change, delete, restore. `uploads` brings the file in, `tasks` checks it.

Functions take the transaction they work in; row-level security has narrowed it to one workspace.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts import quota
from brightrun.audit.service import record
from brightrun.clock import utcnow
from brightrun.datasets import repository
from brightrun.datasets.changes import announce
from brightrun.datasets.schemas import DatasetStats, DatasetUpdate
from brightrun.datasets.tables import Dataset, DatasetStatus
from brightrun.errors import ConflictError, NotFoundError
from brightrun.settings import Settings
from brightrun.web.http import Page, pick_sort

DeletionGuard = Callable[[AsyncSession, Dataset], Awaitable[str | None]]

quota.usage_sources.append(repository.stored_bytes)

deletion_guards: list[DeletionGuard] = []
"""Each answers why the dataset may not be deleted now, as a sentence for a person, or None. Rooms that use datasets
add theirs when they are imported."""


async def get(session: AsyncSession, dataset_id: UUID, *, deleted: bool = False, large: bool = True) -> Dataset:
    """deleted: also from the trash. large: with issues, samples and report. NotFoundError: absent or foreign."""
    dataset = await repository.find(session, dataset_id, deleted=deleted, large=large)
    if dataset is None:
        raise NotFoundError("There is no such dataset")
    return dataset


async def get_for_update(session: AsyncSession, dataset_id: UUID, *, deleted: bool = False) -> Dataset:
    """As `get`, locked until the transaction ends."""
    dataset = await repository.find(session, dataset_id, deleted=deleted, lock=True)
    if dataset is None:
        raise NotFoundError("There is no such dataset")
    return dataset


async def list_datasets(
    session: AsyncSession,
    page: Page,
    *,
    status: DatasetStatus | None = None,
    format: str | None = None,  # noqa: A002 - the field's word
    search: str | None = None,
    sort: str = "-created_at",
    deleted: bool = False,
) -> tuple[Sequence[Dataset], int]:
    """One page (without issues, samples and report), and how many there are in all."""
    order = pick_sort(sort, repository.SORTS)
    return await repository.list_page(
        session, page=page, order=order, status=status, format=format, search=search, deleted=deleted
    )


async def stats(session: AsyncSession, settings: Settings, workspace_id: UUID) -> DatasetStats:
    by_status, deleted = await repository.counts(session)
    return DatasetStats(
        total=sum(by_status.values()),
        by_status=by_status,
        deleted=deleted,
        used_bytes=await quota.used_bytes(session),
        quota_bytes=await quota.quota_bytes(session, settings, workspace_id),
    )


async def update(session: AsyncSession, dataset_id: UUID, changes: DatasetUpdate) -> Dataset:
    dataset = await get_for_update(session, dataset_id)
    given = changes.model_dump(exclude_unset=True)
    before = {name: getattr(dataset, name) for name in given}
    for name, value in given.items():
        setattr(dataset, name, value)
    await session.flush()
    if given != before:
        await record(session, "dataset.updated", "dataset", str(dataset.id), {"before": before, "after": given})
        await announce(session, dataset)
    return await get(session, dataset_id)


async def delete(session: AsyncSession, dataset_id: UUID) -> Dataset:
    """Into the trash. Raises ConflictError with the reason while something needs the dataset."""
    dataset = await get_for_update(session, dataset_id)
    reasons = [reason for guard in deletion_guards if (reason := await guard(session, dataset))]
    if reasons:
        raise ConflictError(" ".join(reasons), code="dataset_in_use", details={"reasons": reasons})
    dataset.deleted_at = utcnow()
    await session.flush()
    await record(session, "dataset.deleted", "dataset", str(dataset.id), _facts(dataset))
    await announce(session, dataset, "dataset.deleted")
    return await get(session, dataset_id, deleted=True)


async def restore(session: AsyncSession, dataset_id: UUID) -> Dataset:
    """Out of the trash; harmless when it is not there. ConflictError when its file is gone for good."""
    dataset = await get_for_update(session, dataset_id, deleted=True)
    if dataset.deleted_at is not None:
        if dataset.object_deleted_at is not None:
            raise removed(dataset)
        dataset.deleted_at = None
        await session.flush()
        await record(session, "dataset.restored", "dataset", str(dataset.id), _facts(dataset))
        await announce(session, dataset, "dataset.restored")
    return await get(session, dataset_id)


def removed(dataset: Dataset) -> ConflictError:
    """The stored file is gone for good."""
    return ConflictError(
        f"The file of this dataset was removed: {dataset.error_message} Create a new dataset to upload it again.",
        code="file_removed",
    )


def _facts(dataset: Dataset) -> dict[str, Any]:
    return {"name": dataset.name, "file_name": dataset.file_name, "status": dataset.status}
