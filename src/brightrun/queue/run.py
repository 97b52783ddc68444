"""One run of a task, seen from inside the task: is it still ours, is the worker stopping, are we done?

At-least-once is a fact of every queue: a worker that was frozen for a minute wakes up and goes on, while another
already does its work again. `fence` is what makes that harmless: call it in the transaction that writes the effect.
"""

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


class LostRunError(Exception):
    """Another run of the same job has taken over; what this one does must not count."""


class RunAgainError(Exception):
    """Raise it from a task to go back into the queue without using up an attempt (a stop, something not ready yet).

    delay_s: not before this many seconds.
    """

    def __init__(self, reason: str, *, delay_s: float = 0.0) -> None:
        super().__init__(reason)
        self.delay_s = delay_s


HELD = "id = :job_id and status = 'doing' and attempts = :attempts and (worker_id = :worker_id or worker_id is null)"
"""The condition under which a job is still this run's: (attempts, worker) is its fencing token."""

_FENCE = text(f"select 1 from procrastinate_jobs where {HELD} for update")  # noqa: S608
_COMPLETE = text(
    "select procrastinate_finish_job_v1(held.id, 'succeeded', false)"  # noqa: S608
    f" from (select id from procrastinate_jobs where {HELD} for update) held"
)


@dataclass(eq=False)
class TaskRun:
    """attempts: runs before this one. stopping: set when the worker was asked to stop."""

    job_id: int
    task_name: str
    attempts: int
    worker_id: int | None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    lost: bool = False

    @property
    def token(self) -> dict[str, Any]:
        return {"job_id": self.job_id, "attempts": self.attempts, "worker_id": self.worker_id}


_current: ContextVar[TaskRun | None] = ContextVar("brightrun_task_run", default=None)


def current_run() -> TaskRun | None:
    """The run this code is part of; None outside the queue (a test that calls a task directly)."""
    return _current.get()


def stopping() -> asyncio.Event:
    """Set when the worker was asked to stop: long tasks wait for it, save what they have and raise RunAgainError.

    Outside the queue: an event that is never set.
    """
    run = _current.get()
    return run.stopping if run is not None else asyncio.Event()


async def fence(session: AsyncSession) -> None:
    """Go on only while this run still holds its job, and keep it held until `session`'s transaction ends.

    Raises LostRunError when another run has taken over. Does nothing outside the queue.
    """
    run = _current.get()
    if run is not None and (await session.execute(_FENCE, run.token)).first() is None:
        raise LostRunError(f"run {run.attempts + 1} of {run.task_name} (queue job {run.job_id}) was taken over")


async def complete(session: AsyncSession) -> None:
    """`fence`, and mark the job done in the same transaction as its effect: exactly once, also when killed right after.

    Nothing the task does after the commit is repeated. Raises LostRunError as `fence`; does nothing outside the queue.
    """
    run = _current.get()
    if run is not None and (await session.execute(_COMPLETE, run.token)).first() is None:
        raise LostRunError(f"run {run.attempts + 1} of {run.task_name} (queue job {run.job_id}) was taken over")
