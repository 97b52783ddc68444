"""procrastinate's job manager, made to lose nothing: fenced final updates, and patience with a restarting database."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar

import psycopg
from procrastinate import exceptions, jobs
from procrastinate.manager import JobManager, NotificationCallback

from brightrun.clock import utcnow
from brightrun.logs import get_logger
from brightrun.queue.run import TaskRun

logger = get_logger(__name__)

# The same condition as run.HELD, in psycopg's parameter style.
_HELD = (
    "select id from procrastinate_jobs where id = %(job_id)s and status = 'doing' and attempts = %(attempts)s"
    " and (worker_id = %(worker_id)s or worker_id is null) for update"
)
_FINISH = (
    "select procrastinate_finish_job_v1(held.id, %(status)s::procrastinate_job_status, false)"  # noqa: S608
    f" from ({_HELD}) held"
)
_RETRY = (
    "select procrastinate_retry_job_v2(held.id, %(retry_at)s::timestamptz, null, null, null)"  # noqa: S608
    f" from ({_HELD}) held"
)
_RUN_AGAIN = (
    "update procrastinate_jobs set status = 'todo', scheduled_at = %(retry_at)s::timestamptz, worker_id = null"  # noqa: S608
    f" where id in ({_HELD}) returning id"
)
_HEARTBEAT = (
    "insert into procrastinate_workers (id, last_heartbeat) overriding system value values (%(worker_id)s, now())"
    " on conflict (id) do update set last_heartbeat = now()"
)
_STILL_HELD = "select id, status::text, attempts, worker_id from procrastinate_jobs where id = any(%(ids)s)"
_STATUS = "select status::text, attempts from procrastinate_jobs where id = %(job_id)s"

_PATIENCE_AT_STOP_S = 10.0
Answer = TypeVar("Answer")


class DurableJobManager(JobManager):
    """runs: what this worker is doing now, by job id, with the asyncio task doing it.

    run_again: jobs whose next return to the queue uses up no attempt.
    """

    def __init__(self, connector: Any, stop: asyncio.Event) -> None:
        super().__init__(connector)
        self.stop = stop
        self.runs: dict[int, tuple[TaskRun, asyncio.Task[Any]]] = {}
        self.run_again: set[int] = set()

    async def finish_job(self, job: jobs.Job, status: jobs.Status, delete_job: bool) -> None:
        del delete_job  # Finished jobs are kept a while and deleted by schedule.
        if not await self._held(_FINISH, job, status=status.value):
            await self._report_lost(job)

    async def retry_job(
        self,
        job: jobs.Job,
        retry_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        if not await self.requeue(job, retry_at=retry_at):
            await self._report_lost(job)

    async def requeue(self, job: jobs.Job, *, retry_at: datetime | None = None) -> bool:
        """Put a job that is being done back into the queue; False when it is no longer the run that `job` describes."""
        assert job.id is not None
        counted = job.id not in self.run_again
        self.run_again.discard(job.id)
        try:
            return await self._held(_RETRY if counted else _RUN_AGAIN, job, retry_at=retry_at or utcnow())
        except exceptions.UniqueViolation:
            # Its queueing lock says that one waiting job is enough, and one is already waiting.
            logger.info("superseded by a waiting job", task=job.task_name, job=job.id, lock=job.queueing_lock)
            return await self._held(_FINISH, job, status=jobs.Status.ABORTED.value)

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> jobs.Job | None:
        try:
            return await super().fetch_job(list(queues) if queues else None, worker_id)
        except exceptions.ConnectorException as error:
            # The worker asks again at its next poll; running jobs go on meanwhile.
            logger.warning("cannot fetch work, trying again", error=_cause(error))
            return None

    async def update_heartbeat(self, worker_id: int) -> None:
        """Say that this worker lives, also after others thought it dead; drop what they have taken over since."""
        try:
            await self.connector.execute_query_async(_HEARTBEAT, worker_id=worker_id)
            await self._drop_lost_runs()
        except exceptions.ConnectorException as error:
            logger.warning("cannot send the worker's heartbeat, trying again", error=_cause(error))

    async def defer_periodic_job(self, job: jobs.Job, periodic_id: str, defer_timestamp: int) -> int | None:
        parent = super().defer_periodic_job
        return await self._patiently(f"schedule {job.task_name}", lambda: parent(job, periodic_id, defer_timestamp))

    async def listen_for_jobs(
        self, *, on_notification: NotificationCallback, queues: Iterable[str] | None = None
    ) -> None:
        parent = super().listen_for_jobs
        await self._patiently("listen for new work", lambda: parent(on_notification=on_notification, queues=queues))

    async def _drop_lost_runs(self) -> None:
        asked = dict(self.runs)  # Others start while the database answers; it does not speak of them.
        if not asked:
            return
        rows = await self.connector.execute_query_all_async(_STILL_HELD, ids=list(asked))
        found = {row["id"]: row for row in rows}
        for job_id, (run, running) in asked.items():
            row = found.get(job_id)
            ours = row is not None and (
                (row["attempts"], row["status"]) == (run.attempts + 1, "succeeded")  # run.complete()
                or (
                    (row["attempts"], row["status"]) == (run.attempts, "doing")
                    and row["worker_id"] in {run.worker_id, None}
                )
            )
            if not ours and not run.lost and not running.done():
                run.lost = True
                logger.warning("dropping a run that another worker has taken over", task=run.task_name, job=job_id)
                running.cancel()

    async def _held(self, query: str, job: jobs.Job, **arguments: Any) -> bool:
        """Run `query`, which changes the job only while it is held by the run that `job` describes. True if it was."""
        token = {"job_id": job.id, "attempts": job.attempts, "worker_id": job.worker_id}
        rows = await self._patiently(
            f"record the outcome of {job.task_name} (queue job {job.id})",
            lambda: self.connector.execute_query_all_async(query, **token, **arguments),
        )
        return bool(rows)

    async def _report_lost(self, job: jobs.Job) -> None:
        row = await self._patiently(
            f"look at queue job {job.id}",
            lambda: self.connector.execute_query_all_async(_STATUS, job_id=job.id),
        )
        if row and (row[0]["status"], row[0]["attempts"]) == ("succeeded", job.attempts + 1):
            return  # The task called `complete` itself.
        logger.warning(
            "the outcome of a run does not count: another run has taken over", task=job.task_name, job=job.id
        )

    async def _patiently(self, what: str, act: Callable[[], Awaitable[Answer]]) -> Answer:
        """`act`, again and again while the database does not answer; once the worker stops, for ten seconds more."""
        delay, waited_at_stop = 0.2, 0.0
        while True:
            try:
                return await act()
            except exceptions.ConnectorException as error:
                if not _passing(error) or waited_at_stop >= _PATIENCE_AT_STOP_S:
                    raise
                logger.warning(f"cannot {what}, trying again", error=_cause(error))
            await asyncio.sleep(delay)
            if self.stop.is_set():
                waited_at_stop += delay
            delay = min(delay * 2, 5.0)


def _passing(error: exceptions.ConnectorException) -> bool:
    """Whether the database was away (restart, lost connection), rather than refusing what was asked."""
    return isinstance(error.__cause__, psycopg.OperationalError | psycopg.InterfaceError)


def _cause(error: BaseException) -> str:
    return str(error.__cause__ or error)
