"""SQL of what promises are made from and compared with."""

from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.datasets.tables import Dataset


async def lengths_of(session: AsyncSession, dataset_id: UUID) -> dict[str, Any] | None:
    """How long the records of a dataset are, as its validation counted them (`readiness.lengths_of`)."""
    found: dict[str, Any] | None = await session.scalar(
        select(Dataset.report["lengths"]).where(Dataset.id == dataset_id)
    )
    return found
