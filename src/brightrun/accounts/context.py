"""What a signed-in request works with: one transaction, who acts, and the check of what they may do.

    @router.post("/api/datasets", status_code=201, **needs(Permission.DATASETS_WRITE))
    async def create(ctx: Ctx, body: DatasetCreate) -> Success[DatasetData]: ...

The transaction commits when the handler returns, before the answer is sent; it rolls back when the handler raises.
"""

import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts.roles import Permission
from brightrun.accounts.signin import Principal, authenticate_session, authenticate_token, require
from brightrun.errors import ForbiddenError, UnauthenticatedError
from brightrun.platform import Platform, derive_key
from brightrun.settings import Settings
from brightrun.web.http import FAILURES

_SAFE = {"GET", "HEAD", "OPTIONS"}


@dataclass
class RequestContext:
    """One request of someone signed in."""

    request: Request
    session: AsyncSession
    principal: Principal
    platform: Platform

    @property
    def settings(self) -> Settings:
        return self.platform.settings


def platform_of(request: Request) -> Platform:
    return cast(Platform, request.app.state.platform)


def cookie_name(platform: Platform) -> str:
    """`__Host-` makes browsers insist on Secure, no Domain and Path=/; it needs https."""
    return "__Host-brightrun_session" if cookies_are_secure(platform) else "brightrun_session"


def cookies_are_secure(platform: Platform) -> bool:
    explicit = platform.settings.secure_cookies
    return platform.public_url.startswith("https://") if explicit is None else explicit


def csrf_token(platform: Platform, subject: str) -> str:
    """The form token of a browser session, or of a browser that is not signed in yet."""
    key = derive_key(platform.secret, "csrf")
    return hmac.new(key, subject.encode(), hashlib.sha256).hexdigest()


def same_secret(given: str, expected: str) -> bool:
    """In constant time. As bytes: hmac refuses to compare text beyond ASCII, and strangers send it."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())


async def check_csrf(request: Request, platform: Platform, subject: str) -> None:
    """Raises ForbiddenError unless the request carries the session's token, as a header or as a form field."""
    given: Any = request.headers.get("X-CSRF-Token")
    kind = request.headers.get("content-type", "")
    if given is None and kind.startswith(("application/x-www-form-urlencoded", "multipart/form-data")):
        given = (await request.form()).get("csrf_token")
    if not isinstance(given, str) or not same_secret(given, csrf_token(platform, subject)):
        raise ForbiddenError("This form is out of date: reload the page and send it again", code="csrf")


async def authenticate(request: Request, session: AsyncSession, platform: Platform) -> Principal:
    """Who sends this request: a bearer token, else the session cookie (with its CSRF token, for a write)."""
    authorization = request.headers.get("authorization")
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise UnauthenticatedError("Send the API token as `Authorization: Bearer <token>`", code="token_invalid")
        return await authenticate_token(session, token.strip())
    cookie = request.cookies.get(cookie_name(platform))
    if cookie is None:
        raise UnauthenticatedError("Sign in, or send an API token as `Authorization: Bearer <token>`")
    principal = await authenticate_session(session, cookie)
    if request.method not in _SAFE:
        await check_csrf(request, platform, str(principal.session_id))
    return principal


async def request_context(request: Request) -> AsyncIterator[RequestContext]:
    platform = platform_of(request)
    async with platform.db.transaction() as session:
        principal = await authenticate(request, session, platform)
        yield RequestContext(request, session, principal, platform)


Ctx = Annotated[RequestContext, Depends(request_context, scope="function")]


def needs(permission: Permission) -> dict[str, Any]:
    """Keyword arguments of a route: who may call it. Also written into the OpenAPI document as `x-permission`."""

    async def check(ctx: Ctx) -> None:
        require(ctx.principal, permission)

    return {
        "dependencies": [Depends(check, scope="function")],
        "openapi_extra": {"x-permission": permission.value, "security": [{"bearer": []}, {"session": []}]},
        "responses": FAILURES,
    }


async def page_context(ctx: Ctx) -> RequestContext:
    """As `Ctx`, for HTML routes: also fills what the layout shows (`request.state.page`).

    Forms belong to browsers: some do what an API token may not, such as setting a password.
    """
    if ctx.principal.token_id is not None and ctx.request.method not in _SAFE:
        raise ForbiddenError("An API token is for the routes under /api; forms are for browsers", code="token_page")
    build = cast(Callable[[RequestContext], Awaitable[Any]], ctx.request.app.state.build_page)
    ctx.request.state.page = await build(ctx)
    return ctx


PageCtx = Annotated[RequestContext, Depends(page_context, scope="function")]


def page_needs(permission: Permission) -> dict[str, Any]:
    """As `needs`, for HTML routes."""

    async def check(ctx: PageCtx) -> None:
        require(ctx.principal, permission)

    return {"dependencies": [Depends(check, scope="function")], "include_in_schema": False}
