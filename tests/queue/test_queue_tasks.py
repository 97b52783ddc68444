"""Tasks, schedules, attempts and failures, with a worker in this process and a real PostgreSQL."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from queue_support import Ledger, QueuePlatform, eventually, working
from sqlalchemy import text

from brightrun.clock import utcnow
from brightrun.db.session import Database
from brightrun.errors import InvalidInputError, UnavailableError
from brightrun.queue import (
    LostRunError,
    RunAgainError,
    TaskFailure,
    complete,
    current_run,
    enqueue,
    execution,
    fence,
    queue_status,
    schedule,
    stopping,
    task,
    worker,
)
from brightrun.queue.worker import run_worker

pytestmark = pytest.mark.anyio

actions: dict[str, Callable[[Any], Awaitable[None]]] = {}
failures: dict[str, TaskFailure] = {}
ticks: dict[str, list[float]] = {}
"""By database: another fixture of this process may run a worker of its own."""


async def note_failure(_platform: Any, failure: TaskFailure, *, key: str) -> None:
    failures[key] = failure


@task("test.act", on_failure=note_failure)
async def act(platform: Any, *, key: str) -> None:
    await actions[key](platform)


@task("test.long", queue="long")
async def act_long(platform: Any, *, key: str) -> None:
    await actions[key](platform)


@schedule("* * * * * *", name="test.every_second")
async def tick(platform: Any) -> None:
    ticks.setdefault(platform.db.url, []).append(time.monotonic())


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "_BACKOFF_S", 0.01)


async def ask(db: Database, name: str, **arguments: Any) -> int:
    async with db.transaction() as session:
        job = await enqueue(session, name, **arguments)
    assert job is not None
    return job


def status(as_owner: Ledger, job: int) -> tuple[str, int]:
    return as_owner("select status::text, attempts from procrastinate_jobs where id = %s", job)[0]  # type: ignore[return-value]


def finished(as_owner: Ledger, job: int) -> Callable[[], bool]:
    return lambda: status(as_owner, job)[0] not in {"todo", "doing"}


async def test_work_is_there_only_after_the_commit_of_the_row_that_asked_for_it(
    app_db: Database, platform: QueuePlatform, as_owner: Ledger
) -> None:
    ran: list[str] = []

    async def action(_: Any) -> None:
        ran.append("done")

    actions["commit"] = actions["rollback"] = action
    async with working(platform):
        with pytest.raises(RuntimeError, match="the caller changes its mind"):  # noqa: PT012
            async with app_db.transaction() as session:
                await session.execute(text("insert into effects (key) values ('row')"))
                await enqueue(session, "test.act", key="rollback")
                raise RuntimeError("the caller changes its mind")
        assert as_owner("select count(*) from procrastinate_jobs where task_name = 'test.act'") == [(0,)]
        job = await ask(app_db, "test.act", key="commit")
        await eventually(finished(as_owner, job))
    assert ran == ["done"]
    assert status(as_owner, job) == ("succeeded", 1)


async def test_a_task_starts_by_its_notification_long_before_the_worker_would_look_again(
    app_db: Database, platform: QueuePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_POLL_S", 300)
    started = asyncio.Event()

    async def action(_: Any) -> None:
        started.set()

    actions["latency"] = action
    async with working(platform):
        await ask(app_db, "test.act", key="latency")
        await asyncio.wait_for(started.wait(), 10)  # the worker is up, though it may not listen yet
        for _attempt in range(10):
            started.clear()
            await ask(app_db, "test.act", key="latency")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(started.wait(), 2)
                break
        assert started.is_set()


async def test_an_unknown_task_and_wrong_arguments_are_refused_where_they_are_asked_for(app_db: Database) -> None:
    async with app_db.transaction() as session:
        with pytest.raises(LookupError, match=r"no task is named 'test\.missing'"):
            await enqueue(session, "test.missing")
        with pytest.raises(TypeError, match=r"test\.act"):
            await enqueue(session, "test.act", wrong="argument")
        with pytest.raises(TypeError, match="not JSON"):
            await enqueue(session, "test.act", key=object())


async def test_a_uuid_argument_arrives_as_its_text(app_db: Database, as_owner: Ledger) -> None:
    key = uuid4()
    job = await ask(app_db, "test.act", key=key)
    assert as_owner("select args from procrastinate_jobs where id = %s", job) == [({"key": str(key)},)]


async def test_a_second_waiting_job_with_the_same_queueing_lock_is_not_added_and_spoils_nothing(
    app_db: Database, as_owner: Ledger
) -> None:
    async with app_db.transaction() as session:
        first = await enqueue(session, "test.act", queueing_lock="one is enough", key="a")
    async with app_db.transaction() as session:
        second = await enqueue(session, "test.act", queueing_lock="one is enough", key="a")
        await session.execute(text("insert into effects (key) values ('the transaction lives on')"))
    assert first is not None
    assert second is None
    assert as_owner("select count(*) from effects") == [(1,)]


async def test_a_job_for_later_waits_for_its_time(app_db: Database, platform: QueuePlatform, as_owner: Ledger) -> None:
    async def action(_: Any) -> None:
        return

    actions["later"] = action
    later = await ask(app_db, "test.act", key="later", run_at=utcnow() + timedelta(hours=1))
    now = await ask(app_db, "test.act", key="later")
    async with working(platform):
        await eventually(finished(as_owner, now))
    assert status(as_owner, later) == ("todo", 0)


async def test_an_unexpected_error_is_tried_again_up_to_the_limit_and_then_reported(
    app_db: Database, platform: QueuePlatform, as_owner: Ledger
) -> None:
    attempts: list[int] = []

    async def action(_: Any) -> None:
        run = current_run()
        assert run is not None
        attempts.append(run.attempts)
        raise ZeroDivisionError("secret detail")

    actions["broken"] = action
    job = await ask(app_db, "test.act", key="broken")
    async with working(platform):
        await eventually(finished(as_owner, job))
    assert attempts == [0, 1, 2]
    assert status(as_owner, job) == ("failed", 3)
    failure = failures["broken"]
    assert (failure.code, failure.attempts) == ("task_failed", 3)
    assert isinstance(failure.error, ZeroDivisionError)
    assert "secret detail" not in failure.message


async def test_an_expected_error_is_reported_at_once_and_never_tried_again(
    app_db: Database, platform: QueuePlatform, as_owner: Ledger
) -> None:
    async def action(_: Any) -> None:
        raise InvalidInputError("Line 3 is not JSON", code="not_json")

    actions["expected"] = action
    job = await ask(app_db, "test.act", key="expected")
    async with working(platform):
        await eventually(finished(as_owner, job))
    assert status(as_owner, job) == ("failed", 1)
    assert (failures["expected"].code, failures["expected"].message) == ("not_json", "Line 3 is not JSON")


async def test_something_that_is_away_for_a_moment_is_tried_again(
    app_db: Database, platform: QueuePlatform, as_owner: Ledger
) -> None:
    async def action(_: Any) -> None:
        run = current_run()
        if run is not None and run.attempts == 0:
            raise UnavailableError("The bucket does not answer")

    actions["away"] = action
    job = await ask(app_db, "test.act", key="away")
    async with working(platform):
        await eventually(finished(as_owner, job))
    assert status(as_owner, job) == ("succeeded", 2)


async def test_a_failure_hook_that_fails_is_called_again_without_running_the_task_again(
    app_db: Database, platform: QueuePlatform, as_owner: Ledger
) -> None:
    ran, told = [], []

    async def hook(_platform: Any, failure: TaskFailure) -> None:
        told.append(failure)
        if len(told) < 3:
            raise UnavailableError("the database is away")

    @task(f"test.hook_{uuid4().hex}", attempts=1, on_failure=hook)
    async def doomed(_platform: Any) -> None:
        ran.append(1)
        raise ValueError("no")

    from brightrun.queue.registry import registered

    name = next(name for name, definition in registered().items() if definition.function is doomed)
    job = await ask(app_db, name)
    async with working(platform):
        await eventually(finished(as_owner, job))
    assert len(ran) == 1
    assert len(told) == 3
    assert status(as_owner, job)[0] == "failed"


async def test_run_again_goes_back_without_using_up_an_attempt(
    app_db: Database, platform: QueuePlatform, as_owner: Ledger
) -> None:
    runs: list[int] = []

    async def action(_: Any) -> None:
        run = current_run()
        assert run is not None
        runs.append(run.attempts)
        if len(runs) < 5:
            raise RunAgainError("not ready yet")

    actions["again"] = action
    job = await ask(app_db, "test.act", key="again")
    async with working(platform):
        await eventually(finished(as_owner, job))
    assert runs == [0, 0, 0, 0, 0]
    assert status(as_owner, job) == ("succeeded", 1)


async def test_a_stop_waits_for_running_tasks_and_puts_the_slow_ones_back_uncounted(
    app_db: Database, platform: QueuePlatform, as_owner: Ledger
) -> None:
    running = asyncio.Event()
    saved: list[str] = []

    async def polite(_: Any) -> None:
        await stopping().wait()
        saved.append("checkpoint")

    async def stubborn(_: Any) -> None:
        running.set()
        await asyncio.Event().wait()

    actions["polite"], actions["stubborn"] = polite, stubborn
    first = await ask(app_db, "test.act", key="polite")
    second = await ask(app_db, "test.act", key="stubborn")
    async with working(platform, graceful_s=0.3):
        await asyncio.wait_for(running.wait(), 10)
        await eventually(lambda: status(as_owner, first)[0] == "doing")
    assert saved == ["checkpoint"]
    assert status(as_owner, first) == ("succeeded", 1)
    assert status(as_owner, second) == ("todo", 0)


async def test_a_full_lane_does_not_hold_up_another(
    app_db: Database, platform: QueuePlatform, as_owner: Ledger
) -> None:
    occupied = asyncio.Event()
    release = asyncio.Event()

    async def hog(_: Any) -> None:
        occupied.set()
        await release.wait()

    async def quick(_: Any) -> None:
        return

    actions["hog"], actions["quick"] = hog, quick
    for _ in range(3):
        await ask(app_db, "test.long", key="hog")
    async with working(platform, concurrency=1):
        await asyncio.wait_for(occupied.wait(), 10)
        job = await ask(app_db, "test.act", key="quick")
        await eventually(finished(as_owner, job))
        release.set()


async def test_a_schedule_runs_once_a_tick_over_all_workers(platform: QueuePlatform, as_owner: Ledger) -> None:
    mine = ticks.setdefault(platform.db.url, [])
    mine.clear()
    async with working(platform), working(platform):
        await eventually(lambda: len(mine) >= 3)
    rows = as_owner("select count(*) from procrastinate_jobs where task_name = 'test.every_second'")
    assert len(mine) <= rows[0][0]
    gaps = [after - before for before, after in pairwise(mine)]
    assert all(gap > 0.5 for gap in gaps[1:])


async def test_complete_makes_the_effect_and_the_end_of_the_job_one_transaction(
    app_db: Database, platform: QueuePlatform, as_owner: Ledger
) -> None:
    async def action(platform: Any) -> None:
        async with platform.db.transaction() as session:
            await session.execute(text("insert into effects (key) values ('complete')"))
            await complete(session)
        assert status(as_owner, job)[0] == "succeeded"
        raise RuntimeError("what happens after the commit changes nothing")

    actions["complete"] = action
    job = await ask(app_db, "test.act", key="complete")
    async with working(platform):
        await eventually(finished(as_owner, job))
        await eventually(lambda: len(as_owner("select 1 from effects")) == 1)
    assert status(as_owner, job) == ("succeeded", 1)
    assert "complete" not in failures


async def test_a_run_that_was_taken_over_can_neither_write_nor_finish(
    app_db: Database, platform: QueuePlatform, as_owner: Ledger
) -> None:
    frozen, thawed, outcome = asyncio.Event(), asyncio.Event(), []

    async def action(platform: Any) -> None:
        run = current_run()
        assert run is not None
        if run.attempts == 0:
            frozen.set()
            # Nothing reaches a frozen process, not even the order to give up.
            while not thawed.is_set():
                try:
                    await thawed.wait()
                except asyncio.CancelledError:
                    continue
        try:
            async with platform.db.transaction() as session:
                await fence(session)
                await session.execute(text("insert into effects values ('taken over', :n)"), {"n": run.attempts})
        except LostRunError:
            outcome.append("refused")
            raise

    actions["fence"] = action
    job = await ask(app_db, "test.act", key="fence")
    async with working(platform):
        await asyncio.wait_for(frozen.wait(), 10)
        # What the reaper does when the heartbeat stops.
        as_owner("update procrastinate_jobs set status = 'todo', attempts = attempts + 1 where id = %s", job)
        await eventually(finished(as_owner, job))
        thawed.set()
        await eventually(lambda: outcome)
    assert outcome == ["refused"]
    assert as_owner("select key, attempt from effects") == [("taken over", 1)]
    assert status(as_owner, job) == ("succeeded", 2)
    assert "fence" not in failures


async def test_a_worker_outlives_the_loss_of_every_database_connection(
    app_db: Database, platform: QueuePlatform, as_owner: Ledger
) -> None:
    entered = asyncio.Event()
    release = asyncio.Event()

    async def action(_: Any) -> None:
        entered.set()
        await release.wait()

    actions["cut"] = action
    # The worker itself never was away for long.
    platform.settings = platform.settings.model_copy(update={"stalled_worker_s": 30.0})
    first = await ask(app_db, "test.act", key="cut")
    async with working(platform):
        await asyncio.wait_for(entered.wait(), 10)
        async with platform.db.transaction() as session:
            cut = await session.execute(
                text(
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
                    " and usename = current_user and pid <> pg_backend_pid()"
                )
            )
        assert len(cut.all()) >= 4
        release.set()
        await eventually(finished(as_owner, first))
        second = await ask(app_db, "test.act", key="cut")
        await eventually(finished(as_owner, second))
    assert status(as_owner, first) == ("succeeded", 1)
    assert status(as_owner, second) == ("succeeded", 1)


async def test_the_status_counts_living_lanes_and_jobs(
    app_db: Database, platform: QueuePlatform, as_owner: Ledger
) -> None:
    await ask(app_db, "test.act", key="counted", run_at=utcnow() + timedelta(hours=1))
    async with working(platform, queues=["default"]):
        await eventually(lambda: as_owner("select 1 from procrastinate_workers"))
        async with app_db.transaction() as session:
            alive = await queue_status(session, stalled_s=30)
    async with app_db.transaction() as session:
        after = await queue_status(session, stalled_s=30)
    assert (alive.lanes_alive, alive.waiting) == (1, 1)
    assert after.lanes_alive == 0


async def test_the_application_cannot_read_what_waits(app_db: Database) -> None:
    from sqlalchemy.exc import ProgrammingError

    with pytest.raises(ProgrammingError, match="permission denied"):
        async with app_db.transaction() as session:
            await session.execute(text("select args from procrastinate_jobs"))


async def test_a_cancelled_worker_leaves_nothing_running_and_puts_its_work_back(
    app_db: Database, platform: QueuePlatform, as_owner: Ledger
) -> None:
    running, ended = asyncio.Event(), asyncio.Event()

    async def action(_: Any) -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    actions["cancelled"] = action
    job = await ask(app_db, "test.act", key="cancelled")
    worker = asyncio.create_task(run_worker(platform, concurrency=1, stop=asyncio.Event(), graceful_s=0.1))
    await asyncio.wait_for(running.wait(), 10)
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker
    assert ended.is_set()
    assert status(as_owner, job) == ("todo", 0)


async def test_heartbeats_amid_many_short_tasks_take_none_of_them_for_lost(
    app_db: Database, platform: QueuePlatform, as_owner: Ledger
) -> None:
    async def action(_: Any) -> None:
        await asyncio.sleep(0)

    actions["short"] = action
    platform.settings = platform.settings.model_copy(update={"worker_heartbeat_s": 0.001})
    async with app_db.transaction() as session:
        for _ in range(150):
            await enqueue(session, "test.act", key="short")
    query = "select status::text, attempts, count(*) from procrastinate_jobs where task_name = 'test.act' group by 1, 2"
    async with working(platform, concurrency=20):
        await eventually(lambda: {row[0] for row in as_owner(query)} == {"succeeded"}, within_s=60)
    assert as_owner(query) == [("succeeded", 1, 150)]
