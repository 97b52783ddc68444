"""Run one job: the attempt limit, what is worth another try, and who is told when there is none."""

import asyncio
from datetime import timedelta
from typing import Any

from procrastinate import JobContext, RetryDecision
from procrastinate.job_context import AbortReason
from procrastinate.jobs import Job
from procrastinate.retry import BaseRetryStrategy
from structlog.contextvars import bound_contextvars

from brightrun.clock import utcnow
from brightrun.errors import BrightRunError, RateLimitedError, UnavailableError
from brightrun.logs import get_logger
from brightrun.queue.job_manager import DurableJobManager
from brightrun.queue.registry import TaskDefinition, TaskFailure, TaskPlatform
from brightrun.queue.run import LostRunError, RunAgainError, TaskRun, _current, fence

logger = get_logger(__name__)

_BACKOFF_S = 2.0
_LONGEST_BACKOFF_S = 300.0
_HOOK_ATTEMPTS = 5
"""How often `on_failure` itself is tried, over and above the task's own attempts."""


class WorkerLostError(Exception):
    """Every attempt ended with the death of its worker."""


class FailureNotReportedError(Exception):
    """The task is given up, but its `on_failure` hook could not say so yet."""


def worth_retrying(error: BaseException) -> bool:
    """Expected failures stay failures (bad input, not found, disk full, a wrong setting) unless time can mend them."""
    marked = getattr(error, "retryable", None)
    if marked is not None:
        return bool(marked)
    if isinstance(error, BrightRunError):
        return isinstance(error, UnavailableError | RateLimitedError)
    return isinstance(error, Exception)


def backoff_s(attempts: int, error: BaseException | None = None) -> float:
    """Wait before the next try after `attempts` earlier ones: 2, 4, 8, … at most 300 seconds."""
    wait = min(_BACKOFF_S * 2.0**attempts, _LONGEST_BACKOFF_S)
    if isinstance(error, RateLimitedError):
        wait = max(wait, float(error.retry_after_s))
    return wait


class RetryPolicy(BaseRetryStrategy):
    """limit: tries in all."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def is_final(self, error: BaseException, job: Job) -> bool:
        return job.attempts + 1 >= self.limit or not worth_retrying(error)

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if isinstance(exception, RunAgainError):
            return RetryDecision(retry_at=utcnow() + timedelta(seconds=exception.delay_s))
        if isinstance(exception, FailureNotReportedError):
            # `execute` sees at the next run that no attempt is left, and goes to the hook straight away.
            if job.attempts >= self.limit + _HOOK_ATTEMPTS:
                return None
            return RetryDecision(retry_at=utcnow() + timedelta(seconds=backoff_s(job.attempts - self.limit + 1)))
        if isinstance(exception, LostRunError):
            # Putting it back is fenced: it changes nothing when another run has it, and loses nothing when none has.
            return RetryDecision(retry_at=utcnow())
        if isinstance(exception, WorkerLostError | asyncio.CancelledError):
            return None
        if self.is_final(exception, job):
            return None
        return RetryDecision(retry_at=utcnow() + timedelta(seconds=backoff_s(job.attempts, exception)))


async def execute(
    definition: TaskDefinition,
    policy: RetryPolicy,
    platform: TaskPlatform,
    context: JobContext,
    arguments: dict[str, Any],
) -> None:
    """Run the job in `context` once. What is raised tells `policy` what happens to it next."""
    job = context.job
    assert job.id is not None
    manager = context.app.job_manager
    assert isinstance(manager, DurableJobManager)
    run = TaskRun(job.id, definition.name, job.attempts, job.worker_id, manager.stop)
    running = asyncio.current_task()
    assert running is not None
    manager.runs[job.id] = (run, running)
    token = _current.set(run)
    try:
        with bound_contextvars(task=definition.name, task_job=job.id):
            await _attempt(definition, policy, platform, job, arguments)
    except asyncio.CancelledError:
        if run.lost:
            raise LostRunError(f"{definition.name} (queue job {job.id}) was taken over") from None
        if context.abort_reason() is AbortReason.SHUTDOWN:
            manager.run_again.add(job.id)
            raise RunAgainError("the worker stopped before the task was done") from None
        raise
    except RunAgainError:
        manager.run_again.add(job.id)
        raise
    finally:
        _current.reset(token)
        del manager.runs[job.id]


async def _attempt(
    definition: TaskDefinition, policy: RetryPolicy, platform: TaskPlatform, job: Job, arguments: dict[str, Any]
) -> None:
    if job.attempts >= policy.limit:
        # Only the reaper, or a hook that failed, brings a job here.
        failure = TaskFailure(
            "worker_lost",
            f"The background work was started {job.attempts} times and its worker stopped each time before it was "
            "done; it will not be tried again.",
            job.attempts,
        )
        await _report(definition, platform, failure, arguments)
        raise WorkerLostError(f"{definition.name} (queue job {job.id}): given up after {job.attempts} attempts")
    try:
        await definition.function(platform, **arguments)
    except (RunAgainError, LostRunError):
        raise
    except Exception as error:
        if not policy.is_final(error, job):
            logger.warning(
                "task failed, will be tried again",
                attempt=job.attempts + 1,
                attempts=policy.limit,
                wait_s=backoff_s(job.attempts, error),
                exc_info=error,
            )
            raise
        await _report(definition, platform, _describe(error, job), arguments)
        raise


def _describe(error: Exception, job: Job) -> TaskFailure:
    if isinstance(error, BrightRunError):
        return TaskFailure(error.code, error.message, job.attempts + 1, error)
    return TaskFailure(
        "task_failed",
        f"The background work failed unexpectedly ({type(error).__name__}) after {job.attempts + 1} attempts; "
        f"the server's log has the details under task_job {job.id}.",
        job.attempts + 1,
        error,
    )


async def _report(
    definition: TaskDefinition, platform: TaskPlatform, failure: TaskFailure, arguments: dict[str, Any]
) -> None:
    if definition.on_failure is None:
        return
    async with platform.db.transaction() as session:
        await fence(session)
    try:
        await definition.on_failure(platform, failure, **arguments)
    except LostRunError:
        raise
    except Exception as error:
        logger.exception("could not report that a task was given up", failure=failure.message, exc_info=failure.error)
        raise FailureNotReportedError(f"{definition.name}: {failure.message}") from error
