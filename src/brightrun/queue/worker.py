"""The worker: one lane a queue, so that hours of training never hold up a validation that should start at once."""

import asyncio
from collections.abc import Iterable
from typing import Any

import procrastinate
from procrastinate import JobContext, PsycopgConnector
from procrastinate.worker import Worker
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import make_url

from brightrun.db.roles import libpq
from brightrun.logs import get_logger
from brightrun.queue import housekeeping as _housekeeping  # noqa: F401  (registers its schedules)
from brightrun.queue.events import retention as _retention  # noqa: F401
from brightrun.queue.execution import RetryPolicy, execute
from brightrun.queue.job_manager import DurableJobManager
from brightrun.queue.reaper import reap
from brightrun.queue.registry import MAINTENANCE_QUEUE, TaskDefinition, TaskPlatform, registered

logger = get_logger(__name__)

_POLL_S = 1.0
"""LISTEN tells of new work at once; retries and reaped jobs are found by asking."""
_MAINTENANCE_CONCURRENCY = 2
_RESTART_S = 1.0


async def run_worker(
    platform: TaskPlatform,
    *,
    concurrency: int,
    stop: asyncio.Event,
    queues: Iterable[str] | None = None,
    graceful_s: float = 10.0,
) -> None:
    """Work until `stop` is set; then let running tasks finish for `graceful_s` seconds and put the rest back.

    platform: its `db` must be of the worker role. concurrency: tasks at once in each lane (queue); schedules have a
    small lane of their own. queues: which lanes to run; None for those of all registered tasks, schedules included.
    A database that is away or restarts is waited for; nothing that was accepted is lost.
    """
    tasks = registered()
    lanes = sorted(set(queues) if queues is not None else {definition.queue for definition in tasks.values()})
    pool = _make_pool(platform, size=len(lanes) + 2)
    await pool.open()
    try:
        async with asyncio.TaskGroup() as group:
            for lane in lanes:
                size = _MAINTENANCE_CONCURRENCY if lane == MAINTENANCE_QUEUE else concurrency
                group.create_task(
                    _run_lane(platform, pool, lane, list(tasks.values()), size, stop, graceful_s), name=f"lane {lane}"
                )
            group.create_task(
                reap(DurableJobManager(await _connector(pool), stop), platform.settings, stop), name="reaper"
            )
            logger.info("worker started", queues=lanes, concurrency=concurrency)
    finally:
        await pool.close()
    logger.info("worker stopped")


async def _run_lane(
    platform: TaskPlatform,
    pool: AsyncConnectionPool[Any],
    lane: str,
    tasks: list[TaskDefinition],
    concurrency: int,
    stop: asyncio.Event,
    graceful_s: float,
) -> None:
    app = await _build_app(platform, pool, [definition for definition in tasks if definition.queue == lane], stop)
    while not stop.is_set():
        worker = Worker(
            app,
            queues=[lane],
            name=lane,
            concurrency=concurrency,
            fetch_job_polling_interval=_POLL_S,
            shutdown_graceful_timeout=graceful_s,
            install_signal_handlers=False,
            update_heartbeat_interval=platform.settings.worker_heartbeat_s,
            # The reaper removes dead workers, after it has put their work back.
            stalled_worker_timeout=10 * platform.settings.stalled_worker_s,
        )
        running = asyncio.create_task(worker.run(), name=f"worker {lane}")  # type: ignore[no-untyped-call]
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                worker.stop()  # type: ignore[no-untyped-call]
            await running
        except asyncio.CancelledError:
            running.cancel()  # As good as a stop: running tasks finish or go back.
            await asyncio.wait({running})
            raise
        except Exception:
            logger.exception("a lane of the worker ended with an error", queue=lane)
        finally:
            stopped.cancel()
        if not stop.is_set():
            logger.warning("a lane of the worker ended by itself, starting it again", queue=lane)
            await _pause(stop, _RESTART_S)


async def _build_app(
    platform: TaskPlatform, pool: AsyncConnectionPool[Any], tasks: list[TaskDefinition], stop: asyncio.Event
) -> procrastinate.App:
    app = procrastinate.App(connector=await _connector(pool))
    app.job_manager = DurableJobManager(app.connector, stop)
    for definition in tasks:
        _add(app, platform, definition)
    return app


def _add(app: procrastinate.App, platform: TaskPlatform, definition: TaskDefinition) -> None:
    limit = definition.attempts if definition.attempts is not None else platform.settings.task_attempts
    policy = RetryPolicy(limit)

    async def run(context: JobContext, /, **arguments: Any) -> None:
        if definition.cron is not None:
            arguments.pop("timestamp", None)  # procrastinate's own, the moment the schedule was due
        await execute(definition, policy, platform, context, arguments)

    only_one = definition.name if definition.cron is not None else None
    added = app.task(
        name=definition.name,
        queue=definition.queue,
        retry=policy,
        pass_context=True,
        lock=only_one,
        queueing_lock=only_one,
    )(run)
    if definition.cron is not None:
        app.periodic(cron=definition.cron)(added)  # type: ignore[arg-type]


def _make_pool(platform: TaskPlatform, *, size: int) -> AsyncConnectionPool[Any]:
    return AsyncConnectionPool(
        libpq(make_url(platform.db.url)),
        min_size=1,
        max_size=size,
        open=False,
        # Short, because a pool doubles its pauses while the database is away: work starts seconds after its return.
        timeout=5.0,
        reconnect_timeout=2.0,
        kwargs={"application_name": "brightrun worker", "connect_timeout": 10},
        check=AsyncConnectionPool.check_connection,
    )


async def _connector(pool: AsyncConnectionPool[Any]) -> PsycopgConnector:
    connector = PsycopgConnector()
    await connector.open_async(pool)
    return connector


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
