"""Claude's Message Batches: many requests at half the price, answered within a day, in any order."""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from brightrun.llm.calls import Answer, CallError, RejectedError, Request, TransportError
from brightrun.llm.claude import BETA, Claude, SchemaForm, read_message

MOST = 5000
"""Requests of one batch. The provider takes 100,000 and 256 MB; the results are held in memory when they are read."""
_NAME = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")


@dataclass(frozen=True, slots=True)
class Told:
    """What the provider says about a batch. total: requests in it, whatever became of them."""

    id: str
    ended: bool
    total: int
    created_at: datetime


async def create(client: Claude, requests: Sequence[tuple[str, Request]]) -> Told:
    """requests: (custom id, request), all of one model. Raises CallError."""
    form = await client.form(requests[0][1].model)
    body = {"requests": [{"custom_id": name, "params": client.body(asked, form)} for name, asked in requests]}
    headers = {"anthropic-beta": BETA} if form is SchemaForm.BETA else {}
    return _told(orjson.loads((await client._post("/v1/messages/batches", orjson.dumps(body), headers)).content))


async def get(client: Claude, batch_id: str) -> Told:
    return _told(orjson.loads((await client._get(f"/v1/messages/batches/{batch_id}")).content))


async def cancel(client: Claude, batch_id: str) -> None:
    await client._post(f"/v1/messages/batches/{batch_id}/cancel", b"{}")


async def recent(client: Claude, since: datetime) -> list[Told]:
    """Batches made since, newest first."""
    found: list[Told] = []
    after = ""
    while True:
        page = orjson.loads((await client._get(f"/v1/messages/batches?limit=100{after}")).content)
        batches = [_told(entry) for entry in page["data"]]
        found += [batch for batch in batches if batch.created_at >= since]
        if not page.get("has_more") or not batches or batches[-1].created_at < since:
            return found
        after = f"&after_id={page['last_id']}"


async def results(client: Claude, batch_id: str) -> AsyncIterator[tuple[str, Answer | CallError | None]]:
    """(custom id, what came), in the provider's order. None: not done, not charged (expired or cancelled)."""
    response = await client._get(f"/v1/messages/batches/{batch_id}/results")
    for line in response.content.splitlines():
        if line.strip():
            entry = orjson.loads(line)
            yield entry["custom_id"], _result(entry["result"])


def _result(result: dict[str, Any]) -> Answer | CallError | None:
    match result["type"]:
        case "succeeded":
            message = result["message"]
            try:
                return read_message(message, orjson.dumps(message).decode())
            except CallError as error:
                return error
        case "errored":
            told = result.get("error") or {}
            told = told.get("error", told)
            message = f"the provider says: {told.get('message', 'no reason given')}"
            invalid = told.get("type") == "invalid_request_error"
            return RejectedError(message) if invalid else TransportError(message)
        case _:
            return None


def _told(entry: dict[str, Any]) -> Told:
    return Told(
        id=entry["id"],
        ended=entry["processing_status"] == "ended",
        total=sum(entry["request_counts"].values()),
        created_at=datetime.fromisoformat(entry["created_at"]),
    )
