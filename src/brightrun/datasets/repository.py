"""All SQL of the datasets room. State changes are guarded: they name the state, and the attempt, they start from."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, ScalarSelect, delete, func, or_, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import undefer

from brightrun.datasets.tables import Dataset, DatasetStatus
from brightrun.web.http import Page

_LARGE = (Dataset.validation_errors, Dataset.sample_data, Dataset.report)

SORTS: dict[str, Any] = {
    "created_at": Dataset.created_at,
    "updated_at": Dataset.updated_at,
    "name": func.lower(Dataset.name),
    "status": Dataset.status,
    "file_size": Dataset.file_size,
    "total_training_pairs": Dataset.total_training_pairs,
    "total_conversations": Dataset.total_conversations,
    "total_tokens": Dataset.total_tokens,
    "validated_at": Dataset.validated_at,
}


async def find(
    session: AsyncSession, dataset_id: UUID, *, deleted: bool = False, large: bool = False, lock: bool = False
) -> Dataset | None:
    """The dataset as the database has it now. deleted: also from the trash. large: with issues, samples and report."""
    query = select(Dataset).where(Dataset.id == dataset_id).execution_options(populate_existing=True)
    if not deleted:
        query = query.where(Dataset.deleted_at.is_(None))
    if large:
        query = query.options(*(undefer(column) for column in _LARGE))
    if lock:
        query = query.with_for_update()
    return (await session.execute(query)).scalar_one_or_none()


async def list_page(
    session: AsyncSession,
    *,
    page: Page,
    order: ColumnElement[Any],
    status: DatasetStatus | None = None,
    format: str | None = None,  # noqa: A002 - the field's word
    search: str | None = None,
    deleted: bool = False,
) -> tuple[Sequence[Dataset], int]:
    """One page, and how many there are in all."""
    where: list[ColumnElement[bool]] = [Dataset.deleted_at.is_not(None) if deleted else Dataset.deleted_at.is_(None)]
    if status is not None:
        where.append(Dataset.status == status)
    if format is not None:
        where.append(Dataset.format == format)
    if search:
        where.append(
            or_(Dataset.name.icontains(search, autoescape=True), Dataset.file_name.icontains(search, autoescape=True))
        )
    total = await session.scalar(select(func.count()).select_from(Dataset).where(*where)) or 0
    rows = await session.scalars(
        select(Dataset)
        .where(*where)
        .order_by(order.nulls_last(), Dataset.id.desc())
        .offset(page.offset)
        .limit(page.limit)
    )
    return rows.all(), total


async def counts(session: AsyncSession) -> tuple[dict[DatasetStatus, int], int]:
    """({status: how many}, how many deleted)."""
    rows = await session.execute(
        select(Dataset.status, Dataset.deleted_at.is_not(None), func.count()).group_by(text("1, 2"))
    )
    by_status = dict.fromkeys(DatasetStatus, 0)
    deleted = 0
    for status, gone, number in rows:
        if gone:
            deleted += number
        else:
            by_status[DatasetStatus(status)] = number
    return by_status, deleted


def stored_bytes() -> ScalarSelect[int]:
    """Bytes of the workspace's datasets: stored, announced, and in the trash."""
    total = func.coalesce(func.sum(Dataset.file_size), 0)
    return select(total).where(Dataset.object_deleted_at.is_(None)).scalar_subquery()


def how_many() -> ScalarSelect[int]:
    """Datasets of the workspace that are not in the trash."""
    return select(func.count()).select_from(Dataset).where(Dataset.deleted_at.is_(None)).scalar_subquery()


async def start_validation(session: AsyncSession, dataset_id: UUID) -> int | None:
    """To `validating` from any other state; the number of the attempt. None when it is validating already, or gone."""
    attempt: int | None = await session.scalar(
        update(Dataset)
        .where(
            Dataset.id == dataset_id,
            Dataset.status != DatasetStatus.VALIDATING,
            Dataset.deleted_at.is_(None),
            Dataset.object_deleted_at.is_(None),
        )
        .values(
            status=DatasetStatus.VALIDATING,
            validation_attempt=Dataset.validation_attempt + 1,
            validation_sweeps=0,
            validation_started_at=None,
            validation_heartbeat_at=func.now(),
            validated_bytes=0,
            training_ready=False,
            error_code=None,
            error_message=None,
        )
        .returning(Dataset.validation_attempt)
        .execution_options(synchronize_session=False)
    )
    return attempt


def _running(dataset_id: UUID, attempt: int) -> tuple[ColumnElement[bool], ...]:
    return (
        Dataset.id == dataset_id,
        Dataset.status == DatasetStatus.VALIDATING,
        Dataset.validation_attempt == attempt,
    )


async def claim_validation(session: AsyncSession, dataset_id: UUID, attempt: int) -> bool:
    """A worker begins (again) with this attempt; False when it was overtaken."""
    return await _changed(
        session,
        update(Dataset)
        .where(*_running(dataset_id, attempt))
        .values(
            validation_started_at=func.now(), validation_heartbeat_at=func.now(), validated_bytes=0, upload_id=None
        ),
    )


