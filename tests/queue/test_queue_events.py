"""Live events: nothing missed, nothing twice, nothing of another workspace, and memory that stays bounded."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from queue_support import Ledger, QueuePlatform
from sqlalchemy import text

from brightrun.clock import utcnow
from brightrun.db.session import Database
from brightrun.errors import InvalidInputError, UnavailableError
from brightrun.ids import uuid7
from brightrun.queue.events import EventHub, Subscription, current_cursor, publish, sse_response
from brightrun.queue.events.cursor import Cursor, parse_cursor
from brightrun.queue.events.hub import QUEUE_FRAMES
from brightrun.queue.events.retention import KEEP_S, delete_old_events

pytestmark = pytest.mark.anyio


@pytest.fixture
async def hub(app_db: Database) -> AsyncIterator[EventHub]:
    hub = EventHub(app_db)
    await hub.start()
    await asyncio.wait_for(hub.listening(), 10)
    yield hub
    await hub.close()


class Reader:
    """What a browser keeps of a stream: its events, and the last id."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.last_id: str | None = None
        self.may_resume_here = False

    async def next(self, within_s: float = 10.0) -> dict[str, Any]:
        """The next event; ids alone are kept, as a browser does."""
        while True:
            frame = await self.subscription.next_frame(within_s)
            assert frame is not None, "the stream ended"
            fields = dict(line.split(": ", 1) for line in frame.decode().strip().splitlines() if ": " in line)
            self.last_id = fields.get("id", self.last_id)
            self.may_resume_here = "id" in fields
            if "data" in fields:
                return {"event": fields["event"], **json.loads(fields["data"])}

    async def numbers(self, count: int) -> list[int]:
        return [(await self.next())["payload"]["n"] for _ in range(count)]

    async def is_silent(self) -> bool:
        try:
            await self.next(within_s=0.3)
        except TimeoutError:
            return True
        return False


async def say(db: Database, workspace_id: UUID, *numbers: int, topic: str = "jobs") -> None:
    async with db.transaction(workspace_id=workspace_id) as session:
        for n in numbers:
            await publish(session, topic, "job.updated", {"n": n})


async def test_an_event_arrives_after_the_commit_with_its_topic_kind_and_payload(
    hub: EventHub, app_db: Database, workspace_id: UUID
) -> None:
    reader = Reader(await hub.subscribe(workspace_id, ["jobs"]))
    async with app_db.transaction(workspace_id=workspace_id) as session:
        await publish(session, "jobs", "job.updated", {"n": 1})
        assert await reader.is_silent()
    event = await reader.next()
    assert (event["event"], event["topic"], event["kind"], event["payload"]) == (
        "job.updated",
        "jobs",
        "job.updated",
        {"n": 1},
    )


async def test_nobody_hears_of_what_was_rolled_back(hub: EventHub, app_db: Database, workspace_id: UUID) -> None:
    reader = Reader(await hub.subscribe(workspace_id))

    async def change_of_mind() -> None:
        async with app_db.transaction(workspace_id=workspace_id) as session:
            await publish(session, "jobs", "job.updated", {"n": 1})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await change_of_mind()
    await say(app_db, workspace_id, 2)
    assert await reader.numbers(1) == [2]


async def test_subscribers_get_their_topics_of_their_workspace_only(
    hub: EventHub, app_db: Database, workspace_id: UUID, as_owner: Ledger
) -> None:
    other = uuid7()
    as_owner("insert into workspaces (id, name) values (%s, 'Other')", other)
    datasets = Reader(await hub.subscribe(workspace_id, ["datasets"]))
    everything = Reader(await hub.subscribe(workspace_id))
    foreign = Reader(await hub.subscribe(other))
    await say(app_db, workspace_id, 1, topic="jobs")
    await say(app_db, workspace_id, 2, topic="datasets")
    assert await everything.numbers(2) == [1, 2]
    assert await datasets.numbers(1) == [2]
    assert await foreign.is_silent()


async def test_a_reader_resumes_where_it_broke_off_also_before_its_first_event(
    hub: EventHub, app_db: Database, workspace_id: UUID
) -> None:
    reader = Reader(await hub.subscribe(workspace_id, ["jobs"]))
    assert await reader.is_silent()
    assert reader.last_id is not None
    reader.subscription.close()
    await say(app_db, workspace_id, 1, 2)
    await say(app_db, workspace_id, 99, topic="datasets")
    again = Reader(await hub.subscribe(workspace_id, ["jobs"], reader.last_id))
    assert await again.numbers(2) == [1, 2]
    again.subscription.close()
    await say(app_db, workspace_id, 3)
    third = Reader(await hub.subscribe(workspace_id, ["jobs"], again.last_id))
    await say(app_db, workspace_id, 4)
    assert await third.numbers(2) == [3, 4]
    assert await third.is_silent()


