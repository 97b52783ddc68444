"""Who takes which job: one supervisor each, as many as a machine has places for, in a fair order."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from job_steps import AddDataset, started
from sqlalchemy import func, select, update

from brightrun.clock import utcnow
from brightrun.db.roles import DatabaseUrls
from brightrun.db.session import Database
from brightrun.platform import Platform
from brightrun.queue.events.tables import Event
from brightrun.settings import Settings
from brightrun.storage import open_store
from brightrun.training.supervisor import claims
from brightrun.training.supervisor.claims import Found, LostLeaseError
from brightrun.training.supervisor.ingest import ingest
from brightrun.training.supervisor.progress import Pace
from brightrun.training.tables import JobEvent, MetricsPoint, TrainingJob
from live import Live, Member, live_server

pytestmark = pytest.mark.anyio


@pytest.fixture
def own(
    new_database: Callable[[], AbstractContextManager[DatabaseUrls]], tmp_path: Path
) -> Iterator[tuple[Live, DatabaseUrls]]:
    """A server without a worker, on a database of this test."""
    settings = Settings(database_role_prefix="brtest", data=tmp_path, min_free_disk_bytes=0)
    with new_database() as urls, live_server(urls, settings, b"the tests' secret key", worker=False) as live:
        yield live, urls


@pytest.fixture
async def platform(own: tuple[Live, DatabaseUrls]) -> AsyncIterator[Platform]:
    live, urls = own
    database = Database(urls.worker.render_as_string(hide_password=False), pool_size=5)
    store = open_store(live.settings, public_url=live.url, secret=live.secret)
    yield Platform(settings=live.settings, secret=live.secret, db=database, store=store, public_url=live.url)
    await database.dispose()


def jobs(live: Live, add: AddDataset, number: int) -> tuple[Member, list[Found]]:
    member = live.new_workspace()
    dataset_id = add(live, member)
    ids = [started(member, dataset_id)["id"] for _ in range(number)]
    return member, [Found(member.workspace_id, UUID(job_id)) for job_id in ids]


async def waiting(platform: Platform, host: str) -> list[Found]:
    async with platform.db.transaction() as session:
        return list(await claims.startable(session, platform.settings, host))


async def row(platform: Platform, found: Found) -> TrainingJob:
    async with platform.db.transaction(workspace_id=found.workspace_id) as session:
        return await session.get_one(TrainingJob, found.job_id)


async def change(platform: Platform, found: Found, **values: Any) -> None:
    async with platform.db.transaction(workspace_id=found.workspace_id) as session:
        await session.execute(update(TrainingJob).where(TrainingJob.id == found.job_id).values(**values))


async def test_supervisors_of_one_machine_never_take_a_job_twice_nor_more_than_its_places(
    own: tuple[Live, DatabaseUrls], platform: Platform, add_dataset: AddDataset
) -> None:
    _, found = await asyncio.to_thread(jobs, own[0], add_dataset, 3)
    attempts = [
        claims.claim_waiting(platform, each, host="here", owner=owner, limit=2)
        for each in found
        for owner in ("first", "second")
    ]
    taken = await asyncio.gather(*attempts)
    assert sum(taken) == 2
    rows = [await row(platform, each) for each in found]
    assert sorted(job.status for job in rows) == ["initializing", "initializing", "queued"]
    assert all(job.lease_owner and job.host == "here" for job in rows if job.status == "initializing")


async def test_only_an_expired_lease_is_taken_over_and_its_owner_may_write_no_more(
    own: tuple[Live, DatabaseUrls], platform: Platform, add_dataset: AddDataset
) -> None:
    _, (found,) = await asyncio.to_thread(jobs, own[0], add_dataset, 1)
    assert await claims.claim_waiting(platform, found, host="here", owner="frozen", limit=1)
    assert not await claims.adopt(platform, found, owner="next")
    await change(platform, found, lease_expires_at=utcnow() - timedelta(seconds=1))
    assert await claims.adopt(platform, found, owner="next")
    with pytest.raises(LostLeaseError):
        async with platform.db.transaction(workspace_id=found.workspace_id) as session:
            await claims.held(session, found.job_id, "frozen")


async def test_another_machine_takes_a_job_only_when_its_own_was_away_for_long_and_begins_anew(
    own: tuple[Live, DatabaseUrls], platform: Platform, add_dataset: AddDataset
) -> None:
    _, (found,) = await asyncio.to_thread(jobs, own[0], add_dataset, 1)
    assert await claims.claim_waiting(platform, found, host="there", owner="one", limit=1)
    await change(platform, found, run_dir="/there", lease_expires_at=utcnow() - timedelta(seconds=60))
    assert await waiting(platform, "here") == []
    assert not await claims.claim_waiting(platform, found, host="here", owner="two", limit=1)
    await change(platform, found, lease_expires_at=utcnow() - timedelta(seconds=claims.LOST_MACHINE_S + 1))
    assert await waiting(platform, "here") == [found]
    assert await claims.claim_waiting(platform, found, host="here", owner="two", limit=1)
    job = await row(platform, found)
    assert (job.host, job.run_dir, job.lease_owner) == ("here", None, "two")


async def test_reading_the_same_events_twice_changes_nothing_and_a_repeated_step_counts_once(
    own: tuple[Live, DatabaseUrls], platform: Platform, add_dataset: AddDataset
) -> None:
    _, (found,) = await asyncio.to_thread(jobs, own[0], add_dataset, 1)

    def metric(seq: int, step: int, loss: float) -> dict[str, Any]:
        return {
            "seq": seq, "time": f"2030-01-01T00:00:{seq:02}.000Z", "type": "metric", "step": step, "total_steps": 10,
            "epoch": step / 10, "loss": loss, "learning_rate": 1e-3, "grad_norm": 1.0, "trained_tokens": 5,
            "tokens_per_s": 100.0, "rss_bytes": 1,
        }  # fmt: skip

    said = [metric(1, 1, 5.0), metric(2, 2, 4.0), metric(3, 3, 3.0)]
    said.append({"seq": 4, "time": "2030-01-01T00:00:04Z", "type": "checkpoint", "step": 2, "path": "x\x00"})
    said.append({"seq": 5, "time": "2030-01-01T00:00:05Z", "type": "sample", "when": "after", "answer": "a\x00\ud800"})
    resumed = [metric(6, 3, 2.5)]

    async def read(events: list[dict[str, Any]]) -> None:
        async with platform.db.transaction(workspace_id=found.workspace_id) as session:
            job = await session.get_one(TrainingJob, found.job_id)
            await ingest(session, job, events, Pace())

    for events in (said, resumed, said):
        await read(events)
    async with platform.db.transaction(workspace_id=found.workspace_id) as session:
        losses = await session.execute(
            select(MetricsPoint.step, MetricsPoint.training_loss)
            .where(MetricsPoint.job_id == found.job_id)
            .order_by(MetricsPoint.step)
        )
        assert [tuple(point) for point in losses] == [(1, 5.0), (2, 4.0), (3, 2.5)]
        lines = select(func.count()).select_from(JobEvent).where(JobEvent.job_id == found.job_id)
        assert await session.scalar(lines.where(JobEvent.source == "trainer")) == 2
    assert (await row(platform, found)).checkpoint_step == 2


async def test_every_stage_is_told_when_all_of_them_are_read_at_once(
    own: tuple[Live, DatabaseUrls], platform: Platform, add_dataset: AddDataset
) -> None:
    """A slow supervisor, or a run shorter than its tick."""
    _, (found,) = await asyncio.to_thread(jobs, own[0], add_dataset, 1)
    stages = ["preprocessing", "model_loading", "training", "finalizing"]
    said = [
        {"seq": number, "time": "2030-01-01T00:00:00Z", "type": "stage", "stage": stage, "fraction": fraction}
        for number, (stage, fraction) in enumerate(((stage, part) for stage in stages for part in (0.0, 1.0)), start=1)
    ]
    async with platform.db.transaction(workspace_id=found.workspace_id) as session:
        job = await session.get_one(TrainingJob, found.job_id)
        assert await ingest(session, job, said, Pace())
    async with platform.db.transaction(workspace_id=found.workspace_id) as session:
        told = select(Event.payload["stage"].astext, Event.payload["progress"].as_float()).where(
            Event.topic == f"job:{found.job_id}", Event.payload["stage"].astext.is_not(None)
        )
        assert [tuple(row) for row in await session.execute(told.order_by(Event.id))] == [
            ("preprocessing", 0.0), ("model_loading", 2.0), ("training", 10.0), ("finalizing", 95.0),
        ]  # fmt: skip
