"""Who starts next: priority, limits, fair shares, no starving; what people are told of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from job_steps import AddDataset, data, get, start, started
from sqlalchemy import text, update

from brightrun.accounts.roles import Role
from brightrun.clock import utcnow
from brightrun.db.roles import DatabaseUrls
from brightrun.db.session import Database
from brightrun.ids import uuid7
from brightrun.platform import Platform
from brightrun.settings import Settings
from brightrun.storage import open_store
from brightrun.training.supervisor import claims, machines
from brightrun.training.supervisor.claims import Found
from brightrun.training.tables import JobStatus, TrainingAttempt, TrainingJob
from live import Live, Member, live_server

pytestmark = pytest.mark.anyio


@pytest.fixture
def own(
    new_database: Callable[[], AbstractContextManager[DatabaseUrls]], tmp_path: Path
) -> Iterator[tuple[Live, DatabaseUrls]]:
    """A server without a worker, on a database of this test."""
    settings = Settings(database_role_prefix="brtest", data=tmp_path, min_free_disk_bytes=0, max_running_jobs=2)
    with new_database() as urls, live_server(urls, settings, b"the tests' secret key", worker=False) as live:
        yield live, urls


@pytest.fixture
async def platform(own: tuple[Live, DatabaseUrls]) -> AsyncIterator[Platform]:
    live, urls = own
    database = Database(urls.worker.render_as_string(hide_password=False), pool_size=10)
    store = open_store(live.settings, public_url=live.url, secret=live.secret)
    yield Platform(settings=live.settings, secret=live.secret, db=database, store=store, public_url=live.url)
    await database.dispose()


class Queue:
    """A queue and the machines that work on it, played through in the database with supervisors' own claims."""

    def __init__(self, platform: Platform, live: Live, urls: DatabaseUrls, add: AddDataset) -> None:
        self.platform, self.live, self._urls, self._add = platform, live, urls, add
        self._datasets: dict[UUID, str] = {}

    def workspace(self) -> Member:
        member = self.live.new_workspace()
        self._datasets[member.workspace_id] = self._add(self.live, member)
        return member

    def put(self, member: Member, number: int = 1, **body: Any) -> list[Found]:
        dataset_id = self._datasets[member.workspace_id]
        ids = [started(member, dataset_id, **body)["id"] for _ in range(number)]
        return [Found(member.workspace_id, UUID(job_id)) for job_id in ids]

    async def order(self, host: str = "here") -> list[Found]:
        async with self.platform.db.transaction() as session:
            return list(await claims.startable(session, self.platform.settings, host))

    async def take(self, found: Found, host: str = "here", limit: int = 99) -> bool:
        return await claims.claim_waiting(self.platform, found, host=host, owner=host, limit=limit)

    async def change(self, found: Found, **values: Any) -> None:
        async with self.platform.db.transaction(workspace_id=found.workspace_id) as session:
            await session.execute(update(TrainingJob).where(TrainingJob.id == found.job_id).values(**values))

    async def ran(self, found: Found, *, seconds: float, ended_ago: float = 0.0) -> None:
        """It trained for so long and is over."""
        ended = utcnow() - timedelta(seconds=ended_ago)
        async with self.platform.db.transaction(workspace_id=found.workspace_id) as session:
            session.add(
                TrainingAttempt(
                    id=uuid7(), workspace_id=found.workspace_id, job_id=found.job_id, n=1, host="here",
                    started_at=ended - timedelta(seconds=seconds), ended_at=ended, outcome="done",
                )
            )  # fmt: skip
        await self.change(
            found, status=JobStatus.CANCELLED, completed_at=ended, lease_owner=None, lease_expires_at=None
        )

    async def next(self) -> Found:
        """The job that starts now on a machine with one place."""
        first = (await self.order())[0]
        assert await self.take(first)
        return first

    def limit(self, member: Member, most: int | None) -> None:
        """As the operator's command does."""
        import psycopg

        from brightrun.db.roles import libpq

        with psycopg.connect(libpq(self._urls.owner), autocommit=True) as connection:
            connection.execute("update workspaces set max_running_jobs = %s where id = %s", [most, member.workspace_id])


