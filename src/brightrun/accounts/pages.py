"""Pages for signing in and out, one-time links, invitations and passwords."""

import contextlib
from typing import Annotated, Any
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.background import BackgroundTask

from brightrun.accounts import mail, repository, service, signin
from brightrun.accounts.browser import (
    anonymous_id,
    client_address,
    leave,
    link_limits,
    note_failed_signin,
    open_session,
    remember_anonymous,
    signin_limits,
)
from brightrun.accounts.context import Ctx, check_csrf, cookie_name, csrf_token, platform_of
from brightrun.accounts.rate_limits import give_back, hit
from brightrun.accounts.tables import LinkPurpose, User
from brightrun.errors import BrightRunError, NotFoundError, RateLimitedError, UnavailableError
from brightrun.platform import Platform
from brightrun.web import views

router = APIRouter(include_in_schema=False)

Field = Annotated[str, Form(max_length=1024)]


def local_path(target: str) -> str:
    """Where to go next, on this site only: `//other.site` and `https://…` become `/`."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc or not target.startswith("/") or target.startswith(("//", "/\\")):
        return "/"
    return target


def _form(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """A signed-out page with a form; the browser gets the random value that its form token is derived from."""
    platform = platform_of(request)
    anonymous = anonymous_id(request)
    response = views.render(
        request,
        f"accounts/{template}.html",
        status=status,
        csrf_token=csrf_token(platform, anonymous),
        errors=values.pop("errors", {}),
        signup_enabled=platform.settings.signup_enabled,
        oidc_label=platform.settings.oidc_label if platform.settings.oidc_issuer else None,
        **values,
    )
    remember_anonymous(platform, response, anonymous)
    return response


def _messages(error: BrightRunError) -> dict[str, list[str]]:
    """What went wrong, by field; the empty name is for the form as a whole."""
    if isinstance(error.details, dict):
        return {str(field): [f"This {message}" for message in messages] for field, messages in error.details.items()}
    return {"": [error.message]}


async def _signed_in(
    request: Request, user: User, session: AsyncSession, target: str, *, by: str, workspace_id: UUID | None = None
) -> Response:
    response = RedirectResponse(local_path(target), status_code=303)
    await open_session(session, platform_of(request), request, response, user, by=by, workspace_id=workspace_id)
    return response


@router.get("/signin")
async def signin_page(request: Request, next: str = "/") -> Response:  # noqa: A002
    if cookie_name(platform_of(request)) in request.cookies and request.query_params.get("next") is None:
        return RedirectResponse("/", status_code=303) if await _current_user(request) else signin_form(request, "/")
    return signin_form(request, next)


def signin_form(request: Request, target: str, **values: Any) -> Response:
    values.setdefault("email", "")
    return _form(request, "signin", next=local_path(target), **values)


@router.post("/signin")
async def sign_in(request: Request, email: Field, password: Field, next: Field = "/") -> Response:  # noqa: A002
    platform = platform_of(request)
    try:
        await check_csrf(request, platform, anonymous_id(request))
        limits = signin_limits(platform, request, email)
        await hit(platform.db, limits)
        async with platform.db.transaction() as session:
            user = await signin.check_password(session, email, password)
            response = await _signed_in(request, user, session, next, by="password")
        await give_back(platform.db, limits)
        return response
    except BrightRunError as error:
        if error.code == "bad_credentials":
            note_failed_signin(platform, request, email)
        response = signin_form(request, next, status=error.status, email=email, errors=_messages(error))
        if isinstance(error, RateLimitedError):
            response.headers["Retry-After"] = str(error.retry_after_s)
        return response


@router.post("/signout")
async def sign_out(ctx: Ctx) -> Response:
    response = RedirectResponse("/signin", status_code=303)
    await leave(ctx, response)
    return response


@router.get("/signin-link/{token}")
async def signin_link_page(request: Request, token: str) -> Response:
    """A page with one button: programs that preview links must not use the link up."""
    return _form(request, "signin_link", token=token)


@router.post("/signin-link/{token}")
async def use_signin_link(request: Request, token: str) -> Response:
    platform = platform_of(request)
    try:
        await check_csrf(request, platform, anonymous_id(request))
        await hit(platform.db, link_limits(platform, request, token))
        async with platform.db.transaction() as session:
            user = await signin.use_link(session, token, LinkPurpose.SIGN_IN)
            return await _signed_in(request, user, session, "/", by="one-time link")
    except BrightRunError as error:
        return signin_form(request, "/", status=error.status, errors=_messages(error))


@router.get("/signup")
async def signup_page(request: Request) -> Response:
    _require_signup(request)
    return _form(request, "signup", email="", name="", workspace_name="")


def _require_signup(request: Request) -> None:
    if not platform_of(request).settings.signup_enabled:
        raise NotFoundError("Sign-up is switched off here: ask for an invitation")


@router.post("/signup")
async def sign_up(
    request: Request, email: Field, password: Field, name: Field = "", workspace_name: Field = ""
) -> Response:
    _require_signup(request)
    platform = platform_of(request)
    try:
        await check_csrf(request, platform, anonymous_id(request))
        await hit(platform.db, {f"signup:{client_address(request)}": platform.settings.login_attempts})
        async with platform.db.transaction() as session:
            user = await signin.create_user(session, email=email, name=name[:200], password=password)
            title = workspace_name.strip()[:200] or f"{user.name}'s workspace"
            await signin.create_workspace(session, user.id, title)
            return await _signed_in(request, user, session, "/", by="sign-up")
    except BrightRunError as error:
        return _form(
            request,
            "signup",
            status=error.status,
            email=email,
            name=name,
            workspace_name=workspace_name,
            errors=_messages(error),
        )


@router.get("/forgot-password")
async def forgot_page(request: Request) -> Response:
    return _form(request, "forgot_password", email="", sent=False, mail=bool(platform_of(request).settings.smtp_host))


@router.post("/forgot-password")
async def forgot(request: Request, email: Field) -> Response:
    """The same answer for every address. Without SMTP the page says to use `brightrun signin-link`."""
    platform = platform_of(request)
    await check_csrf(request, platform, anonymous_id(request))
    limit = platform.settings.login_attempts
    limits = {f"forgot:{client_address(request)}": limit, f"forgot-account:{email.strip().lower()}": limit}
    await hit(platform.db, limits)
    response = _form(request, "forgot_password", email=email, sent=True, mail=bool(platform.settings.smtp_host))
    if platform.settings.smtp_host is not None:
        # After the answer: how long it takes, and whether it fails, would tell who has an account.
        response.background = BackgroundTask(_mail_reset_link, platform, email.strip())
    return response


async def _mail_reset_link(platform: Platform, email: str) -> None:
    async with platform.db.transaction() as session:
        user_id = await repository.lookup_user_by_email(session, email)
        if user_id is None:
            return
        token = await signin.make_link(session, user_id, LinkPurpose.PASSWORD_RESET)
    with contextlib.suppress(UnavailableError):  # `send` has logged it, for whoever runs this server.
        await mail.send_password_reset(platform.settings, email, f"{platform.public_url}/reset-password/{token}")


@router.get("/reset-password/{token}")
async def reset_page(request: Request, token: str) -> Response:
    return _form(request, "reset_password", token=token)


@router.post("/reset-password/{token}")
async def reset(request: Request, token: str, password: Field) -> Response:
    platform = platform_of(request)
    try:
        await check_csrf(request, platform, anonymous_id(request))
        await hit(platform.db, link_limits(platform, request, token))
        async with platform.db.transaction() as session:
            user = await signin.reset_password(session, token, password)
            return await _signed_in(request, user, session, "/", by="new password")
    except BrightRunError as error:
        return _form(request, "reset_password", status=error.status, token=token, errors=_messages(error))


async def _current_user(request: Request) -> signin.Principal | None:
    platform = platform_of(request)
    cookie = request.cookies.get(cookie_name(platform))
    if cookie is None:
        return None
    try:
        async with platform.db.transaction() as session:
            return await signin.authenticate_session(session, cookie)
    except BrightRunError:
        return None


async def _invitation_form(request: Request, token: str, **values: Any) -> Response:
    platform = platform_of(request)
    principal = await _current_user(request)
    async with platform.db.transaction() as session:
        invitation, workspace = await service.find_invitation(session, token)
        known = await repository.lookup_user_by_email(session, invitation.email) is not None
        values.setdefault("name", "")
        return _form(
            request,
            "accept_invitation",
            token=token,
            email=invitation.email,
            role=invitation.role,
            workspace_name=workspace.name,
            has_account=known,
            signed_in_as=principal.email if principal else None,
            **values,
        )


@router.get("/invitations/{token}")
async def invitation_page(request: Request, token: str) -> Response:
    try:
        return await _invitation_form(request, token)
    except BrightRunError as error:
        return signin_form(request, "/", status=error.status, errors=_messages(error))


@router.post("/invitations/{token}")
async def accept(request: Request, token: str, name: Field = "", password: Field = "") -> Response:
    """Join as the one signed in here, as the invited address' existing account, or as a new account."""
    platform = platform_of(request)
    principal = await _current_user(request)
    try:
        await check_csrf(request, platform, anonymous_id(request))
        await hit(platform.db, link_limits(platform, request, token))
        async with platform.db.transaction() as session:
            if principal is not None and not password:
                workspace = await service.accept_invitation(session, token, principal.user_id)
                await service.switch_workspace(session, principal, workspace.id)
                return RedirectResponse("/", status_code=303)
            user, workspace = await service.join(session, token, name=name[:200], password=password)
            return await _signed_in(request, user, session, "/", by="invitation", workspace_id=workspace.id)
    except BrightRunError as error:
        if error.code == "invitation_invalid":
            return signin_form(request, "/", status=error.status, errors=_messages(error))
        return await _invitation_form(request, token, status=error.status, name=name, errors=_messages(error))
