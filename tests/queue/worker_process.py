"""A worker as its own process, for tests that kill it. Arguments: the worker role's URL, tasks at once."""

import asyncio
import os
import signal
import sys

from queue_support import QueuePlatform
from sqlalchemy import text

from brightrun.db.session import Database
from brightrun.logs import configure_logging
from brightrun.queue import TaskFailure, complete, current_run, task
from brightrun.queue.worker import run_worker
from brightrun.settings import Settings


async def note(platform: QueuePlatform, what: str, key: str) -> None:
    run = current_run()
    assert run is not None
    async with platform.db.transaction() as session:
        await session.execute(
            text("insert into effects values (:key, :n)"), {"key": f"{what} {key}", "n": run.attempts}
        )


@task("kill.work")
async def work(platform: QueuePlatform, *, key: str) -> None:
    await note(platform, "start", key)
    async with platform.db.transaction() as session:
        # Stands for slow work; the effect and the end of the job are one transaction.
        await session.execute(text("select pg_sleep(0.4)"))
        await session.execute(text("insert into effects values (:key, 0)"), {"key": f"done {key}"})
        await complete(session)


async def given_up(platform: QueuePlatform, failure: TaskFailure, *, key: str) -> None:
    await note(platform, f"{failure.code} after {failure.attempts}:", key)


@task("kill.poison", attempts=2, on_failure=given_up)
async def poison(platform: QueuePlatform, *, key: str) -> None:
    await note(platform, "start", key)
    os.kill(os.getpid(), signal.SIGKILL)


async def main(url: str, concurrency: int) -> None:
    configure_logging("info", "console")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    database = Database(url, pool_size=concurrency)
    platform = QueuePlatform(Settings(stalled_worker_s=2.0, worker_heartbeat_s=0.3), database)
    await run_worker(platform, concurrency=concurrency, stop=stop, queues=["default"])
    await database.dispose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
