"""The cookie side of signing in: what pages and the API share."""

import asyncio
import secrets
from uuid import UUID

from fastapi import Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts import repository, signin
from brightrun.accounts.context import RequestContext, cookie_name, cookies_are_secure, platform_of
from brightrun.accounts.tables import User
from brightrun.accounts.tokens import token_hash
from brightrun.clock import utcnow
from brightrun.logs import get_logger
from brightrun.platform import Platform

log = get_logger(__name__)


def _anonymous_cookie(platform: Platform) -> str:
    """A random value for browsers that are not signed in; their form token is derived from it.

    `__Host-`: a sibling of our domain cannot plant one that it knows.
    """
    return "__Host-brightrun_anonymous" if cookies_are_secure(platform) else "brightrun_anonymous"


def client_address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def signin_limits(platform: Platform, request: Request, email: str) -> dict[str, int]:
    """Failures allowed in 15 minutes: per address and account, and, looser, per address and per account alone."""
    limit = platform.settings.login_attempts
    address, account = client_address(request), email.strip().lower()
    return {
        f"signin:{address}:{account}": limit,
        f"signin-address:{address}": limit * 10,
        f"signin-account:{account}": limit * 5,
    }


def link_limits(platform: Platform, request: Request, token: str) -> dict[str, int]:
    """Attempts allowed in 15 minutes with links: per address, and per link, whose account has a password to guess."""
    limit = platform.settings.login_attempts
    return {f"link:{client_address(request)}": limit * 5, f"link-token:{token_hash(token).hex()}": limit}


async def open_session(
    session: AsyncSession,
    platform: Platform,
    request: Request,
    response: Response,
    user: User,
    *,
    by: str,
    workspace_id: UUID | None = None,
) -> UUID:
    """Sign `user` in, in this browser; the session's id. The transaction must act as the user. by: what proved it."""
    days = platform.settings.session_days
    row, token = await signin.start_session(
        session,
        user,
        days=days,
        user_agent=request.headers.get("user-agent"),
        address=client_address(request),
        by=by,
        workspace_id=workspace_id,
    )
    response.set_cookie(
        cookie_name(platform),
        token,
        max_age=days * 86_400,
        httponly=True,
        secure=cookies_are_secure(platform),
        samesite="lax",
        path="/",
    )
    return row.id


_noting: set[asyncio.Task[None]] = set()


def note_failed_signin(platform: Platform, request: Request, email: str) -> None:
    """Into the audit log, beside the answer: what it takes would tell whether there is such an account."""

    async def note() -> None:
        async with platform.db.transaction() as session:
            await signin.note_failed_signin(session, email, client_address(request))

    task = asyncio.get_running_loop().create_task(note())
    _noting.add(task)
    task.add_done_callback(_noted)


def _noted(task: asyncio.Task[None]) -> None:
    _noting.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a failed sign-in is not in the audit log", exc_info=error)


async def leave(ctx: RequestContext, response: Response) -> None:
    """End this browser's session."""
    if ctx.principal.session_id is not None:
        row = await repository.get_auth_session(ctx.session, ctx.principal.session_id)
        if row is not None:
            row.revoked_at = utcnow()
            await ctx.session.flush()
    response.delete_cookie(cookie_name(ctx.platform), path="/", secure=cookies_are_secure(ctx.platform))


def anonymous_id(request: Request) -> str:
    """This browser's random value, made when it has none; `remember_anonymous` sends it back."""
    return request.cookies.get(_anonymous_cookie(platform_of(request))) or secrets.token_urlsafe(24)


def remember_anonymous(platform: Platform, response: Response, value: str) -> None:
    response.set_cookie(
        _anonymous_cookie(platform),
        value,
        max_age=86_400,
        httponly=True,
        secure=cookies_are_secure(platform),
        samesite="strict",
        path="/",
    )
