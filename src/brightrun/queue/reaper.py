"""Give the work of dead workers to living ones.

It runs beside the lanes and not as a task of its own: a worker full of long tasks must still find the dead.
It only puts jobs back, one attempt used up. A job without attempts left is given up by whoever fetches it next
(`execution`), where its `on_failure` hook can run under the protection of a live worker.
"""

import asyncio

from procrastinate.exceptions import ConnectorException

from brightrun.logs import get_logger
from brightrun.queue.job_manager import DurableJobManager
from brightrun.settings import Settings

logger = get_logger(__name__)


async def reap(manager: DurableJobManager, settings: Settings, stop: asyncio.Event) -> None:
    """Look for dead workers until `stop` is set. A worker is dead without a heartbeat for `stalled_worker_s`."""
    every = max(0.2, min(settings.stalled_worker_s / 4, 5.0))
    while not stop.is_set():
        try:
            await reap_once(manager, settings.stalled_worker_s)
        except ConnectorException as error:
            logger.warning("cannot look for dead workers, trying again", error=str(error.__cause__ or error))
        try:
            await asyncio.wait_for(stop.wait(), every)
        except TimeoutError:
            continue


async def reap_once(manager: DurableJobManager, stalled_s: float) -> int:
    """Put back what dead workers were doing; returns how many jobs. Safe from several workers at once."""
    reaped = 0
    for job in await manager.get_stalled_jobs(seconds_since_heartbeat=stalled_s):
        if await manager.requeue(job):
            reaped += 1
            logger.warning(
                "its worker died: back into the queue",
                task=job.task_name,
                job=job.id,
                attempts=job.attempts + 1,
                worker=job.worker_id,
            )
    # Only those long dead: a worker that was frozen keeps its row for a while, and revives it by itself.
    await manager.prune_stalled_workers(10 * stalled_s)
    return reaped
