"""SQL of jobs as people ask for them. A supervisor's is in `supervisor/claims.py`, that of curves in `series.py`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, ScalarSelect, UnaryExpression, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts.tables import User
from brightrun.costs import breakdown
from brightrun.costs.breakdown import JobFacts
from brightrun.datasets.tables import Dataset
from brightrun.training.labels import repository as labels
from brightrun.training.tables import ACTIVE, WAITING, JobEvent, JobStatus, TrainingAttempt, TrainingJob
from brightrun.web.http import Page

SORTS: dict[str, Any] = {
    "created_at": TrainingJob.created_at,
    "updated_at": TrainingJob.updated_at,
    "started_at": TrainingJob.started_at,
    "completed_at": TrainingJob.completed_at,
    "name": func.lower(TrainingJob.name),
    "status": TrainingJob.status,
    "progress": TrainingJob.progress,
    "cost": TrainingJob.current_cost,
    "heldout_loss": TrainingJob.heldout_loss_adapter,
}


async def find(session: AsyncSession, job_id: UUID, *, lock: bool = False) -> TrainingJob | None:
    query = select(TrainingJob).where(TrainingJob.id == job_id).execution_options(populate_existing=True)
    return (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()


async def by_idempotency_key(session: AsyncSession, key: str) -> TrainingJob | None:
    return (await session.execute(select(TrainingJob).where(TrainingJob.idempotency_key == key))).scalar_one_or_none()


class Archived(StrEnum):
    """Which jobs a list shows: those that are not put away, only those that are, or both."""

    NO = "no"
    ONLY = "only"
    ALL = "all"


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """tags: it has all of them. since, until: created then (until: not included).

    search: part of its name, its dataset's name, a tag or a note.
    """

    statuses: Sequence[JobStatus] = ()
    preset_id: str | None = None
    dataset_id: UUID | None = None
    base_model: str | None = None
    tags: Sequence[str] = ()
    created_by: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None
    search: str | None = None
    archived: Archived = Archived.NO

    def conditions(self) -> list[ColumnElement[bool]]:
        job = TrainingJob
        where: list[ColumnElement[bool]] = [labels.has_tag(tag) for tag in self.tags]
        if self.archived is not Archived.ALL:
            where.append(job.archived_at.is_(None) if self.archived is Archived.NO else job.archived_at.is_not(None))
        if self.statuses:
            where.append(job.status.in_(self.statuses))
        equal = {
            job.preset_id: self.preset_id, job.dataset_id: self.dataset_id, job.base_model: self.base_model,
            job.created_by: self.created_by,
        }  # fmt: skip
        where += [column == value for column, value in equal.items() if value is not None]
        if self.since is not None:
            where.append(job.created_at >= self.since)
        if self.until is not None:
            where.append(job.created_at < self.until)
        if self.search:
            named = select(Dataset.id).where(Dataset.name.icontains(self.search, autoescape=True))
            where.append(
                or_(
                    job.name.icontains(self.search, autoescape=True),
                    job.dataset_id.in_(named),
                    labels.has_words(self.search),
                )
            )
        return where


async def list_page(
    session: AsyncSession, *, page: Page, order: ColumnElement[Any], wanted: JobFilter
) -> tuple[Sequence[TrainingJob], int]:
    """One page, and how many there are in all."""
    where = wanted.conditions()
    total = await session.scalar(select(func.count()).select_from(TrainingJob).where(*where)) or 0
    rows = await session.scalars(
        select(TrainingJob)
        .where(*where)
        .order_by(_placed(order), TrainingJob.id.desc())
        .offset(page.offset)
        .limit(page.limit)
    )
    return rows.all(), total


def _placed(order: ColumnElement[Any]) -> ColumnElement[Any]:
    """What has no value comes last either way. Not said of a column that always has one: no index is in that order."""
    column = order.element if isinstance(order, UnaryExpression) else order
    return order if getattr(column, "nullable", True) is False else order.nulls_last()


async def choices(session: AsyncSession) -> tuple[list[tuple[UUID, str]], list[str], list[tuple[UUID, str]]]:
    """What the jobs of the workspace differ in: (datasets by name, base models, people by name)."""
    job = TrainingJob
    rows = (await session.execute(select(job.dataset_id, job.base_model, job.created_by).distinct())).all()
    named = await datasets(session, {row[0] for row in rows})
    people = await session.execute(
        select(User.id, User.name, User.email).where(User.id.in_({row[2] for row in rows if row[2] is not None}))
    )
    return (
        sorted(((dataset.id, dataset.name) for dataset in named.values()), key=lambda pair: pair[1].lower()),
        sorted({row[1] for row in rows}),
        sorted(((user, name or email) for user, name, email in people), key=lambda pair: pair[1].lower()),
    )


async def counts(session: AsyncSession) -> dict[JobStatus, int]:
    """Archived ones too."""
    rows = await session.execute(select(TrainingJob.status, func.count()).group_by(TrainingJob.status))
    return {**dict.fromkeys(JobStatus, 0), **{JobStatus(status): number for status, number in rows}}


def active_count() -> ScalarSelect[int]:
    """Jobs of the workspace that are at work now."""
    return select(func.count()).select_from(TrainingJob).where(TrainingJob.status.in_(ACTIVE)).scalar_subquery()


async def using_dataset(session: AsyncSession, dataset_id: UUID) -> Sequence[TrainingJob]:
    """Jobs that still need the dataset, oldest first."""
    needing = (*ACTIVE, JobStatus.QUEUED, JobStatus.INTERRUPTED, JobStatus.PAUSED)
    query = select(TrainingJob).where(TrainingJob.dataset_id == dataset_id, TrainingJob.status.in_(needing))
    return (await session.scalars(query.order_by(TrainingJob.queued_at))).all()


async def datasets(session: AsyncSession, ids: set[UUID]) -> dict[UUID, Dataset]:
    """Deleted ones too: their jobs still name them."""
    rows = await session.scalars(select(Dataset).where(Dataset.id.in_(ids)))
    return {row.id: row for row in rows}


async def attempts(session: AsyncSession, job_id: UUID) -> Sequence[TrainingAttempt]:
    query = select(TrainingAttempt).where(TrainingAttempt.job_id == job_id).order_by(TrainingAttempt.n)
    return (await session.scalars(query.execution_options(populate_existing=True))).all()


async def newest_retry(session: AsyncSession, job_id: UUID) -> UUID | None:
    """The last job that was started instead of this one."""
    query = select(TrainingJob.id).where(TrainingJob.retry_of == job_id).order_by(TrainingJob.id.desc()).limit(1)
    return await session.scalar(query)


async def named(session: AsyncSession, job_ids: Sequence[UUID]) -> Sequence[TrainingJob]:
    """Those that are there, in the order asked for."""
    rows = {row.id: row for row in await session.scalars(select(TrainingJob).where(TrainingJob.id.in_(job_ids)))}
    return [rows[job_id] for job_id in dict.fromkeys(job_ids) if job_id in rows]


async def waiting(session: AsyncSession) -> Sequence[TrainingJob]:
    """The jobs of the workspace that wait for a place, at most 500."""
    query = select(TrainingJob).where(TrainingJob.status.in_(WAITING)).order_by(TrainingJob.queued_at).limit(500)
    return (await session.scalars(query.execution_options(populate_existing=True))).all()


async def at_work(session: AsyncSession) -> int:
    """Jobs of the workspace that take a place on some machine now."""
    query = select(func.count()).select_from(TrainingJob)
    return await session.scalar(query.where(TrainingJob.status.in_(ACTIVE), TrainingJob.trained_at.is_(None))) or 0


async def facts(session: AsyncSession, ids: set[UUID]) -> dict[UUID, JobFacts]:
    """What costs say of jobs. Datasets are never taken away below them, only marked as deleted."""
    query = (
        select(TrainingJob.id, TrainingJob.name, TrainingJob.dataset_id, Dataset.name, TrainingJob.preset_id)
        .join(Dataset, Dataset.id == TrainingJob.dataset_id)
        .where(TrainingJob.id.in_(ids))
    )
    return {row[0]: JobFacts(row[1], row[2], row[3], row[4]) for row in await session.execute(query)}


breakdown.job_facts.append(facts)


async def list_events(
    session: AsyncSession,
    job_id: UUID,
    *,
    page: Page,
    types: Sequence[str] = (),
    without: Sequence[str] = (),
    level: str | None = None,
    search: str | None = None,
    newest_first: bool = True,
) -> tuple[Sequence[JobEvent], int]:
    where: list[ColumnElement[bool]] = [JobEvent.job_id == job_id]
    if types:
        where.append(JobEvent.type.in_(types))
    if without:
        where.append(JobEvent.type.not_in(without))
    if level is not None:
        where.append(JobEvent.level == level)
    if search:
        where.append(JobEvent.message.icontains(search, autoescape=True))
    total = await session.scalar(select(func.count()).select_from(JobEvent).where(*where)) or 0
    columns = (JobEvent.recorded_at, JobEvent.id)
    order = [column.desc() for column in columns] if newest_first else [column.asc() for column in columns]
    rows = await session.scalars(select(JobEvent).where(*where).order_by(*order).offset(page.offset).limit(page.limit))
    return rows.all(), total


async def best_checkpoint(session: AsyncSession, job_id: UUID) -> int | None:
    """The step of the newest checkpoint that was the best on held-out records when it was saved; None without one."""
    return await session.scalar(
        select(JobEvent.details["step"].as_integer())
        .where(JobEvent.job_id == job_id, JobEvent.type == "checkpoint", JobEvent.details["best"].as_boolean())
        .order_by(JobEvent.recorded_at.desc(), JobEvent.id.desc())
        .limit(1)
    )
