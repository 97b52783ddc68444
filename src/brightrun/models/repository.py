"""All SQL of the models room."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Double, RowMapping, ScalarSelect, cast, delete, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.datasets.tables import Dataset
from brightrun.models.tables import ModelArtifact, ModelStatus
from brightrun.training.tables import JobStatus, TrainingAttempt, TrainingJob
from brightrun.web.http import Page


def _metric(name: str) -> ColumnElement[float]:
    return cast(ModelArtifact.quality_metrics[name].astext, Double)


SORTS: dict[str, Any] = {
    "created_at": ModelArtifact.created_at,
    "updated_at": ModelArtifact.updated_at,
    "name": func.lower(ModelArtifact.name),
    "version": ModelArtifact.version_number,
    "size": ModelArtifact.size_bytes,
    "heldout_loss": _metric("heldout_loss_adapter"),
    "improvement": _metric("heldout_loss_difference"),
}
"""improvement: adapter − base, so ascending is best first."""


async def find(
    session: AsyncSession, model_id: UUID, *, deleted: bool = False, lock: bool = False
) -> ModelArtifact | None:
    """deleted: also from the trash."""
    query = select(ModelArtifact).where(ModelArtifact.id == model_id).execution_options(populate_existing=True)
    if not deleted:
        query = query.where(ModelArtifact.deleted_at.is_(None))
    if lock:
        query = query.with_for_update()
    return (await session.execute(query)).scalar_one_or_none()


async def of_job(session: AsyncSession, job_id: UUID) -> ModelArtifact | None:
    """Also from the trash."""
    return (await session.execute(select(ModelArtifact).where(ModelArtifact.job_id == job_id))).scalar_one_or_none()


async def list_page(
    session: AsyncSession,
    *,
    page: Page,
    order: ColumnElement[Any],
    status: ModelStatus | None = None,
    dataset_id: UUID | None = None,
    base_model: str | None = None,
    verdict: str | None = None,
    search: str | None = None,
    deleted: bool = False,
) -> tuple[Sequence[ModelArtifact], int]:
    """One page, and how many there are in all."""
    gone = ModelArtifact.deleted_at
    where: list[ColumnElement[bool]] = [gone.is_not(None) if deleted else gone.is_(None)]
    if status is not None:
        where.append(ModelArtifact.status == status)
    if dataset_id is not None:
        where.append(ModelArtifact.dataset_id == dataset_id)
    if base_model is not None:
        where.append(ModelArtifact.base_model["name"].astext == base_model)
    if verdict is not None:
        where.append(ModelArtifact.quality_metrics["verdict"].astext == verdict)
    if search:
        named = select(Dataset.id).where(Dataset.name.icontains(search, autoescape=True))
        where.append(
            or_(
                ModelArtifact.name.icontains(search, autoescape=True),
                ModelArtifact.description.icontains(search, autoescape=True),
                ModelArtifact.base_model["name"].astext.icontains(search, autoescape=True),
                ModelArtifact.dataset_id.in_(named),
            )
        )
    total = await session.scalar(select(func.count()).select_from(ModelArtifact).where(*where)) or 0
    rows = await session.scalars(
        select(ModelArtifact)
        .where(*where)
        .order_by(order.nulls_last(), ModelArtifact.id.desc())
        .offset(page.offset)
        .limit(page.limit)
    )
    return rows.all(), total


async def origins(
    session: AsyncSession, models: Sequence[ModelArtifact]
) -> tuple[dict[UUID, Dataset], dict[UUID, TrainingJob]]:
    """The datasets (deleted ones too) and jobs that these models come from, by id."""
    datasets = await session.scalars(select(Dataset).where(Dataset.id.in_({model.dataset_id for model in models})))
    jobs = await session.scalars(select(TrainingJob).where(TrainingJob.id.in_({model.job_id for model in models})))
    return {row.id: row for row in datasets}, {row.id: row for row in jobs}


def stored_bytes() -> ScalarSelect[int]:
    """Bytes of the workspace's models, those in the trash too."""
    return select(func.coalesce(func.sum(ModelArtifact.size_bytes), 0)).scalar_subquery()


