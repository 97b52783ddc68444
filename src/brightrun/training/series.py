"""Curves, thinned in the database so that a page gets what it can draw: each stretch keeps its extremes."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.training.tables import SeriesKind

COLUMNS = (
    "step, epoch, training_loss, validation_loss, learning_rate, gradient_norm, trained_tokens, throughput,"
    " memory_bytes, gpu_memory_bytes, gpu_utilization, cpu_percent, reward_margin, reward_accuracy, recorded_at"
)
NAMES = tuple(name.strip() for name in COLUMNS.split(","))
MEASURED = (
    "learning_rate", "gradient_norm", "throughput", "memory_bytes", "cpu_percent", "gpu_memory_bytes",
    "gpu_utilization", "reward_margin", "reward_accuracy",
)  # fmt: skip
"""What a chart can show beside the losses, of the steps of training."""
_OF_JOB = "from metrics_points where job_id = :job_id and kind = :kind"
_SUMMARY = text(f"select count(*) as total, min(step) as first, max(step) as last {_OF_JOB}")
_ALL = text(f"select {COLUMNS} {_OF_JOB} order by step")
# Two points a bucket, and the two ends of the curve; a spike one step wide is still there afterwards. One pass: arrays
# compare by loss first, and carry the step along.
_CHOSEN = text(
    f"""
    select cast((min(array[loss, step]))[2] as integer) as low, cast((max(array[loss, step]))[2] as integer) as high
    from (select coalesce(training_loss, validation_loss, 'NaN') as loss, cast(step as double precision) as step,
                 cast(step - :first as bigint) * :buckets / cast(:span as bigint) as bucket {_OF_JOB}) points
    group by bucket
    """  # noqa: S608 (only constants of this module)
)
_THESE = text(f"select {COLUMNS} {_OF_JOB} and step = any(:steps) order by step")


async def series(
    session: AsyncSession, job_id: UUID, kind: SeriesKind, *, points: int
) -> tuple[Sequence[RowMapping], int]:
    """(about `points` points at most, in order of step; how many there are in all)."""
    which: Mapping[str, Any] = {"job_id": job_id, "kind": kind.value}
    total, first, last = (await session.execute(_SUMMARY, which)).one()
    if total <= points:
        return (await session.execute(_ALL, which)).mappings().all(), total
    buckets = max(1, (points - 2) // 2)
    chosen = await session.execute(_CHOSEN, {**which, "first": first, "span": last - first + 1, "buckets": buckets})
    steps = {first, last, *(step for pair in chosen for step in pair)}
    return (await session.execute(_THESE, {**which, "steps": sorted(steps)})).mappings().all(), total


_AFTER = text(f"select {COLUMNS} {_OF_JOB} and step > :after order by step limit :limit")


async def points_after(
    session: AsyncSession, job_id: UUID, kind: SeriesKind, after: int, limit: int
) -> Sequence[RowMapping]:
    """The next points of a curve, none left out."""
    which = {"job_id": job_id, "kind": kind.value, "after": after, "limit": limit}
    return (await session.execute(_AFTER, which)).mappings().all()
