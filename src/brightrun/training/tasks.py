"""What training adds to other rooms in a worker. Training itself is no task of the queue: see `supervisor/`."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import text

from brightrun.clock import utcnow
from brightrun.logs import get_logger
from brightrun.platform import Platform
from brightrun.queue import schedule
from brightrun.training import repository
from brightrun.training import service as _service  # noqa: F401  (its guard: a dataset in use is not deleted)
from brightrun.training.supervisor import alarms
from brightrun.training.tables import ACTIVE

log = get_logger(__name__)


@schedule("* * * * * */15", name="training.watch_stops")
async def watch_stops(platform: Platform) -> None:
    """Cancelled jobs whose end nobody confirms in time: the worker that should is dead, or its machine is away.

    Any worker of the installation tells of it, also of another machine's.
    """
    asked_before = utcnow() - timedelta(seconds=alarms.STOPPED_WITHIN_S)
    async with platform.db.transaction() as session:
        query = text("select workspace, job from lookup_overdue_stops(:asked_before)")
        found = list(await session.execute(query, {"asked_before": asked_before}))
    for workspace_id, job_id in found:
        await _tell_of(platform, workspace_id, job_id)


async def _tell_of(platform: Platform, workspace_id: UUID, job_id: UUID) -> None:
    async with platform.db.transaction(workspace_id=workspace_id) as session:
        job = await repository.find(session, job_id, lock=True)
        if job is not None and job.status in ACTIVE and job.trained_at is None:
            await alarms.stop_overdue(session, job)
