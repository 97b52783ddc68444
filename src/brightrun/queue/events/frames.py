"""Server-sent events as bytes: each event is encoded once, however many subscribers it goes to."""

import orjson

from brightrun.queue.events.cursor import Cursor, EventRow

RETRY = b"retry: 2000\n"


def event_frame(event: EventRow) -> bytes:
    """`event:` is the kind; `data:` is one JSON object: id, topic, kind, at, payload. The id serves to tell repeats."""
    data = orjson.dumps(
        {"id": event.id, "topic": event.topic, "kind": event.kind, "at": event.created_at, "payload": event.payload}
    )
    return b"event: " + event.kind.encode() + b"\ndata: " + data + b"\n\n"


def id_line(cursor: Cursor) -> bytes:
    """Goes before the last frame of what was read together: the client may resume from there, not from within."""
    return b"id: " + str(cursor).encode() + b"\n"


def ping_frame(cursor: Cursor) -> bytes:
    """Keeps the connection open, and moves a reader on to whom nothing was sent for a while."""
    return id_line(cursor) + b": ping\n\n"


def resync_frame(cursor: Cursor) -> bytes:
    """Says that events were left out: reload what is shown. What follows is complete again."""
    return id_line(cursor) + b'event: resync\ndata: {"kind":"resync"}\n\n'