@pytest.fixture
def queue(platform: Platform, own: tuple[Live, DatabaseUrls], add_dataset: AddDataset) -> Queue:
    return Queue(platform, *own, add_dataset)


async def test_interrupted_jobs_come_first_then_priority_then_workspaces_take_turns_then_the_oldest(queue: Queue):
    busy = await asyncio.to_thread(queue.workspace)
    other = await asyncio.to_thread(queue.workspace)
    first = await asyncio.to_thread(queue.put, busy, 3)
    second = await asyncio.to_thread(queue.put, other, 2)
    assert await queue.order() == [first[0], second[0], first[1], second[1], first[2]], "in turns"
    assert await queue.take(first[0])
    assert await queue.order() == [second[0], first[1], second[1], first[2]], "the busy workspace waits"
    await queue.change(first[2], priority="high")
    await queue.change(second[0], priority="low")
    assert await queue.order() == [first[2], second[1], first[1], second[0]]
    await queue.change(first[1], status=JobStatus.INTERRUPTED)
    assert (await queue.order())[0] == first[1], "it had its turn already, and keeps its place"
    await queue.change(first[1], next_attempt_at=utcnow() + timedelta(minutes=1))
    assert first[1] not in await queue.order(), "not before its time"


async def test_a_long_queue_of_one_workspace_does_not_keep_others_waiting(queue: Queue):
    """One place, played for twelve turns: three workspaces get a third each, though one queued ten jobs first."""
    members = [await asyncio.to_thread(queue.workspace) for _ in range(3)]
    await asyncio.to_thread(queue.put, members[0], 10)
    for member in members[1:]:
        await asyncio.to_thread(queue.put, member, 4)
    turns: Counter[UUID] = Counter()
    for _turn in range(12):
        found = await queue.next()
        turns[found.workspace_id] += 1
        await queue.ran(found, seconds=600)
    assert [turns[member.workspace_id] for member in members] == [4, 4, 4]


async def test_shares_are_counted_in_seconds_and_not_in_jobs(queue: Queue):
    long, short = [await asyncio.to_thread(queue.workspace) for _ in range(2)]
    await asyncio.to_thread(queue.put, long, 4)
    await asyncio.to_thread(queue.put, short, 8)
    seconds: Counter[UUID] = Counter()
    for _turn in range(8):
        found = await queue.next()
        took = 3000 if found.workspace_id == long.workspace_id else 1000
        seconds[found.workspace_id] += took
        await queue.ran(found, seconds=took)
    assert seconds[long.workspace_id] == 6000
    assert seconds[short.workspace_id] == 6000


async def test_what_a_workspace_had_longer_ago_than_a_day_does_not_count(queue: Queue):
    earlier, now = [await asyncio.to_thread(queue.workspace) for _ in range(2)]
    (ran,) = await asyncio.to_thread(queue.put, earlier, 1)
    await queue.ran(ran, seconds=5000, ended_ago=90_000)
    (last,) = await asyncio.to_thread(queue.put, now, 1)
    await queue.ran(last, seconds=10)
    (waits,) = await asyncio.to_thread(queue.put, now, 1)
    (next_,) = await asyncio.to_thread(queue.put, earlier, 1)
    assert await queue.order() == [next_, waits]


async def test_neither_low_jobs_nor_workspaces_behind_high_ones_wait_for_ever(queue: Queue):
    aging = queue.platform.settings.queue_aging_s
    loud, quiet = [await asyncio.to_thread(queue.workspace) for _ in range(2)]
    loud_jobs = await asyncio.to_thread(queue.put, loud, 3, priority="high")
    quiet_jobs = await asyncio.to_thread(queue.put, quiet, 2)
    assert await queue.order() == [*loud_jobs, *quiet_jobs]
    for found in quiet_jobs:
        await queue.change(found, queued_at=utcnow() - timedelta(seconds=aging + 60))
    await queue.ran(loud_jobs[0], seconds=60)
    assert (await queue.order())[0] == quiet_jobs[0], "nothing of it was started for so long"
    assert await queue.take(quiet_jobs[0])
    await queue.ran(quiet_jobs[0], seconds=100)
    assert (await queue.order())[0] == loud_jobs[1], "and now something was"
    await queue.change(quiet_jobs[1], priority="low", queued_at=utcnow() - timedelta(seconds=2 * aging + 60))
    (fresh,) = await asyncio.to_thread(queue.put, quiet, 1)
    places = [found for found in await queue.order() if found.workspace_id == quiet.workspace_id]
    assert places == [quiet_jobs[1], fresh], "within a workspace a low job rises as it waits"


