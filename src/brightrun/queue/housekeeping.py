"""Finished jobs are kept a while for whoever looks into a failure, then deleted."""

from sqlalchemy import text

from brightrun.logs import get_logger
from brightrun.queue.registry import TaskPlatform, schedule

logger = get_logger(__name__)

_KEEP_SUCCEEDED_H = 6
_KEEP_OTHERS_H = 24 * 30
_BATCH = 10_000

_DELETE = text(
    "delete from procrastinate_jobs where id in ("
    " select job.id from procrastinate_jobs job"
    " where (job.status = 'succeeded' or (:others and job.status in ('failed', 'cancelled', 'aborted')))"
    " and not exists (select 1 from procrastinate_events event where event.job_id = job.id"
    " and event.at >= now() - make_interval(hours => :hours)) limit :batch)"
)


@schedule("17 * * * *", name="queue.delete_finished_jobs")
async def delete_finished_jobs(platform: TaskPlatform) -> None:
    for others, hours in ((False, _KEEP_SUCCEEDED_H), (True, _KEEP_OTHERS_H)):
        deleted = _BATCH
        while deleted == _BATCH:
            async with platform.db.transaction() as session:
                result = await session.execute(_DELETE, {"others": others, "hours": hours, "batch": _BATCH})
                deleted = result.rowcount  # type: ignore[attr-defined]
            if deleted:
                logger.info("deleted finished jobs of the queue", jobs=deleted, older_than_h=hours)
