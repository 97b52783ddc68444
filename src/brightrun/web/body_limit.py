"""How large a body may be: forms and JSON are small; files go through signed URLs, which carry a limit of their own."""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

MAX_BODY_BYTES = 1024 * 1024
_DRAIN_BYTES = 8 * MAX_BODY_BYTES
_OWN_LIMITS = ("/storage/",)


def _too_large() -> HTTPException:
    # The one exception that FastAPI lets through from under its body parser.
    return HTTPException(
        413, f"A request's body may have at most {MAX_BODY_BYTES:,} bytes; files go to their upload URL"
    )


def limited(scope: Scope, receive: Receive) -> Receive:
    """`receive`, raising HTTPException 413 once the body passes the limit, however it was announced."""
    if scope["path"].startswith(_OWN_LIMITS):
        return receive
    received = 0

    async def counting() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise _too_large()
        return message

    return counting


def refuse_announced(scope: Scope, headers: Headers) -> None:
    """Raise HTTPException 413 for a Content-Length over the limit, before anything is read."""
    announced = headers.get("content-length", "")
    # The server has refused what is no number; a long one is cut so that no digits are parsed for nothing.
    if not scope["path"].startswith(_OWN_LIMITS) and int(announced[:20] or 0) > MAX_BODY_BYTES:
        raise _too_large()


async def drain(receive: Receive) -> None:
    """Read and throw away what little is left of a refused body: the client then reads the answer, not a reset."""
    left = _DRAIN_BYTES
    while left > 0:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            return
        left -= len(message.get("body", b""))
