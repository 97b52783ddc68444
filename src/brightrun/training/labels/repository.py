"""SQL of tags and notes."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, delete, exists, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.training.labels.tables import JobNote, JobTag
from brightrun.training.tables import TrainingJob


def has_tag(tag: str) -> ColumnElement[bool]:
    return TrainingJob.id.in_(select(JobTag.job_id).where(JobTag.tag == tag))


def has_words(search: str) -> ColumnElement[bool]:
    """In one of its notes or tags."""
    noted = exists().where(JobNote.job_id == TrainingJob.id, JobNote.text.icontains(search, autoescape=True))
    tagged = exists().where(JobTag.job_id == TrainingJob.id, JobTag.tag.contains(search.lower(), autoescape=True))
    return noted | tagged


async def tags_of(session: AsyncSession, job_ids: Collection[UUID]) -> dict[UUID, list[str]]:
    """In alphabetical order; jobs without any are left out."""
    found: dict[UUID, list[str]] = {}
    query = select(JobTag.job_id, JobTag.tag).where(JobTag.job_id.in_(job_ids)).order_by(JobTag.tag)
    for job_id, tag in await session.execute(query):
        found.setdefault(job_id, []).append(tag)
    return found


async def counts(session: AsyncSession, *, search: str | None = None, limit: int = 200) -> list[tuple[str, int]]:
    """Tags of the workspace with how many jobs have them, the most used first."""
    query = select(JobTag.tag, func.count()).group_by(JobTag.tag).order_by(func.count().desc(), JobTag.tag)
    if search:
        query = query.where(JobTag.tag.contains(search, autoescape=True))
    return [(tag, number) for tag, number in await session.execute(query.limit(limit))]


async def add_tags(session: AsyncSession, job: TrainingJob, tags: Collection[str]) -> None:
    if tags:
        rows = [{"job_id": job.id, "workspace_id": job.workspace_id, "tag": tag} for tag in tags]
        await session.execute(insert(JobTag).values(rows).on_conflict_do_nothing())


async def remove_tags(session: AsyncSession, job: TrainingJob, tags: Collection[str]) -> None:
    await session.execute(delete(JobTag).where(JobTag.job_id == job.id, JobTag.tag.in_(tags)))


async def notes_of(session: AsyncSession, job_id: UUID) -> Sequence[JobNote]:
    """The newest first."""
    query = select(JobNote).where(JobNote.job_id == job_id).order_by(JobNote.created_at.desc(), JobNote.id.desc())
    return (await session.scalars(query.limit(500))).all()


async def find_note(session: AsyncSession, job_id: UUID, note_id: UUID) -> JobNote | None:
    query = select(JobNote).where(JobNote.id == note_id, JobNote.job_id == job_id)
    return (await session.execute(query)).scalar_one_or_none()


async def note_counts(session: AsyncSession, job_ids: Collection[UUID]) -> dict[UUID, int]:
    query = select(JobNote.job_id, func.count()).where(JobNote.job_id.in_(job_ids)).group_by(JobNote.job_id)
    return {job_id: notes for job_id, notes in await session.execute(query)}  # noqa: C416 (rows, not pairs)
