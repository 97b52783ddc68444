"""What wraps every request: an id, safe headers, a check of where a write came from, one log line."""

import re
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

import structlog
from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from brightrun.ids import uuid7
from brightrun.logs import get_logger
from brightrun.web import body_limit, errors

log = get_logger("brightrun.http")

REQUESTS = Counter("brightrun_http_requests_total", "HTTP requests", ["method", "route", "status"])
DURATION = Histogram(
    "brightrun_http_request_seconds",
    "Time until the answer was complete, seconds",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5, 10, 60),
)
_SAFE = {"GET", "HEAD", "OPTIONS"}
_METHODS = _SAFE | {"POST", "PUT", "PATCH", "DELETE"}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_QUIET = ("/static/", "/healthz", "/readyz", "/metrics")


def content_security_policy(connect_origins: Iterable[str]) -> str:
    """Own origin only, nothing inline; `connect_origins` are the object storage's, when they are others."""
    sources = " ".join(["'self'", *connect_origins])
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        f"connect-src {sources}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; manifest-src 'self'"
    )


class RequestEnvelope:
    """Pure ASGI middleware, so that streams stay streams."""

    def __init__(self, app: ASGIApp, *, connect_origins: Iterable[str], https: bool) -> None:
        self.app = app
        self.policy = content_security_policy(connect_origins)
        self.https = https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else str(uuid7())
        scope.setdefault("state", {})["request_id"] = request_id
        started, status = time.perf_counter(), 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._add_headers(MutableHeaders(scope=message), request_id, scope["path"])
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                if foreign_write(scope, headers):
                    refusal = JSONResponse(
                        {"error": "This request came from another site and was refused", "code": "cross_site"},
                        status_code=403,
                    )
                    await refusal(scope, receive, send_with_headers)
                else:
                    await self._guarded(scope, receive, send_with_headers)
            finally:
                self._log(scope, status, time.perf_counter() - started)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Turns what nobody caught into our error shape, here, where the security headers are still added."""
        begun = False

        async def watch(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            body_limit.refuse_announced(scope, Headers(scope=scope))
            await self.app(scope, body_limit.limited(scope, receive), watch)
        except Exception as error:
            if begun:
                raise  # Half an answer is out: only the connection can say that it failed.
            if isinstance(error, HTTPException) and error.status_code == 413:
                await body_limit.drain(receive)
            response = await errors.answer(Request(scope, receive), error)
            await response(scope, receive, send)

    def _add_headers(self, headers: MutableHeaders, request_id: str, path: str) -> None:
        headers["X-Request-ID"] = request_id
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "same-origin"
        headers["Permissions-Policy"] = "camera=(), microphone=(), geolocation=(), payment=()"
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
        headers["X-Frame-Options"] = "DENY"
        headers.setdefault("Content-Security-Policy", self.policy)
        if self.https:
            headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
        if not path.startswith("/static/"):
            headers.setdefault("Cache-Control", "no-store")

    def _log(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or ("/static" if "/static/" in scope["path"] else "other")
        # A label for each word that a stranger invents would be a leak of memory.
        method = scope["method"] if scope["method"] in _METHODS else "other"
        REQUESTS.labels(method, route, status).inc()
        DURATION.labels(route).observe(seconds)
        if not scope["path"].startswith(_QUIET):
            # The path only: a query may hold a signature.
            log.info("request", method=scope["method"], path=scope["path"], status=status, ms=round(seconds * 1000, 1))


def foreign_write(scope: Scope, headers: Headers) -> bool:
    """Is this a write that a browser sends for another site? Bearer tokens and signed URLs prove themselves."""
    if scope["method"] in _SAFE or "authorization" in headers or scope["path"].startswith("/storage/"):
        return False
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in {"same-origin", "none"}
    origin = headers.get("origin")
    if origin is None:
        return False  # Not a browser; a session cookie alone still needs its CSRF token.
    return urlsplit(origin).netloc != headers.get("host")
