"""Webhooks: who may make them, how a call is signed, and one call.

A call is `POST` with JSON and these headers; `v1` is the hexadecimal HMAC-SHA256 of `<t>.<body>` with the secret:

    BrightRun-Event: job_completed          BrightRun-Delivery: <id, the same at every attempt>
    BrightRun-Signature: t=<seconds since 1970>,v1=<signature>
"""

import hashlib
import hmac
import ssl
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx2
import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.audit import service as audit
from brightrun.errors import ConflictError, NotFoundError
from brightrun.ids import uuid7
from brightrun.notifications import repository
from brightrun.notifications.tables import Notification, Webhook
from brightrun.notifications.targets import TargetError, find_target
from brightrun.platform import Platform, derive_key
from brightrun.settings import Settings

MOST_WEBHOOKS = 20
TIMEOUT_S = 30.0
_CONNECT_S = 10.0
_MOST_ERROR = 300


def secret_of(platform: Platform, webhook: Webhook) -> str:
    """The signing secret. Derived, so that no copy of the database holds it."""
    key = derive_key(platform.secret, f"webhook:{webhook.id}:{webhook.secret_version}")
    return "whsec_" + key.hex()


def sign(secret: str, body: bytes, now: int) -> str:
    """The value of `BrightRun-Signature`."""
    signature = hmac.new(secret.encode(), b"%d." % now + body, hashlib.sha256).hexdigest()
    return f"t={now},v1={signature}"


def body_of(platform: Platform, workspace_id: UUID, notification: Notification | None) -> dict[str, Any]:
    """What is sent; of the test that someone asked for where there is no notification."""
    if notification is None:
        return {
            "type": "test",
            "title": "A test of your webhook",
            "message": "Somebody pressed the test button. Check the signature, and answer with any 2xx status.",
            "workspace_id": str(workspace_id),
        }
    action = notification.action_url
    return {
        "id": str(notification.id),
        "type": notification.type,
        "priority": notification.priority,
        "title": notification.title,
        "message": notification.message,
        "url": platform.public_url + action if action else None,
        "workspace_id": str(workspace_id),
        "metadata": notification.details,
        "created_at": notification.created_at.isoformat(),
    }


@dataclass(frozen=True)
class Answer:
    """How one call ended. status: None without an answer. error: None when it was taken. again: may be tried again."""

    status: int | None
    error: str | None
    again: bool = False


async def call(
    url: str, settings: Settings, *, secret: str, event: str, delivery_id: UUID, body: dict[str, Any]
) -> Answer:
    """One call. Every fault of the other side, or of the way there, is in the answer; redirects are not followed."""
    raw = orjson.dumps(body)
    try:
        target = await find_target(url, settings)
    except TargetError as error:
        return Answer(None, error.message)
    except OSError as error:
        return Answer(None, f"The host cannot be found: {error.strerror or error}", again=True)
    headers = {
        "Host": target.authority,
        "Content-Type": "application/json",
        "User-Agent": "BrightRun",
        "BrightRun-Event": event,
        "BrightRun-Delivery": str(delivery_id),
        "BrightRun-Signature": sign(secret, raw, int(time.time())),
    }
    timeout = httpx2.Timeout(TIMEOUT_S, connect=_CONNECT_S)
    try:
        # trust_env off: a proxy would look the name up again, past the check above.
        async with httpx2.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=False) as client:
            request = client.build_request(
                "POST", target.url, content=raw, headers=headers, extensions={"sni_hostname": target.host}
            )
            answer = await client.send(request, stream=True)
            try:
                said = await _beginning(answer)
            finally:
                await answer.aclose()
    except httpx2.TimeoutException:
        return Answer(None, f"No answer within {TIMEOUT_S:.0f} s", again=True)
    except (httpx2.HTTPError, ssl.SSLError, OSError) as error:
        return Answer(None, f"The call failed: {error or type(error).__name__}"[:_MOST_ERROR], again=True)
    status = answer.status_code
    if answer.is_success:
        return Answer(status, None)
    if answer.is_redirect:
        return Answer(status, f"It answered {status}: redirects are not followed; give the URL it points to")
    again = status >= 500 or status in (408, 425, 429)
    return Answer(status, f"It answered {status}: {said}"[:_MOST_ERROR] if said else f"It answered {status}", again)


async def _beginning(answer: httpx2.Response) -> str:
    """The first words of an answer, whatever its length."""
    said = b""
    async for piece in answer.aiter_bytes(_MOST_ERROR):
        said += piece
        if len(said) >= _MOST_ERROR:
            break
    return " ".join(said[:_MOST_ERROR].decode("utf-8", "replace").split()).replace("\x00", "")


# --- rows -----------------------------------------------------------------------------------------------------------


async def create(session: AsyncSession, settings: Settings, *, url: str, types: list[str]) -> Webhook:
    """Raises TargetError for a URL that may not be called, ConflictError for one webhook too many."""
    await _check(url, settings)
    if await repository.count_webhooks(session) >= MOST_WEBHOOKS:
        raise ConflictError(
            f"A workspace has at most {MOST_WEBHOOKS} webhooks; delete one first", code="too_many_webhooks"
        )
    webhook = Webhook(
        id=uuid7(),
        workspace_id=session.info["workspace_id"],
        url=url,
        types=types,
        created_by=session.info.get("user_id"),
    )
    session.add(webhook)
    await session.flush()
    await session.refresh(webhook)
    await audit.record(session, "webhook.created", "webhook", webhook.id, {"url": url, "types": types})
    return webhook


async def get(session: AsyncSession, webhook_id: UUID) -> Webhook:
    webhook = await repository.get_webhook(session, webhook_id)
    if webhook is None:
        raise NotFoundError(f"There is no webhook {webhook_id}")
    return webhook


async def change(
    session: AsyncSession,
    settings: Settings,
    webhook_id: UUID,
    *,
    url: str | None = None,
    types: list[str] | None = None,
    active: bool | None = None,
) -> Webhook:
    """What is None stays. Activating one forgets its failures."""
    webhook = await get(session, webhook_id)
    changed: dict[str, Any] = {}
    if url is not None and url != webhook.url:
        await _check(url, settings)
        webhook.url = changed["url"] = url
    if types is not None and types != webhook.types:
        webhook.types = changed["types"] = types
    if active is not None and active != (webhook.inactive_reason is None):
        webhook.inactive_reason, webhook.failures = (
            (None, 0) if active else ("Switched off by a member", webhook.failures)
        )
        changed["active"] = active
    if changed:
        await session.flush()
        await session.refresh(webhook)
        await audit.record(session, "webhook.changed", "webhook", webhook.id, changed)
    return webhook


async def rotate_secret(session: AsyncSession, webhook_id: UUID) -> Webhook:
    """From now on calls are signed with a new secret."""
    webhook = await get(session, webhook_id)
    webhook.secret_version += 1
    await session.flush()
    await session.refresh(webhook)
    await audit.record(session, "webhook.secret_rotated", "webhook", webhook.id)
    return webhook


async def delete(session: AsyncSession, webhook_id: UUID) -> None:
    webhook = await get(session, webhook_id)
    await audit.record(session, "webhook.deleted", "webhook", webhook.id, {"url": webhook.url})
    await session.delete(webhook)
    await session.flush()


async def _check(url: str, settings: Settings) -> None:
    try:
        await find_target(url, settings)
    except OSError as error:
        raise TargetError(f"The host of this URL cannot be found: {error.strerror or error}") from None
