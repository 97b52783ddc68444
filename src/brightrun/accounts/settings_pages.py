"""Settings: one's own profile, password and browsers, and the workspaces one belongs to."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response

from brightrun.accounts import quota, repository, service, signin
from brightrun.accounts.context import PageCtx, RequestContext, cookies_are_secure, page_needs
from brightrun.accounts.rate_limits import hit
from brightrun.accounts.roles import Permission
from brightrun.accounts.schemas import ProfileUpdate, WorkspaceCreate
from brightrun.clock import utcnow
from brightrun.errors import BrightRunError
from brightrun.web import forms, toasts, views
from brightrun.web.page_context import THEME_COOKIE, THEMES

router = APIRouter(include_in_schema=False)

_READ = page_needs(Permission.WORKSPACE_READ)
_MANAGE = page_needs(Permission.WORKSPACE_MANAGE)
_YEAR_S = 365 * 86_400


def tabs(current: str, permissions: frozenset[Permission]) -> list[dict[str, Any]]:
    """The sections of the settings that someone may see, as `ui.tab_links` shows them."""
    found = {
        "/settings": "Profile",
        "/settings/security": "Security",
        "/settings/workspace": "Workspace",
        "/settings/members": "Members",
        "/settings/notifications": "Notifications",
        "/settings/tokens": "API tokens",
    }
    if Permission.CONVERSATIONS_READ in permissions:
        found["/settings/providers"] = "Providers"
    if Permission.WORKSPACE_MANAGE in permissions:
        found["/settings/webhooks"] = "Webhooks"
    if Permission.AUDIT_READ in permissions:
        found["/settings/audit"] = "Audit log"
    return [{"href": href, "label": label, "current": label == current} for href, label in found.items()]


def settings_page(ctx: RequestContext, template: str, tab: str, *, status: int = 200, **values: Any) -> Response:
    """One section. errors: field → messages of the form `failed` (its id); other forms of the page show none."""
    values.setdefault("errors", {})
    values.setdefault("failed", None)
    may = {permission.name.lower(): permission in ctx.principal.permissions for permission in Permission}
    return views.render(
        ctx.request,
        f"settings/{template}.html",
        status=status,
        tabs=tabs(tab, ctx.principal.permissions),
        may=may,
        me=ctx.principal,
        **values,
    )


def failure(error: BrightRunError, form: str, **renamed: str) -> dict[str, Any]:
    """What `settings_page` needs to show `error` in the form with this id. renamed: its field → the page's."""
    found = forms.problems(error)
    return {
        "status": error.status,
        "failed": form,
        "errors": {renamed.get(field, field): messages for field, messages in found.items()},
    }


# --- profile --------------------------------------------------------------------------------------------------------


@router.get("/settings", **_READ)
async def profile_page(ctx: PageCtx) -> Response:
    return _profile(ctx, {"name": ctx.principal.name, "theme": ctx.request.state.page.theme})


def _profile(ctx: RequestContext, values: Mapping[str, str], **shown: Any) -> Response:
    return settings_page(ctx, "profile", "Profile", values=values, themes=THEMES, **shown)


@router.post("/settings/profile", **_READ)
async def save_profile(ctx: PageCtx) -> Response:
    values = forms.text_fields(await ctx.request.form(), ("name", "theme"))
    try:
        given = forms.parse(ProfileUpdate, values)
    except BrightRunError as error:
        return _profile(ctx, values, **failure(error, "profile"))
    await service.change_profile(ctx.session, ctx.principal, name=given.name, theme=given.theme)
    response = toasts.toast_redirect(ctx.request, "/settings", toasts.Toast(title="Profile saved"))
    # The layout reads the cookie, so that the first paint is right; theme.js writes it too.
    secure = cookies_are_secure(ctx.platform)
    response.set_cookie(THEME_COOKIE, given.theme, max_age=_YEAR_S, samesite="lax", secure=secure, path="/")
    return response


# --- security -------------------------------------------------------------------------------------------------------


@router.get("/settings/security", **_READ)
async def security_page(ctx: PageCtx) -> Response:
    return await _security(ctx)


async def _security(ctx: RequestContext, **shown: Any) -> Response:
    user = await repository.get_user(ctx.session, ctx.principal.user_id)
    assert user is not None
    sessions = await repository.list_sessions(ctx.session, user.id, utcnow())
    return settings_page(
        ctx,
        "security",
        "Security",
        has_password=user.password_hash is not None,
        sessions=[
            {"row": row, "here": row.id == ctx.principal.session_id, "browser": browser_words(row.user_agent or "")}
            for row in sessions
        ],
        **shown,
    )


