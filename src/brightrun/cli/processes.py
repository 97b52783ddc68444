"""`brightrun server` and `brightrun worker`: one long-running process each, alone or as children of `brightrun up`.

A child gets from its parent, by environment: the pool's URL of its own role; a listening socket; the write end of a
pipe to say that it is ready on; the read end of a pipe that closes when the parent dies, however it dies.
"""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable
from typing import Annotated

import typer

from brightrun.cli.runtime import (
    DataOption,
    HostOption,
    PortOption,
    open_platform,
    role_url,
    settings_with,
    start_logging,
)
from brightrun.logs import get_logger
from brightrun.platform import Platform
from brightrun.settings import Settings

log = get_logger(__name__)

LISTEN_FD = "BRIGHTRUN_INTERNAL_LISTEN_FD"
READY_FD = "BRIGHTRUN_INTERNAL_READY_FD"
PARENT_FD = "BRIGHTRUN_INTERNAL_PARENT_FD"


def inherited(name: str) -> int | None:
    """A file descriptor handed down, taken out of the environment so that no grandchild sees it."""
    value = os.environ.pop(name, None)
    if value is None:
        return None
    descriptor = int(value)
    os.set_inheritable(descriptor, False)
    return descriptor


def say_ready(descriptor: int | None) -> None:
    if descriptor is not None:
        with contextlib.suppress(BrokenPipeError):
            os.write(descriptor, b"1")
        os.close(descriptor)


class Stop:
    """Why and when this process should end: a signal, or its parent's death."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.parent_died = False
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.event.set)
        descriptor = inherited(PARENT_FD)
        if descriptor is not None:
            threading.Thread(target=self._watch, args=(descriptor, loop), daemon=True).start()

    def _watch(self, descriptor: int, loop: asyncio.AbstractEventLoop) -> None:
        # The parent never writes: this returns when its end closes, also by kill -9.
        os.read(descriptor, 1)
        self.parent_died = True
        with contextlib.suppress(RuntimeError):  # The loop has ended by itself.
            loop.call_soon_threadsafe(self.event.set)


def server(data: DataOption = None, host: HostOption = None, port: PortOption = None) -> None:
    """Run the web server alone. Needs DATABASE_URL (or BRIGHTRUN_APP_DATABASE_URL) and BRIGHTRUN_SECRET_KEY."""
    changes = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = settings_with(data, **changes)
    start_logging(settings, "server")
    from brightrun.cli.serve import serve

    asyncio.run(serve(settings))


def worker(
    data: DataOption = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Tasks run at once.")] = None,
) -> None:
    """Run one background worker. Needs DATABASE_URL (or BRIGHTRUN_WORKER_DATABASE_URL) and BRIGHTRUN_SECRET_KEY."""
    changes = {"worker_concurrency": concurrency} if concurrency is not None else {}
    settings = settings_with(data, **changes)
    start_logging(settings, "worker")
    asyncio.run(_work(settings))


async def _work(settings: Settings) -> None:
    stop = Stop()
    ready = inherited(READY_FD)
    pool = settings.worker_concurrency + 4
    async with open_platform(settings, role_url(settings, "worker"), pool_size=pool, name="worker") as platform:
        say_ready(ready)
        await run_worker_process(platform, stop.event, leave_trainers=lambda: stop.parent_died)
    log.info("worker stopped", parent_died=stop.parent_died)


async def run_worker_process(platform: Platform, stop: asyncio.Event, *, leave_trainers: Callable[[], bool]) -> None:
    """Everything a worker does, until `stop`: the queue's tasks, and looking after trainers.

    leave_trainers: asked at the stop; True leaves running trainers alone (the next worker adopts them), False has them
    write a checkpoint and end.
    """
    from brightrun.queue.worker import run_worker
    from brightrun.rooms import import_tables, import_tasks
    from brightrun.training.supervisor.supervisor import Supervisor

    import_tables()
    import_tasks()
    concurrency = platform.settings.worker_concurrency
    async with asyncio.TaskGroup() as group:
        group.create_task(run_worker(platform, concurrency=concurrency, stop=stop))
        group.create_task(Supervisor(platform).run(stop, leave_trainers=leave_trainers))