async def test_a_page_that_embeds_a_cursor_misses_nothing_between_its_rendering_and_its_stream(
    hub: EventHub, app_db: Database, workspace_id: UUID
) -> None:
    async with app_db.transaction(workspace_id=workspace_id) as session:
        rendered = str(await current_cursor(session))
    await say(app_db, workspace_id, 1)
    reader = Reader(await hub.subscribe(workspace_id, last_event_id=rendered))
    assert await reader.numbers(1) == [1]


async def test_transactions_that_commit_out_of_order_lose_nothing_on_replay(
    hub: EventHub, app_db: Database, workspace_id: UUID
) -> None:
    reader = Reader(await hub.subscribe(workspace_id))
    async with app_db.transaction(workspace_id=workspace_id) as slow:
        early = await publish(slow, "jobs", "job.updated", {"n": 1})
        async with app_db.transaction(workspace_id=workspace_id) as quick:
            late = await publish(quick, "jobs", "job.updated", {"n": 2})
        assert early < late
        assert await reader.numbers(1) == [2]
        reader.subscription.close()
    # The lower number became visible after the higher one had been seen.
    again = Reader(await hub.subscribe(workspace_id, last_event_id=reader.last_id))
    assert await again.numbers(1) == [1]
    assert await again.is_silent()


async def test_readers_who_reconnect_at_random_see_every_event_of_interleaved_writers_exactly_once(
    hub: EventHub, app_db: Database, workspace_id: UUID
) -> None:
    total, writers = 120, 4

    async def write(writer: int) -> None:
        for n in range(writer, total, writers):
            async with app_db.transaction(workspace_id=workspace_id) as session:
                await publish(session, "jobs", "job.updated", {"n": n})
                await session.execute(text("select pg_sleep(:s)"), {"s": 0.001 * (n * 7 % 11)})

    async def read(reader: Reader, every: int) -> list[int]:
        seen: list[int] = []
        while len(seen) < total:
            seen += await reader.numbers(1)
            # What was committed together goes out together; only its last frame has an id.
            if len(seen) % every == 0 and reader.may_resume_here:
                reader.subscription.close()
                reader = Reader(await hub.subscribe(workspace_id, last_event_id=reader.last_id))
        assert await reader.is_silent()
        return seen

    readers = [asyncio.create_task(read(Reader(await hub.subscribe(workspace_id)), every)) for every in (1, 3, 1000)]
    await asyncio.gather(*(write(writer) for writer in range(writers)))
    for reader in readers:
        seen = await asyncio.wait_for(reader, 30)
        assert sorted(seen) == list(range(total))


async def test_a_lost_listen_connection_loses_no_event(
    hub: EventHub, app_db: Database, workspace_id: UUID, as_owner: Ledger
) -> None:
    readers = [Reader(await hub.subscribe(workspace_id)) for _ in range(20)]
    async with app_db.transaction(workspace_id=workspace_id) as session:
        # Cut and written in one transaction: nobody can hear the announcement.
        cut = await session.execute(
            text(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                " where datname = current_database() and application_name = 'brightrun events'"
            )
        )
        assert cut.scalars().all() == [True]
        await publish(session, "jobs", "job.updated", {"n": 1})
    for reader in readers:
        assert await reader.numbers(1) == [1]


async def test_a_reader_who_does_not_read_is_told_to_reload_and_costs_bounded_memory(
    hub: EventHub, app_db: Database, workspace_id: UUID
) -> None:
    slow = await hub.subscribe(workspace_id)
    quick = Reader(await hub.subscribe(workspace_id))
    rounds = QUEUE_FRAMES // 100 + 2
    for round_number in range(rounds):
        await say(app_db, workspace_id, *range(round_number * 100, round_number * 100 + 100))
        assert len(await quick.numbers(100)) == 100
    assert slow._frames.qsize() <= QUEUE_FRAMES
    reader = Reader(slow)
    assert (await reader.next())["event"] == "resync"
    while not await reader.is_silent():
        assert reader.last_id is not None
    await say(app_db, workspace_id, 7)
    assert await reader.numbers(1) == [7]


@pytest.mark.parametrize(
    "nonsense",
    ["7", "", "1.2:1:", "1.0:0:", "9" * 500, "1764000000.5:9:12", "1764000000.5:9:7,6", "x" * 5000, "1.5:9:7\n"],
)
def test_a_cursor_that_we_did_not_write_is_no_cursor(nonsense: str) -> None:
    assert parse_cursor(nonsense) is None