_BROWSERS = {"Edg/": "Edge", "OPR/": "Opera", "Firefox/": "Firefox", "Chrome/": "Chrome", "Safari/": "Safari"}
_SYSTEMS = {
    "Windows": "Windows", "iPhone": "iPhone", "iPad": "iPad", "Android": "Android", "Mac OS": "macOS", "Linux": "Linux",
}  # fmt: skip


def browser_words(agent: str) -> str:
    """A user agent in a few words, as far as it tells: `Firefox on Windows`."""
    browser = next((name for sign, name in _BROWSERS.items() if sign in agent), None)
    system = next((name for sign, name in _SYSTEMS.items() if sign in agent), None)
    if browser is None:
        return agent[:60] or "Unknown browser"
    return f"{browser} on {system}" if system else browser


@router.post("/settings/password", **_READ)
async def change_password(ctx: PageCtx) -> Response:
    form = await ctx.request.form()
    # Not trimmed: a space may be part of a password.
    current, new = (str(form.get(name, ""))[:2048] for name in ("current_password", "new_password"))
    limits = {f"password:{ctx.principal.user_id}": ctx.settings.login_attempts}
    try:
        await hit(ctx.platform.db, limits)
        async with ctx.session.begin_nested():
            await signin.change_password(ctx.session, ctx.principal, current or None, new)
    except BrightRunError as error:
        return await _security(ctx, **failure(error, "password", password="new_password"))  # noqa: S106 (a field's name)
    return toasts.toast_redirect(
        ctx.request,
        "/settings/security",
        toasts.Toast(title="Password saved", description="Your other browsers are signed out."),
    )


@router.post("/settings/sessions/{session_id}/end", **_READ)
async def end_session(ctx: PageCtx, session_id: UUID) -> Response:
    await service.end_session(ctx.session, ctx.principal, session_id)
    return toasts.toast_redirect(ctx.request, "/settings/security", toasts.Toast(title="That browser is signed out"))


# --- workspace ------------------------------------------------------------------------------------------------------


@router.get("/settings/workspace", **_READ)
async def workspace_page(ctx: PageCtx) -> Response:
    return await _workspace(ctx)


async def _workspace(ctx: RequestContext, **shown: Any) -> Response:
    values = {"name": ctx.request.state.page.workspace_name, "new_name": ""} | shown.pop("values", {})
    storage = await quota.storage_of(ctx.session, ctx.settings, ctx.principal.workspace_id)
    return settings_page(ctx, "workspace", "Workspace", values=values, storage=storage, **shown)


@router.post("/settings/workspace", **_MANAGE)
async def rename_workspace(ctx: PageCtx) -> Response:
    values = forms.text_fields(await ctx.request.form(), ("name",))
    try:
        name = forms.parse(WorkspaceCreate, values).name
    except BrightRunError as error:
        return await _workspace(ctx, values=values, **failure(error, "rename"))
    await service.rename_workspace(ctx.session, ctx.principal, ctx.principal.workspace_id, name)
    return toasts.toast_redirect(ctx.request, "/settings/workspace", toasts.Toast(title="Workspace renamed"))


@router.post("/workspaces", **_READ)
async def create_workspace(ctx: PageCtx) -> Response:
    values = forms.text_fields(await ctx.request.form(), ("new_name",))
    try:
        name = forms.parse(WorkspaceCreate, {"name": values["new_name"]}).name
    except BrightRunError as error:
        return await _workspace(ctx, values=values, **failure(error, "create", name="new_name"))
    workspace = await signin.create_workspace(ctx.session, ctx.principal.user_id, name)
    await service.switch_workspace(ctx.session, ctx.principal, workspace.id)
    return toasts.toast_redirect(
        ctx.request, "/", toasts.Toast(title=f"{name} is ready", description="You are looking at it now.")
    )


@router.post("/workspaces/{workspace_id}/switch", **_READ)
async def switch_workspace(ctx: PageCtx, workspace_id: UUID) -> Response:
    """To the overview: the page that was open may show something of the other workspace."""
    workspace = await service.switch_workspace(ctx.session, ctx.principal, workspace_id)
    return toasts.toast_redirect(ctx.request, "/", toasts.Toast(title=f"Now in {workspace.name}", category="info"))
