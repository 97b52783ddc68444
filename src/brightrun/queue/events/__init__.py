"""Live data: `publish` in the transaction of a change, `EventHub` and `sse_response` for the pages that watch."""

from brightrun.queue.events.cursor import Cursor, current_cursor
from brightrun.queue.events.hub import EventHub, Subscription
from brightrun.queue.events.publish import publish
from brightrun.queue.events.stream import sse_response
from brightrun.queue.events.tables import Event

__all__ = ["Cursor", "Event", "EventHub", "Subscription", "current_cursor", "publish", "sse_response"]