async def test_a_workspace_runs_no_more_than_it_may_and_does_not_hold_up_others(queue: Queue):
    eager, other = [await asyncio.to_thread(queue.workspace) for _ in range(2)]
    first = await asyncio.to_thread(queue.put, eager, 25)
    (second,) = await asyncio.to_thread(queue.put, other, 1)
    queue.limit(eager, 2)
    assert await queue.order() == [first[0], second, first[1]], "no more of them than may start"
    taken = await asyncio.gather(*(queue.take(found, host=f"machine {n}") for n, found in enumerate(first[:8])))
    assert sum(taken) == 2, "also when many machines ask at once"
    assert await queue.order() == [second]
    queue.limit(eager, 0)
    assert len(await queue.order()) == 20, "0: no limit"
    queue.limit(eager, None)
    assert len(await queue.order()) == 2, "as for all: three at once, of which two run, and the other's one"


async def test_two_machines_never_take_the_same_job(queue: Queue):
    member = await asyncio.to_thread(queue.workspace)
    queue.limit(member, 0)
    found = await asyncio.to_thread(queue.put, member, 6)
    hosts = ["one", "two", "three"]
    taken = await asyncio.gather(*(queue.take(each, host=host) for each in found for host in hosts))
    assert sum(taken) == 6


async def test_high_priority_is_for_owners_and_admins_and_every_change_is_noted(queue: Queue):
    owner = await asyncio.to_thread(queue.workspace)
    trainer = queue.live.new_member(owner.workspace_id, Role.TRAINER)
    viewer = queue.live.new_member(owner.workspace_id, Role.VIEWER)
    (found,) = await asyncio.to_thread(queue.put, owner, 1)
    path = f"/api/jobs/{found.job_id}/priority"

    def check() -> None:
        assert viewer.client.post(path, json={"priority": "low"}).status_code == 403
        refused = trainer.client.post(path, json={"priority": "high"})
        assert (refused.status_code, refused.json()["code"]) == (403, "role")
        assert data(trainer.client.post(path, json={"priority": "low"}))["job"]["priority"] == "low"
        raised = data(owner.client.post(path, json={"priority": "high", "reason": "The client waits"}))["job"]
        assert raised["priority"] == "high"
        assert trainer.client.post(path, json={"priority": "normal"}).status_code == 403, "nor to take away"
        dataset_id = queue._datasets[owner.workspace_id]
        assert start(trainer, dataset_id, priority="high").status_code == 403
        assert start(trainer, dataset_id, priority="low").status_code == 201
        assert start(trainer, dataset_id, priority="urgent").status_code == 400
        log = data(owner.client.get(f"/api/jobs/{found.job_id}/events", params={"type": "priority"}))["items"]
        assert [event["details"]["after"] for event in log] == ["high", "low"]
        assert "The client waits" in log[0]["message"]
        entries = data(owner.client.get("/api/audit"))["items"]
        assert sum(entry["action"] == "job.priority_set" for entry in entries) == 2
        data(owner.client.post(f"/api/jobs/{found.job_id}/cancel"))
        late = owner.client.post(path, json={"priority": "low"})
        assert (late.status_code, late.json()["code"]) == (409, "job_ended")

    await asyncio.to_thread(check)


