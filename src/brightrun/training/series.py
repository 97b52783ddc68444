"""Curves, thinned in the database so that a page gets what it can draw: each stretch keeps its extremes."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.training.tables import SeriesKind

COLUMNS = (
    "step, epoch, training_loss, validation_loss, learning_rate, gradient_norm, trained_tokens, throughput,"
    " memory_bytes, gpu_memory_bytes, recorded_at"
)
_OF_JOB = "from metrics_points where job_id = :job_id and kind = :kind"
_SUMMARY = text(f"select count(*) as total, min(step) as first, max(step) as last {_OF_JOB}")
_ALL = text(f"select {COLUMNS} {_OF_JOB} order by step")
# Two points a bucket, and the two ends of the curve; a spike one step wide is still there afterwards.
_THINNED = text(
    f"""
    with points as (
      select step, coalesce(training_loss, validation_loss) as loss,
             (cast(step - :first as bigint) * :buckets) / cast(:last - :first + 1 as bigint) as bucket
      {_OF_JOB}
    ), extremes as (
      select bucket, min(loss) as low, max(loss) as high from points group by bucket
    ), chosen as (
      select min(step) as step from points join extremes using (bucket) where loss = low group by bucket
      union select min(step) from points join extremes using (bucket) where loss = high group by bucket
      union select min(step) from points where loss is null group by bucket
      union select :first union select :last
    )
    select {COLUMNS} {_OF_JOB} and step in (select step from chosen) order by step
    """  # noqa: S608 (only constants of this module)
)


async def series(
    session: AsyncSession, job_id: UUID, kind: SeriesKind, *, points: int
) -> tuple[Sequence[RowMapping], int]:
    """(about `points` points at most, in order of step; how many there are in all)."""
    which: Mapping[str, Any] = {"job_id": job_id, "kind": kind.value}
    total, first, last = (await session.execute(_SUMMARY, which)).one()
    if total <= points:
        return (await session.execute(_ALL, which)).mappings().all(), total
    buckets = max(1, (points - 2) // 2)
    rows = await session.execute(_THINNED, {**which, "first": first, "last": last, "buckets": buckets})
    return rows.mappings().all(), total
