"""SQL of templates."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.training.tables import JobStatus, TrainingJob
from brightrun.training.templates.tables import ConfigurationTemplate
from brightrun.web.http import Page

SORTS: dict[str, Any] = {
    "created_at": ConfigurationTemplate.created_at,
    "updated_at": ConfigurationTemplate.updated_at,
    "name": func.lower(ConfigurationTemplate.name),
}


async def find(
    session: AsyncSession, template_id: UUID, *, deleted: bool = False, lock: bool = False
) -> ConfigurationTemplate | None:
    query = select(ConfigurationTemplate).where(ConfigurationTemplate.id == template_id)
    if not deleted:
        query = query.where(ConfigurationTemplate.deleted_at.is_(None))
    query = query.execution_options(populate_existing=True)
    return (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()


async def named(session: AsyncSession, name: str) -> ConfigurationTemplate | None:
    query = select(ConfigurationTemplate).where(
        func.lower(ConfigurationTemplate.name) == func.lower(name), ConfigurationTemplate.deleted_at.is_(None)
    )
    return (await session.execute(query)).scalar_one_or_none()


async def list_page(
    session: AsyncSession, *, page: Page, order: ColumnElement[Any], search: str | None = None
) -> tuple[Sequence[ConfigurationTemplate], int]:
    """One page, and how many there are in all."""
    where: list[ColumnElement[bool]] = [ConfigurationTemplate.deleted_at.is_(None)]
    if search:
        where.append(ConfigurationTemplate.name.icontains(search, autoescape=True))
    total = await session.scalar(select(func.count()).select_from(ConfigurationTemplate).where(*where)) or 0
    rows = await session.scalars(
        select(ConfigurationTemplate)
        .where(*where)
        .order_by(order.nulls_last(), ConfigurationTemplate.id.desc())
        .offset(page.offset)
        .limit(page.limit)
    )
    return rows.all(), total


async def usage(session: AsyncSession, ids: Sequence[UUID]) -> dict[UUID, tuple[int, int, datetime]]:
    """template → (jobs, completed ones, when the newest was started)."""
    query = (
        select(
            TrainingJob.template_id,
            func.count(),
            func.count().filter(TrainingJob.status == JobStatus.COMPLETED),
            func.max(TrainingJob.created_at),
        )
        .where(TrainingJob.template_id.in_(ids))
        .group_by(TrainingJob.template_id)
    )
    return {row[0]: (row[1], row[2], row[3]) for row in await session.execute(query) if row[0] is not None}


async def purge(session: AsyncSession, deleted_before: datetime) -> None:
    """Remove for good what was deleted long ago."""
    await session.execute(delete(ConfigurationTemplate).where(ConfigurationTemplate.deleted_at < deleted_before))
