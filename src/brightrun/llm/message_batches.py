"""Claude's Message Batches: many requests at half the price, answered within a day, in any order.

A batch's requests carry names of ours, so that results find their rows. The provider shows neither names nor counts
before a batch has ended, only how many requests it holds and when it was made; results are kept for 29 days.
"""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx2
import orjson
from anthropic import AnthropicError, APIConnectionError, APIStatusError

from brightrun.llm.calls import Answer, CallError, ContextOverflowError, RejectedError, Request, TransportError
from brightrun.llm.claude import BETA, Claude, SchemaForm, read_message
from brightrun.llm.wire import network_error

MOST = 5000
"""Requests of one batch. The provider takes 100,000 and 256 MB; the body of one is held in memory when it is made."""
_NAME = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")


@dataclass(frozen=True, slots=True)
class Told:
    """What the provider says about a batch. total: requests in it, whatever became of them."""

    id: str
    ended: bool
    total: int
    created_at: datetime


async def create(client: Claude, requests: Sequence[tuple[str, Request]]) -> Told:
    """requests: (custom id, request), all of one model. The provider looks at each only later: what it rejects comes
    back as a result.

    Raises CallError; after ConnectionBroken the batch may be there all the same.
    """
    for name, _ in requests:
        if not _NAME.match(name):
            raise ValueError(f"{name!r} is no custom id: 1 to 64 letters, digits, - and _")
    form = await client.form(requests[0][1].model)
    body = {"requests": [{"custom_id": name, "params": client.body(asked, form)} for name, asked in requests]}
    headers = {"anthropic-beta": BETA} if form is SchemaForm.BETA else {}
    return _told(orjson.loads((await client.post("/v1/messages/batches", orjson.dumps(body), headers)).content))


async def get(client: Claude, batch_id: str) -> Told:
    """Raises ProviderUnusable with status 404 also for a moment after it was made."""
    return _told(orjson.loads((await client.get(f"/v1/messages/batches/{quote(batch_id, safe='')}")).content))


async def cancel(client: Claude, batch_id: str) -> None:
    """What is answered by then stays answered, and is charged."""
    await client.post(f"/v1/messages/batches/{quote(batch_id, safe='')}/cancel", b"{}")


async def recent(client: Claude, since: datetime) -> list[Told]:
    """Batches made since, newest first."""
    found: list[Told] = []
    after = ""
    while True:
        page = orjson.loads((await client.get(f"/v1/messages/batches?limit=100{after}")).content)
        batches = [_told(entry) for entry in page["data"]]
        found += [batch for batch in batches if batch.created_at >= since]
        if not page.get("has_more") or not batches or batches[-1].created_at < since:
            return found
        after = f"&after_id={quote(page['last_id'], safe='')}"


async def results(client: Claude, batch_id: str) -> AsyncIterator[tuple[str, Answer | CallError | None]]:
    """(custom id, what came) of an ended batch, as they stream in. None: not done, not charged (expired or cancelled).

    Raises CallError when the stream breaks: begin again.
    """
    try:
        async with client.sdk.messages.batches.with_streaming_response.results(batch_id) as response:
            async for line in response.iter_lines():
                if line.strip():
                    entry = orjson.loads(line)
                    yield str(entry["custom_id"]), _result(entry["result"])
    except APIStatusError as error:
        raise client.translated(error.response) from None
    except APIConnectionError as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise network_error(cause, client.address) from error
    except httpx2.HTTPError as error:
        raise network_error(error, client.address) from error
    except AnthropicError as error:
        raise TransportError(f"Batch {batch_id} has no results yet: {error}") from error
    except orjson.JSONDecodeError as error:
        raise TransportError(f"The results of batch {batch_id} are damaged: {error}") from error


def _result(result: dict[str, Any]) -> Answer | CallError | None:
    match result["type"]:
        case "succeeded":
            message = result["message"]
            try:
                return read_message(message, orjson.dumps(message).decode())
            except CallError as error:
                return error
        case "errored":
            return _errored(result.get("error") or {})
        case _:
            return None


def _errored(error: dict[str, Any]) -> CallError:
    inner = error.get("error", error)
    kind, said = str(inner.get("type", "")), str(inner.get("message", "no reason given"))
    raw = orjson.dumps(error).decode()
    if kind != "invalid_request_error":
        return TransportError(f"The provider failed: {said}", raw=raw)
    if "prompt is too long" in said.lower():
        return ContextOverflowError(f"The prompt is longer than the model takes: {said}", raw=raw)
    return RejectedError(f"The provider rejects the request: {said}", raw=raw)


def _told(entry: dict[str, Any]) -> Told:
    return Told(
        id=entry["id"],
        ended=entry["processing_status"] == "ended",
        total=sum(entry["request_counts"].values()),
        created_at=datetime.fromisoformat(entry["created_at"]),
    )