def test_a_cursor_survives_its_text_form() -> None:
    cursor = Cursor(1764000000, "5:9:6,7")
    assert parse_cursor(str(cursor)) == cursor
    huge = Cursor(1764000000, "1000000:2000000:" + ",".join(str(1000000 + n) for n in range(900)))
    assert parse_cursor(str(huge)) == Cursor(1764000000, "1000000:1000000:")


@pytest.mark.parametrize("last_event_id", ["42", "1.5:9:7", "9999999999.99999999999:99999999999:"])
async def test_an_unknown_outdated_or_foreign_cursor_asks_for_a_reload_and_then_goes_on(
    hub: EventHub, app_db: Database, workspace_id: UUID, last_event_id: str
) -> None:
    reader = Reader(await hub.subscribe(workspace_id, last_event_id=last_event_id))
    assert (await reader.next())["event"] == "resync"
    await say(app_db, workspace_id, 1)
    assert await reader.numbers(1) == [1]


async def test_an_event_needs_a_workspace_a_topic_and_a_small_payload(app_db: Database, workspace_id: UUID) -> None:
    async with app_db.transaction() as session:
        with pytest.raises(LookupError, match="workspace"):
            await publish(session, "jobs", "job.updated", {})
    async with app_db.transaction(workspace_id=workspace_id) as session:
        with pytest.raises(ValueError, match="is no topic"):
            await publish(session, "Jobs!", "job.updated", {})
        with pytest.raises(ValueError, match="is no kind"):
            await publish(session, "jobs", "Job updated", {})
        with pytest.raises(ValueError, match="bytes"):
            await publish(session, "jobs", "job.updated", {"log": "x" * 9000})


async def test_old_events_are_deleted_in_every_workspace(
    platform: QueuePlatform, app_db: Database, workspace_id: UUID, as_owner: Ledger
) -> None:
    await say(app_db, workspace_id, 1, 2)
    as_owner(
        "update events set created_at = %s where payload = '{\"n\": 1}'", utcnow() - timedelta(seconds=KEEP_S + 60)
    )
    await delete_old_events(platform)
    assert as_owner("select payload from events") == [({"n": 2},)]


@asynccontextmanager
async def serving(hub: EventHub, workspace_id: UUID, **options: Any) -> AsyncIterator[tuple[str, uvicorn.Server]]:
    app = FastAPI()

    @app.get("/events")
    async def events(topics: str = "jobs") -> Any:
        return await sse_response(hub, workspace_id, topics.split(","), **options)

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=30))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/events", server
    finally:
        server.should_exit = True
        await hub.close()
        await asyncio.wait_for(running, 10)


async def test_the_stream_over_http_has_ids_pings_and_ends_when_the_hub_closes(
    hub: EventHub, app_db: Database, workspace_id: UUID
) -> None:
    async with (
        serving(hub, workspace_id, ping_s=0.1) as (url, _server),
        httpx2.AsyncClient(timeout=10) as client,
        client.stream("GET", url) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        lines = response.aiter_lines()
        seen: list[str] = []
        asked = False
        async for line in lines:
            seen.append(line)
            if line == ": ping" and not asked:
                asked = True
                await say(app_db, workspace_id, 1)
            if line.startswith("data: "):
                break
        assert "retry: 2000" in seen
        assert any(line.startswith("id: ") for line in seen)
        assert "event: job.updated" in seen
        assert hub.subscribers == 1
        await hub.close()
        assert [line async for line in lines if line.startswith("data")] == []


async def test_a_reader_who_leaves_is_forgotten(hub: EventHub, workspace_id: UUID) -> None:
    async with serving(hub, workspace_id, ping_s=0.05) as (url, _server):
        async with httpx2.AsyncClient(timeout=10) as client, client.stream("GET", url) as response:
            await anext(response.aiter_lines())
            assert hub.subscribers == 1
        deadline = asyncio.get_running_loop().time() + 10
        while hub.subscribers:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.02)


async def test_a_stream_ends_when_its_reader_may_no_longer_read(hub: EventHub, workspace_id: UUID) -> None:
    async def still_allowed() -> bool:
        return False

    async with (
        serving(hub, workspace_id, ping_s=0.05, still_allowed=still_allowed) as (url, _server),
        httpx2.AsyncClient(timeout=10) as client,
    ):
        response = await client.get(url)
        assert response.status_code == 200


async def test_wrong_topics_and_a_closed_hub_are_refused(hub: EventHub, workspace_id: UUID) -> None:
    with pytest.raises(InvalidInputError, match="comma-separated"):
        await sse_response(hub, workspace_id, ["jobs", "../etc"])
    await hub.close()
    with pytest.raises(UnavailableError):
        await hub.subscribe(workspace_id)