def how_many() -> ScalarSelect[int]:
    """Models of the workspace that are not in the trash."""
    return select(func.count()).select_from(ModelArtifact).where(ModelArtifact.deleted_at.is_(None)).scalar_subquery()


async def next_version(session: AsyncSession, dataset_id: UUID) -> tuple[int, UUID | None]:
    """(number of the dataset's next model, the model before it), this transaction's until it ends.

    Every completed job had a model, so that the number of a purged one is not given again.
    """
    await session.execute(
        text("select pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"model version {dataset_id}"}
    )
    jobs = await session.scalar(
        select(func.count())
        .select_from(TrainingJob)
        .where(TrainingJob.dataset_id == dataset_id, TrainingJob.status == JobStatus.COMPLETED)
    )
    latest = (
        await session.execute(
            select(ModelArtifact.id, ModelArtifact.version_number)
            .where(ModelArtifact.dataset_id == dataset_id)
            .order_by(ModelArtifact.version_number.desc())
            .limit(1)
        )
    ).one_or_none()
    number = 1 + max(jobs or 0, latest.version_number if latest else 0)
    return number, latest.id if latest else None


async def attempts(session: AsyncSession, job_id: UUID) -> int:
    query = select(func.count()).select_from(TrainingAttempt).where(TrainingAttempt.job_id == job_id)
    return await session.scalar(query) or 0


_CURVES = text(
    """
    select coalesce(t.step, h.step) as step, coalesce(t.epoch, h.epoch) as epoch, t.training_loss,
           h.validation_loss as heldout_loss, t.learning_rate, t.gradient_norm, t.trained_tokens,
           t.throughput as tokens_per_s, t.memory_bytes, t.gpu_memory_bytes, t.gpu_utilization, t.cpu_percent,
           t.reward_margin, t.reward_accuracy, h.reward_margin as heldout_reward_margin,
           h.reward_accuracy as heldout_reward_accuracy,
           coalesce(t.recorded_at, h.recorded_at) as recorded_at
    from (select * from metrics_points where job_id = :job_id and kind = 'train') t
    full join (select * from metrics_points where job_id = :job_id and kind = 'heldout') h on h.step = t.step
    order by 1
    """
)
CURVE_COLUMNS = (
    "step", "epoch", "training_loss", "heldout_loss", "learning_rate", "gradient_norm", "trained_tokens",
    "tokens_per_s", "memory_bytes", "gpu_memory_bytes", "gpu_utilization", "cpu_percent", "reward_margin",
    "reward_accuracy", "heldout_reward_margin", "heldout_reward_accuracy", "recorded_at",
)  # fmt: skip


async def curves(session: AsyncSession, job_id: UUID) -> AsyncIterator[RowMapping]:
    """Both curves of a job, a row a step, in order; streamed, as there may be a million."""
    result = await session.stream(_CURVES, {"job_id": job_id}, execution_options={"yield_per": 1000})
    async for row in result.mappings():
        yield row


async def remove(session: AsyncSession, model_id: UUID) -> None:
    """Take the row away; its job and the version after it forget it."""
    await session.execute(
        delete(ModelArtifact).where(ModelArtifact.id == model_id).execution_options(synchronize_session=False)
    )


async def purgeable(session: AsyncSession, before: datetime, beyond: UUID) -> Sequence[tuple[UUID, UUID]]:
    """At most 100 (workspace, model) deleted before then, in order of id, from the one after `beyond`."""
    rows = await session.execute(
        text("select workspace, model from lookup_purgeable_models(:before, :beyond)"),
        {"before": before, "beyond": beyond},
    )
    return [(workspace, model) for workspace, model in rows]
