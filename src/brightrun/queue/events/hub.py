"""From the event table to every open page of this process: one LISTEN connection, one read per workspace and change.

The database is read, never trusted to be heard: a notification only says that a workspace has something new. What that
is comes from the table, by cursor (`cursor.py`), so a lost connection loses nothing.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from uuid import UUID

import psycopg
from sqlalchemy import make_url

from brightrun.db.roles import libpq
from brightrun.db.session import Database
from brightrun.errors import UnavailableError
from brightrun.logs import get_logger
from brightrun.queue.events.cursor import MOST_AT_ONCE, Cursor, EventRow, current_cursor, parse_cursor, read_since
from brightrun.queue.events.frames import event_frame, id_line, resync_frame
from brightrun.queue.events.publish import CHANNEL
from brightrun.queue.events.retention import REPLAYABLE_S

logger = get_logger(__name__)

QUEUE_FRAMES = 256
"""Frames that wait for one slow reader before it is told to reload instead."""
_READS_AT_ONCE = 4
_ALIVE_S = 15.0


class Subscription:
    """One open stream. Iterate it for frames (bytes); it ends when the hub closes or `close` is called."""

    def __init__(self, channel: "_Channel", topics: frozenset[str] | None) -> None:
        self._channel = channel
        self.topics = topics
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.closed = False

    def wants(self, topic: str) -> bool:
        return self.topics is None or topic in self.topics

    def deliver(self, frames: list[bytes], cursor: Cursor, prefix: bytes) -> None:
        if not frames or self.closed:
            return
        if self._frames.qsize() + len(frames) > QUEUE_FRAMES:
            self.resync(cursor)
            return
        for frame in frames[:-1]:
            self._frames.put_nowait(frame)
        self._frames.put_nowait(prefix + frames[-1])

    def resync(self, cursor: Cursor) -> None:
        """Drop what waits and say so."""
        if self.closed:
            return
        while not self._frames.empty():
            self._frames.get_nowait()
        self._frames.put_nowait(resync_frame(cursor))

    def begin(self, cursor: Cursor) -> None:
        """Tell the reader where it stands, so that it can resume although nothing has happened yet."""
        self._frames.put_nowait(id_line(cursor) + b"\n")

    @property
    def cursor(self) -> Cursor:
        """Where a reader stands who has taken everything."""
        assert self._channel.cursor is not None
        return self._channel.cursor

    async def next_frame(self, timeout_s: float) -> bytes | None:
        """The next frame; None when the stream is over. Raises TimeoutError when nothing comes in time."""
        return await asyncio.wait_for(self._frames.get(), timeout_s)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (frame := await self._frames.get()) is not None:
            yield frame

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._channel.remove(self)
            self._frames.put_nowait(None)


class _Channel:
    """The subscribers of one workspace, all at the same cursor."""

    def __init__(self, workspace_id: UUID) -> None:
        self.workspace_id = workspace_id
        self.subscriptions: set[Subscription] = set()
        self.cursor: Cursor | None = None
        self.lock = asyncio.Lock()
        self.news = asyncio.Event()
        self.pump: asyncio.Task[None] | None = None

    def remove(self, subscription: Subscription) -> None:
        self.subscriptions.discard(subscription)
        if not self.subscriptions:
            self.news.set()  # Lets the pump see that nobody looks any more.

    def deliver(self, events: list[EventRow], cursor: Cursor) -> None:
        self.cursor = cursor
        if len(events) > MOST_AT_ONCE:
            for subscription in list(self.subscriptions):
                subscription.resync(cursor)
            return
        encoded = [(event.topic, event_frame(event)) for event in events]
        prefix = id_line(cursor)
        for subscription in list(self.subscriptions):
            wanted = [frame for topic, frame in encoded if subscription.wants(topic)]
            subscription.deliver(wanted, cursor, prefix)


class EventHub:
    """One per server process. `start` it in the lifespan, `close` it as soon as a shutdown is asked for."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._channels: dict[UUID, _Channel] = {}
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)
        self._listener: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()
        self._closed = False

    async def start(self) -> None:
        self._listener = asyncio.create_task(self._listen(), name="event hub")

    async def listening(self) -> None:
        """Return once the LISTEN connection is up."""
        await self._listening.wait()

    @property
    def subscribers(self) -> int:
        """Open streams, for `/metrics`."""
        return sum(len(channel.subscriptions) for channel in self._channels.values())

    async def subscribe(
        self, workspace_id: UUID, topics: Iterable[str] | None = None, last_event_id: str | None = None
    ) -> Subscription:
        """A stream of what happens from now on, after everything since `last_event_id`.

        topics: only these; None for all of the workspace. last_event_id: a cursor, as `id:` of an earlier frame or
        `current_cursor` gave it. One that is unknown or too old gives a `resync` frame instead of a replay.
        """
        self._refuse_if_closed()
        while True:
            channel = self._channels.setdefault(workspace_id, _Channel(workspace_id))
            subscription = Subscription(channel, frozenset(topics) if topics is not None else None)
            async with channel.lock:  # The cursor stands still until the replay is in the new queue.
                if self._channels.get(workspace_id) is not channel:
                    continue  # Its last reader left while we waited.
                try:
                    if channel.cursor is None or not channel.subscriptions:
                        # Nobody was looking: what happened in between is replay for whoever asks for it.
                        async with self._db.transaction(workspace_id=workspace_id) as session:
                            channel.cursor = await current_cursor(session)
                    await self._replay(channel, subscription, channel.cursor, last_event_id)
                    self._refuse_if_closed()
                except BaseException:
                    self._forget_if_empty(channel)
                    raise
                channel.subscriptions.add(subscription)
                if channel.pump is None:
                    channel.pump = asyncio.create_task(self._pump(channel), name=f"events of {workspace_id}")
                return subscription

    async def close(self) -> None:
        """End every stream at once; safe to call again."""
        self._closed = True
        tasks = [task for channel in self._channels.values() if (task := channel.pump) is not None]
        if self._listener is not None:
            tasks.append(self._listener)
        for task in tasks:
            task.cancel()
        for channel in list(self._channels.values()):
            for subscription in list(channel.subscriptions):
                subscription.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._channels.clear()

    async def _replay(
        self, channel: _Channel, subscription: Subscription, until: Cursor, last_event_id: str | None
    ) -> None:
        if not last_event_id:
            subscription.begin(until)
            return
        since = parse_cursor(last_event_id)
        # From the future: of another database, or of this one before it was restored.
        if since is None or since.age_s > REPLAYABLE_S or since.xmin > until.xmax:
            subscription.resync(until)
            return
        async with self._db.transaction(workspace_id=channel.workspace_id) as session:
            events, _ = await read_since(session, channel.workspace_id, since, until=until, topics=subscription.topics)
        if events:
            subscription.deliver([event_frame(event) for event in events], until, id_line(until))
        else:
            subscription.begin(until)

    async def _pump(self, channel: _Channel) -> None:
        """Bring the channel forward whenever there is news, until nobody looks any more."""
        delay = 0.1
        while True:
            await channel.news.wait()
            channel.news.clear()
            async with channel.lock:
                if not channel.subscriptions:
                    self._forget_if_empty(channel)
                    return
                assert channel.cursor is not None
                try:
                    async with (
                        self._reads,
                        self._db.transaction(workspace_id=channel.workspace_id) as session,
                    ):
                        events, cursor = await read_since(session, channel.workspace_id, channel.cursor)
                    channel.deliver(events, cursor)
                    delay = 0.1
                    continue
                except Exception:
                    logger.exception("cannot read events, trying again", workspace=str(channel.workspace_id))
                    channel.news.set()
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5.0)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise UnavailableError("The server is shutting down; connect again in a moment")

    def _forget_if_empty(self, channel: _Channel) -> None:
        if not channel.subscriptions and self._channels.get(channel.workspace_id) is channel:
            del self._channels[channel.workspace_id]
            channel.news.set()  # Ends its pump.

    async def _listen(self) -> None:
        delay = 0.2
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    libpq(make_url(self._db.url)),
                    autocommit=True,
                    connect_timeout=10,
                    application_name="brightrun events",
                    keepalives_idle=30,
                    keepalives_interval=10,
                    keepalives_count=3,
                ) as connection:
                    await connection.execute(f"listen {CHANNEL}")
                    delay = 0.2
                    self._listening.set()
                    # Whatever was announced while nobody listened: one read a workspace, through the pool.
                    self._wake(self._channels.values())
                    await self._hear(connection)
            except (psycopg.Error, OSError) as error:
                logger.warning("lost the connection that hears of events, connecting again", error=str(error))
            self._listening.clear()
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5.0)

    async def _hear(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        while True:
            async for notification in connection.notifies(timeout=_ALIVE_S):
                with contextlib.suppress(ValueError):  # Anyone may NOTIFY; only a workspace's id means something.
                    channel = self._channels.get(UUID(notification.payload))
                    if channel is not None:
                        self._wake([channel])
            await connection.execute("select 1")

    def _wake(self, channels: Iterable[_Channel]) -> None:
        for channel in channels:
            channel.news.set()
