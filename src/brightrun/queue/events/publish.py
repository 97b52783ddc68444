"""Tell live pages, in the transaction of the change itself: nobody hears of what was rolled back."""

import re
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

CHANNEL = "brightrun_events"
MAX_PAYLOAD_BYTES = 8 * 1024
TOPIC = re.compile(r"[a-z][a-z0-9_]{0,40}(?::[A-Za-z0-9._-]{1,80})?")
_KIND = re.compile(r"[a-z][a-z0-9_.]{0,60}")

_PUBLISH = text(
    "with inserted as ("
    " insert into events (workspace_id, topic, kind, payload)"
    " values (:workspace_id, :topic, :kind, cast(:payload as jsonb)) returning id, workspace_id)"
    " select id, pg_notify(:channel, workspace_id::text) from inserted"
)


async def publish(session: AsyncSession, topic: str, kind: str, payload: dict[str, Any]) -> int:
    """Write one event of the session's workspace; subscribers get it right after the commit. Returns its number.

    topic: what subscribers choose by: `datasets`, `dataset:<id>`, `jobs`, `job:<id>`, `notifications`.
    kind: what happened, the `event:` of the stream: `dataset.updated`. payload: JSON-able, at most 8 KiB: what a live
    page shows, no more; a page that needs the rest asks for it.

    Raises ValueError for a malformed topic or kind, or a payload that is too large; LookupError without a workspace.
    """
    workspace_id = session.info.get("workspace_id")
    if workspace_id is None:
        raise LookupError(
            "an event belongs to a workspace; this transaction has none (use db.transaction(workspace_id=…))"
        )
    if not TOPIC.fullmatch(topic):
        raise ValueError(f"{topic!r} is no topic; a topic is a name, or a name and an id: `dataset:<id>`")
    if not _KIND.fullmatch(kind):
        raise ValueError(f"{kind!r} is no kind of event; a kind is lower case with dots: `dataset.updated`")
    encoded = orjson.dumps(payload, default=str)
    if len(encoded) > MAX_PAYLOAD_BYTES:
        raise ValueError(
            f"the payload of {kind} on {topic} has {len(encoded)} bytes, at most {MAX_PAYLOAD_BYTES} are allowed; "
            "send the id and let the page ask for the rest"
        )
    row = await session.execute(
        _PUBLISH,
        {"workspace_id": workspace_id, "topic": topic, "kind": kind, "payload": encoded.decode(), "channel": CHANNEL},
    )
    number: int = row.scalar_one()
    return number
