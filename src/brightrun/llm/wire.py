"""What both providers' clients share: connections, limits told in headers, and errors by class."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx2
import orjson

from brightrun.clock import utcnow
from brightrun.llm.calls import (
    Bucket,
    CallError,
    ConnectionBroken,
    ContextOverflowError,
    Limits,
    ProviderUnusable,
    RejectedError,
    Throttled,
    TransportError,
)

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?$")
_TOO_LONG = (
    "prompt is too long",
    "maximum context length",
    "context_length_exceeded",
    "context window",
    "context size",
)
_NO_CREDIT = ("credit balance", "billing", "insufficient_quota")


def connections(most: int) -> httpx2.Limits:
    """Every connection is kept: a handshake for each request would cost more than the request."""
    return httpx2.Limits(max_connections=most, max_keepalive_connections=most, keepalive_expiry=60.0)


def seconds_left(text: str | None) -> float | None:
    """A moment (RFC 3339) or a duration (`6m0s`, `120ms`, `12`) as seconds from now; None for neither."""
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    if (found := _DURATION.match(text)) and any(found.groups()):
        hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
        return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return max(0.0, (moment - utcnow()).total_seconds()) if moment.tzinfo is not None else None


def _whole(text: str | None) -> int | None:
    try:
        return int(float(text)) if text is not None else None
    except ValueError:
        return None


def bucket(headers: Mapping[str, str], limit: str, remaining: str, reset: str) -> Bucket | None:
    found = Bucket(_whole(headers.get(limit)), _whole(headers.get(remaining)), seconds_left(headers.get(reset)))
    return None if found.limit is None and found.remaining is None else found


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds. `retry-after-ms` is finer; a date is accepted, as HTTP allows it."""
    if (milliseconds := _whole(headers.get("retry-after-ms"))) is not None:
        return max(0.0, milliseconds / 1000)
    text = headers.get("retry-after")
    if text is None or (left := seconds_left(text)) is not None:
        return left if text is not None else None
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, (parsedate_to_datetime(text) - utcnow()).total_seconds())
    except (ValueError, TypeError):
        return None


def network_error(error: Exception, address: str) -> CallError:
    """A failure without an answer. Before a connection stood, nothing can have been charged."""
    said = str(error) or type(error).__name__
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout | httpx2.UnsupportedProtocol):
        return TransportError(f"{address} cannot be reached: {said}")
    return ConnectionBroken(f"The connection to {address} broke before an answer was whole: {said}")


def status_error(response: httpx2.Response, limits: Limits | None, *, key_hint: str) -> CallError:
    """The error of an answer that is none, by its status; key_hint: where to put a key that works."""
    status, request_id = (
        response.status_code,
        response.headers.get("request-id") or response.headers.get("x-request-id"),
    )
    raw = response.text
    said = _said(raw) or f"HTTP {status}"
    more: dict[str, Any] = {"http_status": status, "request_id": request_id, "raw": raw, "limits": limits}
    low = said.lower() + " " + raw[:2000].lower()
    if status == 413 or (status == 400 and any(words in low for words in _TOO_LONG)):
        return ContextOverflowError(f"The prompt is longer than the model takes: {said}", **more)
    if status == 402 or (status in (400, 403, 429) and any(words in low for words in _NO_CREDIT)):
        return ProviderUnusable(f"The provider wants to be paid first: {said}", **more)
    if status in (429, 529):
        return Throttled(f"The provider asks to wait: {said}", retry_after_s=retry_after(response.headers), **more)
    if status == 401:
        return ProviderUnusable(f"The provider does not accept the key ({said}). {key_hint}", **more)
    if status == 403:
        return ProviderUnusable(f"The key may not do this: {said}. {key_hint}", **more)
    if status == 404:
        return ProviderUnusable(f"The provider does not know the model or the address: {said}", **more)
    if status in (408, 409) or status >= 500:
        return TransportError(f"The provider failed with HTTP {status}: {said}", **more)
    return RejectedError(f"The provider rejects the request: {said}", **more)


def _said(raw: str) -> str | None:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw.strip()[:300] or None
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        error = error.get("message")
    elif error is None and isinstance(body, dict):
        error = body.get("message")
    return error[:1000] if isinstance(error, str) else None


def broken_answer(raw: str, what: str, request_id: str | None, limits: Limits | None) -> CallError:
    """200, but not what an answer looks like. It was charged, and its tokens are unknown."""
    return ConnectionBroken(
        f"The answer is damaged: {what}", http_status=200, raw=raw, request_id=request_id, limits=limits
    )


SCHEMA_WORDS = (
    "\n\nAnswer with one JSON object alone: no words before or after it, no code fence. It obeys this JSON schema:\n"
)


def without_fence(text: str) -> str:
    """JSON out of the fence or the words that models without structured outputs put around it; else the text."""
    stripped = text.strip()
    start, end = stripped.find("{"), stripped.rfind("}")
    if stripped.startswith(("{", "[")) or start < 0 or end < start:
        return stripped
    inner = stripped[start : end + 1]
    try:
        orjson.loads(inner)
    except orjson.JSONDecodeError:
        return stripped
    return inner
