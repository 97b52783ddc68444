"""Ask for work in the same transaction as the row that needs it: both are there after the commit, or neither."""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from procrastinate import PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.queue.registry import find_task

# Never opened: every statement goes over the caller's own connection.
_jobs = JobManager(PsycopgConnector())


async def enqueue(
    session: AsyncSession,
    name: str,
    *,
    lock: str | None = None,
    queueing_lock: str | None = None,
    priority: int = 0,
    run_at: datetime | None = None,
    **arguments: Any,
) -> int | None:
    """Put the task `name` into the queue as part of `session`'s transaction. Returns the id of the queue's job.

    lock: no two jobs with the same lock run at the same time. queueing_lock: when a job with the same one is already
    waiting, nothing is added and the answer is None. priority: higher runs first. run_at: not before this moment.
    arguments: JSON-able; a UUID arrives as its text.

    Raises LookupError for a name that nobody registered, TypeError for arguments that the task would refuse.
    """
    definition = find_task(name)
    definition.check_arguments(arguments)
    job = Job(
        queue=definition.queue,
        task_name=name,
        lock=lock,
        queueing_lock=queueing_lock,
        priority=priority,
        scheduled_at=run_at,
        task_kwargs=_as_json(name, arguments),
    )
    if queueing_lock is None:
        return (await _jobs.defer_job_async(job, connection=await _raw_connection(session))).id
    try:
        # A refused duplicate would abort the caller's transaction: only the savepoint goes back. (SQLAlchemy sets it
        # when the connection is asked for inside the block.)
        async with session.begin_nested():
            return (await _jobs.defer_job_async(job, connection=await _raw_connection(session))).id
    except AlreadyEnqueued:
        return None


async def _raw_connection(session: AsyncSession) -> psycopg.AsyncConnection[Any]:
    connection = await session.connection()
    raw = (await connection.get_raw_connection()).driver_connection
    assert isinstance(raw, psycopg.AsyncConnection)
    return raw


def _as_json(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    def convert(value: Any) -> Any:
        if isinstance(value, UUID):
            return str(value)
        raise TypeError(f"task {name!r}: an argument holds a {type(value).__name__}, which is not JSON")

    converted: dict[str, Any] = json.loads(json.dumps(arguments, default=convert, allow_nan=False))
    return converted