async def test_people_are_told_their_place_and_when_they_start_or_why_nobody_can_tell(queue: Queue):
    mine, theirs = [await asyncio.to_thread(queue.workspace) for _ in range(2)]
    (running,) = await asyncio.to_thread(queue.put, theirs, 1)
    (ahead,) = await asyncio.to_thread(queue.put, theirs, 1, priority="high")
    (waits, last) = await asyncio.to_thread(queue.put, mine, 2)
    job = await asyncio.to_thread(get, mine, str(waits.job_id))
    assert job["start_estimate"]["at"] is None
    assert "worker" in job["start_estimate"]["reason"], "no machine has said that it is there"

    assert await queue.take(running)
    now = utcnow()
    await queue.change(running, status=JobStatus.RUNNING, estimated_completion_at=now + timedelta(seconds=300))
    await machines.report(queue.platform, [running], host="here")
    promised = job["promise"]["seconds"]["value"]

    def check() -> None:
        # Two places: one is taken by another workspace's job for 300 s, whose high job takes the other at once.
        job = get(mine, str(waits.job_id))
        start = job["start_estimate"]
        assert (job["position"], start["ahead"], start["running"], start["places"]) == (2, 1, 1, 2)
        assert promised < 200
        assert start["seconds"] == pytest.approx(promised, abs=0.1)
        assert start["earliest"] <= start["at"] <= start["latest"]
        assert "measured" in start["source"]
        assert "promises of 1 before it" in start["source"]
        listed = data(mine.client.get("/api/jobs"))["items"]
        assert {item["id"]: item["position"] for item in listed} == {str(waits.job_id): 2, str(last.job_id): 3}
        third = next(item for item in listed if item["id"] == str(last.job_id))["start_estimate"]
        assert third["seconds"] == pytest.approx(2 * promised, abs=0.1)
        shown = data(mine.client.get("/api/jobs/queue"))["queue"]
        assert [item["id"] for item in shown["jobs"]] == [str(waits.job_id), str(last.job_id)]
        numbers = ("machines", "places", "busy", "running", "limit", "waiting_in_all")
        assert [shown[key] for key in numbers] == [1, 2, 1, 0, 3, 3]
        assert str(ahead.job_id) not in str(shown), "others' jobs are numbers only"
        first = get(theirs, str(ahead.job_id))
        assert (first["position"], first["start_estimate"]["seconds"]) == (1, 0)
        assert first["start_estimate"]["source"] == "a place is free"
        assert get(theirs, str(running.job_id))["position"] is None

    await asyncio.to_thread(check)
    await queue.change(waits, waiting_reason="No GPU of 80 GB is here.")
    job = await asyncio.to_thread(get, mine, str(waits.job_id))
    assert (job["start_estimate"]["at"], job["start_estimate"]["reason"]) == (None, "No GPU of 80 GB is here.")


async def test_ten_thousand_waiting_jobs_are_put_in_order_quickly(queue: Queue):
    """Twice a second a supervisor asks: it must not read them one by one. A generous bound, on a busy machine too."""
    member = await asyncio.to_thread(queue.workspace)
    (one,) = await asyncio.to_thread(queue.put, member, 1)
    async with queue.platform.db.transaction(workspace_id=one.workspace_id) as session:
        columns = [column.name for column in TrainingJob.__table__.columns if column.name != "id"]
        listed = ", ".join(columns)
        await session.execute(
            text(
                f"insert into training_jobs (id, {listed}) select gen_random_uuid(), {listed}"
                " from training_jobs, generate_series(1, 10000)"
            )
        )
    began = asyncio.get_running_loop().time()
    assert len(await queue.order()) == 3
    assert asyncio.get_running_loop().time() - began < 5


async def test_a_worker_says_that_its_machine_is_there_and_that_it_leaves(queue: Queue):
    """A real supervisor, without anything to do."""
    from brightrun.training.supervisor.supervisor import Supervisor

    owner = await asyncio.to_thread(queue.workspace)

    def places() -> int:
        number: int = data(owner.client.get("/api/jobs/queue"))["queue"]["places"]
        return number

    stop = asyncio.Event()
    working = asyncio.create_task(Supervisor(queue.platform).run(stop, leave_trainers=lambda: False))
    while await asyncio.to_thread(places) != 2:
        assert not working.done()
    stop.set()
    await working
    assert await asyncio.to_thread(places) == 0
