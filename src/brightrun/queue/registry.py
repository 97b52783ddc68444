"""What the queue can run: every task and schedule by its explicit name.

A task is a plain coroutine function `async def validate(platform, *, dataset_id: str) -> None`; the decorators register
it and give it back unchanged, so that a test may call it directly. A room's `tasks.py` must be imported by the process
that runs the tasks and by the one that asks for them.
"""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from brightrun.db.session import Database
from brightrun.settings import Settings

DEFAULT_QUEUE = "default"
MAINTENANCE_QUEUE = "maintenance"


class TaskPlatform(Protocol):
    """What the queue needs of `brightrun.platform.Platform`, which lives one floor up."""

    settings: Settings
    db: Database


TaskFunction = Callable[..., Awaitable[None]]
Function = TypeVar("Function", bound=TaskFunction)


@dataclass(frozen=True)
class TaskFailure:
    """Why a task was given up, for the row it served.

    code: stable, machine-readable: the BrightRunError's own, `task_failed` for an unexpected error, `worker_lost` when
    its worker died each time. message: one sentence for a person. attempts: how often it was tried.
    error: what was raised; None when nothing was (the worker died).
    """

    code: str
    message: str
    attempts: int
    error: BaseException | None = None


@dataclass(frozen=True)
class TaskDefinition:
    """attempts: tries before it counts as failed; None for the setting `task_attempts`. cron: set for a schedule."""

    name: str
    queue: str
    function: TaskFunction
    signature: inspect.Signature
    attempts: int | None = None
    on_failure: TaskFunction | None = None
    cron: str | None = None

    def check_arguments(self, arguments: dict[str, Any]) -> None:
        """Raise TypeError for arguments that the function would refuse, where they are given and not in the worker."""
        try:
            self.signature.bind(None, **arguments)
        except TypeError as error:
            raise TypeError(f"task {self.name!r}: {error}") from None


_tasks: dict[str, TaskDefinition] = {}


def task(
    name: str,
    *,
    queue: str = DEFAULT_QUEUE,
    attempts: int | None = None,
    on_failure: TaskFunction | None = None,
) -> Callable[[Function], Function]:
    """Register `async def function(platform, **arguments)` as the task `name`.

    queue: each queue is a lane of its own in a worker, so that long work in one never holds up another.
    attempts: tries in all, first one included; None takes the setting `task_attempts`.
    on_failure: `async def hook(platform, failure: TaskFailure, **arguments)`, called when the task is given up, so that
    the row it served gets its error. It is tried again when it fails itself, and must bear being called twice.
    """

    def decorate(function: Function) -> Function:
        _register(TaskDefinition(name, queue, function, inspect.signature(function), attempts, on_failure, None))
        return function

    return decorate


def schedule(cron: str, *, name: str) -> Callable[[Function], Function]:
    """Run `async def function(platform)` whenever `cron` says, once over all workers, never two at a time.

    cron: five fields, UTC; a sixth, **last**, field is seconds: `* * * * * */5` is every five seconds.
    A run that fails is logged and not repeated: the next one comes by itself.
    """

    def decorate(function: Function) -> Function:
        _register(TaskDefinition(name, MAINTENANCE_QUEUE, function, inspect.signature(function), attempts=1, cron=cron))
        return function

    return decorate


def _register(definition: TaskDefinition) -> None:
    known = _tasks.get(definition.name)
    if known is not None and known.function is not definition.function:
        raise ValueError(
            f"two tasks are named {definition.name!r}: {known.function.__module__}.{known.function.__qualname__} and "
            f"{definition.function.__module__}.{definition.function.__qualname__}"
        )
    _tasks[definition.name] = definition


def registered() -> dict[str, TaskDefinition]:
    """Every task and schedule known to this process, by name."""
    return dict(_tasks)


def find_task(name: str) -> TaskDefinition:
    """Raises LookupError, naming what is known, for a name that no imported module registered."""
    try:
        return _tasks[name]
    except KeyError:
        known = ", ".join(sorted(_tasks)) or "none"
        raise LookupError(f"no task is named {name!r}; import the module that defines it (known: {known})") from None
