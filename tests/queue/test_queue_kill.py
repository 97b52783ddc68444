"""Workers as real processes, killed with SIGKILL or frozen with SIGSTOP."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from queue_support import Ledger, eventually
from worker_process import poison, work

from brightrun.db.roles import DatabaseUrls
from brightrun.db.session import Database
from brightrun.queue import enqueue

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

assert work is not None
assert poison is not None  # imported so that this process may ask for them

StartWorker = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def start_worker(fresh_pg_urls: DatabaseUrls, tmp_path: Path) -> Iterator[StartWorker]:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).with_name("worker_process.py")),
                fresh_pg_urls.worker.render_as_string(hide_password=False),
                "5",
            ],
            stderr=(tmp_path / f"worker{len(started)}.log").open("wb"),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait()


async def ask(db: Database, name: str, count: int) -> None:
    async with db.transaction() as session:
        for number in range(count):
            await enqueue(session, name, key=str(number))


def done(as_owner: Ledger) -> int:
    return int(as_owner("select count(*) from procrastinate_jobs where status = 'succeeded'")[0][0])


async def test_a_worker_killed_with_jobs_in_flight_loses_none_and_repeats_no_effect(
    start_worker: StartWorker, app_db: Database, as_owner: Ledger
) -> None:
    await ask(app_db, "kill.work", 25)
    victim = start_worker()
    await eventually(lambda: done(as_owner) >= 5, within_s=30)
    start_worker()
    await eventually(
        lambda: as_owner("select 1 from procrastinate_jobs where status = 'doing' having count(*) >= 5"), within_s=30
    )
    victim.kill()
    await asyncio.to_thread(victim.wait)
    await eventually(lambda: done(as_owner) == 25, within_s=60)
    effects = as_owner("select key, count(*) from effects where key like 'done %%' group by 1")
    assert len(effects) == 25
    assert {count for _key, count in effects} == {1}
    started = as_owner("select count(*) from effects where key like 'start %%'")[0][0]
    assert started >= 25  # what was in flight was started again, and shows it


async def test_a_task_that_kills_its_worker_each_time_is_given_up_and_its_row_told(
    start_worker: StartWorker, app_db: Database, as_owner: Ledger
) -> None:
    await ask(app_db, "kill.poison", 1)
    for _ in range(2):
        victim = start_worker()
        assert await asyncio.to_thread(victim.wait, 60) == -signal.SIGKILL
    survivor = start_worker()
    await eventually(lambda: as_owner("select 1 from procrastinate_jobs where status = 'failed'"), within_s=60)
    assert survivor.poll() is None
    assert as_owner("select key, attempt from effects order by at") == [
        ("start 0", 0),
        ("start 0", 1),
        ("worker_lost after 2: 0", 2),
    ]


async def test_a_frozen_worker_that_wakes_up_repeats_no_effect_and_works_on(
    start_worker: StartWorker, app_db: Database, as_owner: Ledger
) -> None:
    await ask(app_db, "kill.work", 5)
    sleeper = start_worker()
    await eventually(
        lambda: as_owner("select 1 from procrastinate_jobs where status = 'doing' having count(*) = 5"), within_s=30
    )
    os.kill(sleeper.pid, signal.SIGSTOP)
    other = start_worker()
    await eventually(lambda: done(as_owner) == 5, within_s=60)
    other.terminate()
    assert await asyncio.to_thread(other.wait, 30) == 0
    os.kill(sleeper.pid, signal.SIGCONT)
    await ask(app_db, "kill.work", 5)
    await eventually(lambda: done(as_owner) == 10, within_s=60)
    assert as_owner("select count(*), count(distinct key) from effects where key like 'done %%'") == [(10, 5)]
