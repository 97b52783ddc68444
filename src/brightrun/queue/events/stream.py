"""The HTTP answer of a live stream."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from uuid import UUID

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from brightrun.errors import InvalidInputError
from brightrun.queue.events.frames import RETRY, ping_frame
from brightrun.queue.events.hub import EventHub, Subscription
from brightrun.queue.events.publish import TOPIC

PING_S = 15.0
MAX_TOPICS = 50


class EventStreamResponse(StreamingResponse):
    """Gives its subscription back however the answer ends: client gone, server closing, error."""

    def __init__(
        self, subscription: Subscription, *, ping_s: float, still_allowed: Callable[[], Awaitable[bool]] | None
    ) -> None:
        self._subscription = subscription
        super().__init__(
            _frames(subscription, ping_s, still_allowed),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._subscription.close()


async def sse_response(
    hub: EventHub,
    workspace_id: UUID,
    topics: Iterable[str] | None = None,
    last_event_id: str | None = None,
    *,
    ping_s: float = PING_S,
    still_allowed: Callable[[], Awaitable[bool]] | None = None,
) -> StreamingResponse:
    """What happens in the workspace on `topics` (None: on all), from `last_event_id` on, until the hub closes.

    still_allowed: asked at every ping, so that a stream ends when its reader was signed out or lost the workspace.
    Raises InvalidInputError for topics that cannot exist.
    """
    chosen = list(topics) if topics is not None else None
    if chosen is not None:
        wrong = [topic for topic in chosen if not TOPIC.fullmatch(topic)]
        if wrong or not chosen or len(chosen) > MAX_TOPICS:
            raise InvalidInputError(
                f"topics is a comma-separated list of 1 to {MAX_TOPICS} names such as `datasets` or `job:<id>`",
                details={"topics": [f"{topic!r} is no topic" for topic in wrong] or ["wrong number of topics"]},
            )
    subscription = await hub.subscribe(workspace_id, chosen, last_event_id)
    return EventStreamResponse(subscription, ping_s=ping_s, still_allowed=still_allowed)


async def _frames(
    subscription: Subscription, ping_s: float, still_allowed: Callable[[], Awaitable[bool]] | None
) -> AsyncIterator[bytes]:
    yield RETRY
    loop = asyncio.get_running_loop()
    checked = loop.time()
    while True:
        try:
            frame = await subscription.next_frame(ping_s)
        except TimeoutError:
            frame = ping_frame(subscription.cursor)
        if frame is None:
            return
        if still_allowed is not None and loop.time() - checked >= ping_s:
            checked = loop.time()
            if not await still_allowed():
                return
        yield frame
