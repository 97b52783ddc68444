"""Background work on PostgreSQL: enqueued in the caller's transaction, scheduled, and lost by no kill."""

from brightrun.queue.enqueue import enqueue
from brightrun.queue.registry import TaskFailure, registered, schedule, task
from brightrun.queue.run import (
    LostRunError,
    RunAgainError,
    TaskRun,
    complete,
    current_run,
    fence,
    stopping,
)
from brightrun.queue.status import QueueStatus, queue_status

__all__ = [
    "LostRunError",
    "QueueStatus",
    "RunAgainError",
    "TaskFailure",
    "TaskRun",
    "complete",
    "current_run",
    "enqueue",
    "fence",
    "queue_status",
    "registered",
    "schedule",
    "stopping",
    "task",
]
