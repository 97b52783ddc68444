"""The cookie side of signing in: what pages and the API share."""

import secrets

from fastapi import Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts import repository, signin
from brightrun.accounts.context import RequestContext, cookie_name, cookies_are_secure
from brightrun.accounts.tables import User
from brightrun.clock import utcnow
from brightrun.platform import Platform

ANONYMOUS_COOKIE = "brightrun_anonymous"
"""A random value for browsers that are not signed in; their form token is derived from it."""


def client_address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def signin_limits(platform: Platform, request: Request, email: str) -> dict[str, int]:
    """Attempts allowed in 15 minutes: per address and account, and, looser, per address and per account alone."""
    limit = platform.settings.login_attempts
    address, account = client_address(request), email.strip().lower()
    return {
        f"signin:{address}:{account}": limit,
        f"signin-address:{address}": limit * 10,
        f"signin-account:{account}": limit * 5,
    }


async def open_session(
    session: AsyncSession, platform: Platform, request: Request, response: Response, user: User
) -> None:
    """Sign `user` in, in this browser. The transaction must act as the user."""
    days = platform.settings.session_days
    token = await signin.start_session(
        session, user, days=days, user_agent=request.headers.get("user-agent"), address=client_address(request)
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
    return request.cookies.get(ANONYMOUS_COOKIE) or secrets.token_urlsafe(24)


def remember_anonymous(platform: Platform, response: Response, value: str) -> None:
    response.set_cookie(
        ANONYMOUS_COOKIE,
        value,
        max_age=86_400,
        httponly=True,
        secure=cookies_are_secure(platform),
        samesite="strict",
        path="/",
    )
