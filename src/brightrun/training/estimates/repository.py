"""SQL of probes and of counted lengths."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.datasets.tables import Dataset
from brightrun.ids import uuid7
from brightrun.training.estimates.tables import DatasetLengths, EstimateProbe, ProbeStatus
from brightrun.web.http import Page

OPEN = (ProbeStatus.QUEUED, ProbeStatus.RUNNING)


async def report_lengths(session: AsyncSession, dataset_id: UUID) -> dict[str, Any] | None:
    """How long the records of a dataset are, as its validation counted them (`readiness.lengths_of`)."""
    found: dict[str, Any] | None = await session.scalar(
        select(Dataset.report["lengths"]).where(Dataset.id == dataset_id)
    )
    return found


async def lengths(session: AsyncSession, dataset: Dataset, tokenizer_sha256: str) -> DatasetLengths | None:
    query = select(DatasetLengths).where(
        DatasetLengths.dataset_id == dataset.id,
        DatasetLengths.dataset_sha256 == dataset.sha256,
        DatasetLengths.tokenizer_sha256 == tokenizer_sha256,
    )
    return (await session.execute(query)).scalar_one_or_none()


async def claim_lengths(session: AsyncSession, dataset: Dataset, tokenizer_sha256: str, base_model: str) -> bool:
    """A row for what is going to be counted; False when there is one already."""
    statement = (
        insert(DatasetLengths)
        .values(
            id=uuid7(), workspace_id=dataset.workspace_id, dataset_id=dataset.id, dataset_sha256=dataset.sha256,
            tokenizer_sha256=tokenizer_sha256, base_model=base_model,
        )
        .on_conflict_do_nothing(constraint="dataset_lengths_key")
        .returning(DatasetLengths.id)
    )  # fmt: skip
    return (await session.execute(statement)).first() is not None


async def probe(session: AsyncSession, probe_id: UUID, *, lock: bool = False) -> EstimateProbe | None:
    query = select(EstimateProbe).where(EstimateProbe.id == probe_id).execution_options(populate_existing=True)
    return (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()


async def newest_probe(
    session: AsyncSession, key: str, statuses: Sequence[ProbeStatus] | None = None
) -> EstimateProbe | None:
    query = select(EstimateProbe).where(EstimateProbe.key == key)
    if statuses is not None:
        query = query.where(EstimateProbe.status.in_(statuses))
    query = query.order_by(EstimateProbe.created_at.desc(), EstimateProbe.id.desc()).limit(1)
    return (await session.execute(query)).scalar_one_or_none()


async def list_probes(
    session: AsyncSession, page: Page, *, dataset_id: UUID | None
) -> tuple[Sequence[EstimateProbe], int]:
    query = select(EstimateProbe)
    if dataset_id is not None:
        query = query.where(EstimateProbe.dataset_id == dataset_id)
    total = await session.scalar(select(func.count()).select_from(query.subquery())) or 0
    query = query.order_by(EstimateProbe.created_at.desc(), EstimateProbe.id.desc())
    rows = (await session.execute(query.offset((page.page - 1) * page.limit).limit(page.limit))).scalars().all()
    return rows, total


async def advance(session: AsyncSession, probe_id: UUID, **values: Any) -> EstimateProbe | None:
    """Change a probe that is open, and lock it; None when it is not open any more."""
    statement = (
        update(EstimateProbe)
        .where(EstimateProbe.id == probe_id, EstimateProbe.status.in_(OPEN))
        .values(**values)
        .returning(EstimateProbe)
        .execution_options(populate_existing=True)
    )
    return (await session.execute(statement)).scalar_one_or_none()
