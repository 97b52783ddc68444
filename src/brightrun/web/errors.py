"""The one place where an exception becomes an answer: JSON under /api and /storage, a page elsewhere."""

import errno
from typing import Any
from urllib.parse import quote

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Match

from brightrun.errors import (
    BrightRunError,
    InvalidInputError,
    NotFoundError,
    RateLimitedError,
    StorageFullError,
    UnauthenticatedError,
    UnavailableError,
)
from brightrun.logs import get_logger
from brightrun.web import views

log = get_logger(__name__)

_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_media_type"}
_UNREADABLE_BODY = "There was an error parsing the body"  # FastAPI's words for bytes that are no JSON at all
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


def wants_json(request: Request) -> bool:
    """Programs get JSON: the API, signed storage URLs, probes. Everything else is a page."""
    return request.url.path.startswith(("/api", "/storage", "/healthz", "/readyz", "/metrics"))


def field_messages(error: RequestValidationError) -> dict[str, list[str]]:
    """field → messages; the field is the dotted path inside the body, or the parameter's name."""
    details: dict[str, list[str]] = {}
    for fault in error.errors():
        location = [str(part) for part in fault["loc"]]
        if location and location[0] in {"body", "query", "path", "header", "cookie"}:
            location = location[1:]
        # A JSON syntax fault has only an offset for a location.
        field = "body" if not location or fault["type"] == "json_invalid" else ".".join(location)
        details.setdefault(field, []).append(fault["msg"].removeprefix("Value error, "))
    return details


def as_expected(error: Exception) -> BrightRunError | None:
    """The expected failure behind an exception of a library, if there is one."""
    if isinstance(error, BrightRunError):
        return error
    if isinstance(error, ClientDisconnect):
        # A page asks anew with every letter typed, and gives the question before up: nobody reads this answer.
        return InvalidInputError("The sender went away before the request was complete", code="disconnected")
    if isinstance(error, RequestValidationError):
        if any(fault["loc"][:1] == ("path",) for fault in error.errors()):
            # What is no id at all names nothing, as an unknown id does.
            return NotFoundError("There is nothing at this address: a part of it is not an id of ours")
        details = field_messages(error)
        first_field, messages = next(iter(details.items()), ("body", ["not valid"]))
        return InvalidInputError(f"{first_field}: {messages[0]}", code="validation_error", details=details)
    if isinstance(error, HTTPException):
        if error.detail == _UNREADABLE_BODY:
            problem = "cannot be read: it is not text in UTF-8, or nested too deeply"
            return InvalidInputError(f"body: {problem}", code="validation_error", details={"body": [problem]})
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "another method")
            return BrightRunError(f"This address answers only {allowed}", code="method_not_allowed", status=405)
        code = _HTTP_CODES.get(error.status_code, "http_error")
        message = "There is nothing at this address" if error.status_code == 404 else str(error.detail)
        return BrightRunError(message, code=code, status=error.status_code)
    if isinstance(error, DBAPIError):
        cause = error.orig
        if isinstance(cause, psycopg.errors.DiskFull):
            return StorageFullError("The database's disk is full: free some space, then try again")
        # Said by PostgreSQL for JSON, and by psycopg for plain text.
        if isinstance(cause, psycopg.DataError) and ("\\u0000" in str(cause) or "NUL" in str(cause)):
            return InvalidInputError("The text holds a NUL character, which cannot be stored")
        if error.connection_invalidated or isinstance(cause, psycopg.OperationalError):
            return UnavailableError("The database does not answer; try again in a moment")
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return StorageFullError("The disk is full: free some space, then try again")
    return None


def _body(error: BrightRunError) -> dict[str, Any]:
    body: dict[str, Any] = {"error": error.message, "code": error.code}
    if error.details is not None:
        body["details"] = error.details
    return body


def _with_every_method(request: Request, raised: HTTPException) -> HTTPException:
    """The router names the methods of the first route that it found; an address may have several."""
    allowed = [
        method
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]
    return HTTPException(405, headers={"Allow": ", ".join(allowed)}) if allowed else raised


async def answer(request: Request, raised: Exception) -> Response:
    """The answer to any exception that reaches the top of a request."""
    if isinstance(raised, HTTPException) and raised.status_code == 405:
        raised = _with_every_method(request, raised)
    error = as_expected(raised)
    request_id = getattr(request.state, "request_id", None)
    if error is None:
        log.error("unexpected error", path=request.url.path, request_id=request_id, exc_info=raised)
        error = BrightRunError(
            f"Something went wrong on our side. The log has the details under request id {request_id}"
        )
    elif error.status >= 500:
        # A full disk or quota is no fault of the program: its message says all; others show where they come from.
        trace = None if isinstance(raised, StorageFullError) else raised
        log.error("request failed", path=request.url.path, code=error.code, error=error.message, exc_info=trace)
    headers: dict[str, str] = {}
    if isinstance(error, RateLimitedError):
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(raised, HTTPException) and raised.headers:
        headers |= raised.headers
    if wants_json(request):
        if isinstance(error, UnauthenticatedError):
            headers["WWW-Authenticate"] = 'Bearer realm="brightrun"'
        return JSONResponse(_body(error), status_code=error.status, headers=headers)
    if isinstance(error, UnauthenticatedError):
        # Only a page that can be looked at again: what a form was sent to answers no GET.
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        if request.method not in {"GET", "HEAD"}:
            target = "/"
        if request.headers.get("HX-Request"):
            return Response(status_code=200, headers={"HX-Redirect": "/signin"})
        return RedirectResponse(f"/signin?next={quote(target)}" if target != "/" else "/signin", status_code=303)
    title = "Not found" if isinstance(error, NotFoundError) or error.status == 404 else "That did not work"
    response = views.render(
        request,
        "errors/error.html",
        status=error.status,
        title=title,
        message=error.message,
        details=error.details,
        request_id=request_id,
    )
    response.headers.update(headers)
    return response


def install(app: FastAPI) -> None:
    for kind in (BrightRunError, RequestValidationError, HTTPException, DBAPIError, OSError):
        app.add_exception_handler(kind, answer)