async def heartbeat(session: AsyncSession, dataset_id: UUID, attempt: int, validated_bytes: int) -> bool:
    """False when this attempt was overtaken."""
    return await _changed(
        session,
        update(Dataset)
        .where(*_running(dataset_id, attempt))
        .values(validation_heartbeat_at=func.now(), validated_bytes=validated_bytes, updated_at=Dataset.updated_at),
    )


async def count_sweep(session: AsyncSession, dataset_id: UUID, attempt: int) -> bool:
    return await _changed(
        session,
        update(Dataset)
        .where(*_running(dataset_id, attempt))
        .values(validation_sweeps=Dataset.validation_sweeps + 1, validation_heartbeat_at=func.now()),
    )


async def finish_validation(session: AsyncSession, dataset_id: UUID, attempt: int, values: dict[str, Any]) -> bool:
    """Write the outcome of this attempt; False when it was overtaken or is finished already."""
    return await _changed(session, update(Dataset).where(*_running(dataset_id, attempt)).values(**values))


async def fail(
    session: AsyncSession, dataset_id: UUID, *, since: DatasetStatus, code: str, message: str, **values: Any
) -> bool:
    """To `error` from the state it was seen in; False when it has moved on."""
    return await _changed(
        session,
        update(Dataset)
        .where(Dataset.id == dataset_id, Dataset.status == since)
        .values(status=DatasetStatus.ERROR, training_ready=False, error_code=code, error_message=message, **values),
    )


async def _changed(session: AsyncSession, statement: Any) -> bool:
    statement = statement.returning(Dataset.id).execution_options(synchronize_session=False)
    return (await session.execute(statement)).scalar_one_or_none() is not None


# --- versions -------------------------------------------------------------------------------------------------------


async def last_version(session: AsyncSession, root_id: UUID) -> int:
    """The highest number there is, 1 for a dataset that was never mended; those in the trash count, too."""
    return await session.scalar(select(func.max(Dataset.version)).where(Dataset.root_id == root_id)) or 1


async def versions(session: AsyncSession, root_id: UUID) -> Sequence[Dataset]:
    """The first and all that were made from it, by number."""
    rows = await session.scalars(
        select(Dataset).where(or_(Dataset.id == root_id, Dataset.root_id == root_id)).order_by(Dataset.version)
    )
    return rows.all()


async def unmade_versions(session: AsyncSession, parent_id: UUID) -> Sequence[str]:
    """Names of the versions whose file is being made from this dataset's."""
    rows = await session.scalars(
        select(Dataset.name).where(
            Dataset.parent_id == parent_id,
            Dataset.status == DatasetStatus.VALIDATING,
            Dataset.repaired_at.is_(None),
        )
    )
    return rows.all()


async def by_idempotency_key(session: AsyncSession, key: str) -> Dataset | None:
    return (await session.execute(select(Dataset).where(Dataset.idempotency_key == key))).scalar_one_or_none()


async def finish_repair(session: AsyncSession, dataset_id: UUID, attempt: int, values: dict[str, Any]) -> bool:
    """The file of a version is made; False when this attempt was overtaken."""
    values = values | {"repaired_at": func.now(), "validation_heartbeat_at": func.now(), "validated_bytes": 0}
    return await _changed(session, update(Dataset).where(*_running(dataset_id, attempt)).values(**values))


# --- what the sweeper discovers, before a workspace is known: ids only ---------------------------------------------


async def stuck(session: AsyncSession, before: datetime) -> Sequence[tuple[UUID, UUID]]:
    """At most 10 (workspace, dataset) whose validation gave no sign of life since then."""
    rows = await session.execute(
        text("select workspace, dataset from lookup_stuck_datasets(:before)"), {"before": before}
    )
    return [(workspace, dataset) for workspace, dataset in rows]


async def unconfirmed(session: AsyncSession, before: datetime) -> Sequence[tuple[UUID, UUID]]:
    """At most 100 (workspace, dataset) whose upload was begun, or gone on with, before then and never confirmed."""
    rows = await session.execute(
        text("select workspace, dataset from lookup_unconfirmed_datasets(:before)"), {"before": before}
    )
    return [(workspace, dataset) for workspace, dataset in rows]


async def purgeable(session: AsyncSession, before: datetime, beyond: UUID) -> Sequence[tuple[UUID, UUID]]:
    """At most 100 (workspace, dataset) deleted before then, in order of id, from the one after `beyond`."""
    rows = await session.execute(
        text("select workspace, dataset from lookup_purgeable_datasets(:before, :beyond)"),
        {"before": before, "beyond": beyond},
    )
    return [(workspace, dataset) for workspace, dataset in rows]


async def delete_unreferenced(session: AsyncSession, dataset_id: UUID) -> bool:
    """Remove the row; False when another row refers to it, and nothing has changed."""
    try:
        async with session.begin_nested():
            await session.execute(
                delete(Dataset).where(Dataset.id == dataset_id).execution_options(synchronize_session=False)
            )
    except IntegrityError:
        return False
    return True
