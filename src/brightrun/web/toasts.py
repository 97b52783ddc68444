"""One-time messages: in a header for htmx, in a short-lived signed cookie across a redirect, and never in a URL.

The cookie is signed because a page shows what it says; it lives a minute, and the page that shows it removes it.
"""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from brightrun.errors import ConfigurationError

COOKIE = "brightrun_toast"
LIFE_S = 60
_MAX_TEXT = 600  # a browser keeps 4 KB of a cookie

Category = Literal["success", "error", "info", "warning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Toast:
    """title: one line. undo_url: what its Undo button POSTs to (path only, with the page's CSRF token)."""

    title: str
    description: str = ""
    category: Category = "success"
    undo_url: str | None = None
    link_url: str | None = None
    link_label: str = "Open"

    @property
    def duration_ms(self) -> int:
        """Long enough to read, and to change one's mind: an error stays until it is closed."""
        if self.category == "error":
            return -1
        return 12_000 if self.undo_url else 6_000


def toast_redirect(request: Request, url: str, toast: Toast) -> Response:
    """Go to `url` (a path of ours) and say it there: 303 for a form, HX-Redirect for htmx."""
    response: Response = (
        Response(status_code=200, headers={"HX-Redirect": url})
        if request.headers.get("HX-Request")
        else RedirectResponse(url, status_code=303)
    )
    keep_toast(request, response, toast)
    return response


def toast_now(response: Response, toast: Toast) -> Response:
    """Say it on the page that is open: for an answer to htmx or to our own scripts."""
    # On the body: the element that asked may be gone from the page by the time htmx fires the event.
    payload = {"brightrun:toast": {**asdict(toast), "duration": toast.duration_ms, "target": "body"}}
    response.headers["HX-Trigger"] = json.dumps(payload, ensure_ascii=True)
    return response


def keep_toast(request: Request, response: Response, toast: Toast) -> None:
    """Put the message into the cookie that the next page shows."""
    fields = {**asdict(toast), "title": toast.title[:_MAX_TEXT], "description": toast.description[:_MAX_TEXT]}
    body = json.dumps({"toast": fields, "until": int(time.time()) + LIFE_S}, ensure_ascii=True).encode()
    value = f"{_encode(body)}.{_encode(_sign(_key(request), body))}"
    response.set_cookie(
        COOKIE, value, max_age=LIFE_S, httponly=True, samesite="lax", secure=request.url.scheme == "https", path="/"
    )


def take_toast(request: Request) -> Toast | None:
    """The message that waits in the cookie, if it is ours and in time. The caller removes the cookie."""
    value = request.cookies.get(COOKIE)
    if not value:
        return None
    try:
        body, signature = (_decode(part) for part in value.split("."))
    except (ValueError, binascii.Error):
        return None
    if not hmac.compare_digest(signature, _sign(_key(request), body)):
        return None
    content: Mapping[str, Any] = json.loads(body)
    return Toast(**content["toast"]) if content["until"] >= time.time() else None


def _key(request: Request) -> bytes:
    key = getattr(request.app.state, "signing_key", None)
    if not isinstance(key, bytes):
        raise ConfigurationError("app.state.signing_key is not set: the server sets it (bytes) before it serves pages")
    return key


def _sign(key: bytes, body: bytes) -> bytes:
    return hmac.new(key, b"toast\0" + body, hashlib.sha256).digest()


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
