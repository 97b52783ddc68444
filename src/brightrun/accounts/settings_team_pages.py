"""Settings of a workspace's people and programs: members, invitations, API tokens."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from brightrun.accounts import mail, repository, service
from brightrun.accounts.context import PageCtx, RequestContext, page_needs
from brightrun.accounts.roles import ALL_SCOPES, PERMISSIONS, Permission, Role
from brightrun.accounts.schemas import InvitationCreate, MemberUpdate, TokenCreate
from brightrun.accounts.settings_pages import failure, settings_page
from brightrun.accounts.tables import Invitation
from brightrun.clock import utcnow
from brightrun.errors import BrightRunError
from brightrun.web import forms, toasts
from brightrun.web.http import Page, PageParams

router = APIRouter(include_in_schema=False)

_READ = page_needs(Permission.WORKSPACE_READ)
_MANAGE = page_needs(Permission.WORKSPACE_MANAGE)
_TOKENS = page_needs(Permission.TOKENS_MANAGE)

ROLE_WORDS = {
    Role.OWNER: "Everything, and the only one who can make or change another owner.",
    Role.ADMIN: "Everything a trainer may, and decides who is a member and in which role.",
    Role.TRAINER: "Brings in datasets, starts training (which spends money), manages models, sees what was spent.",
    Role.REVIEWER: "Sees datasets, training and models, also from scripts; changes nothing and sees no costs.",
    Role.VIEWER: "Sees datasets, training and models on these pages; changes nothing and sees no costs.",
}
PERMISSION_WORDS = {
    Permission.WORKSPACE_READ: "See the workspace and its members",
    Permission.CONVERSATIONS_READ: "See scaffolding, batches and conversations",
    Permission.DATASETS_READ: "See datasets",
    Permission.JOBS_READ: "See training jobs",
    Permission.MODELS_READ: "See and download models",
    Permission.TOKENS_MANAGE: "Make API tokens for oneself",
    Permission.CONVERSATIONS_WRITE: "Change scaffolding, have conversations written (spends money)",
    Permission.DATASETS_WRITE: "Upload, change and delete datasets",
    Permission.JOBS_WRITE: "Start, cancel and retry training (spends money)",
    Permission.MODELS_WRITE: "Rename and delete models",
    Permission.COSTS_READ: "See what was spent",
    Permission.WORKSPACE_MANAGE: "Manage members, invitations and the workspace",
    Permission.AUDIT_READ: "See who did what (the audit log)",
}
EXPIRIES = (("7", "7 days"), ("30", "30 days"), ("90", "90 days"), ("365", "1 year"), ("", "Never"))


# --- members --------------------------------------------------------------------------------------------------------


@router.get("/settings/members", **_READ)
async def members_page(ctx: PageCtx, page: PageParams) -> Response:
    return await _members(ctx, page)


async def _members(ctx: RequestContext, page: Page, **shown: Any) -> Response:
    workspace_id = ctx.principal.workspace_id
    rows, total = await repository.list_members(ctx.session, workspace_id, page)
    manages = Permission.WORKSPACE_MANAGE in ctx.principal.permissions
    invitations: list[Invitation] = []
    invited = 0
    if manages:
        invitations, invited = await repository.list_invitations(ctx.session, workspace_id, Page(limit=50))
    grantable = [role for role in Role if service.may_give(ctx.principal.role, role)]
    return settings_page(
        ctx,
        "members",
        "Members",
        page_number=page,
        members=[{"member": member, "user": user, "role": Role(member.role)} for member, user in rows],
        total=total,
        invitations=[{"row": row, "status": invitation_status(row)} for row in invitations],
        invited=invited,
        grantable=grantable,
        roles=[{"role": role, "words": ROLE_WORDS[role], "may": PERMISSIONS[role]} for role in Role],
        permissions=PERMISSION_WORDS.items(),
        mails=ctx.settings.smtp_host is not None,
        **({"values": {"email": "", "role": Role.VIEWER}, "link": None, "mailed": False} | shown),
    )


def invitation_status(row: Invitation) -> str:
    if row.accepted_at is not None:
        return "accepted"
    if row.revoked_at is not None:
        return "revoked"
    return "expired" if row.expires_at <= utcnow() else "pending"


def _back(request: Request, title: str, url: str = "/settings/members", **more: Any) -> Response:
    return toasts.toast_redirect(request, url, toasts.Toast(title=title, **more))


def _refused(request: Request, error: BrightRunError, url: str = "/settings/members") -> Response:
    return _back(request, "That did not work", url, description=error.message, category="error")


@router.post("/settings/members/{user_id}/role", **_MANAGE)
async def change_role(ctx: PageCtx, user_id: UUID) -> Response:
    try:
        role = forms.parse(MemberUpdate, forms.text_fields(await ctx.request.form(), ("role",))).role
        _member, user = await service.change_role(ctx.session, ctx.principal, ctx.principal.workspace_id, user_id, role)
    except BrightRunError as error:
        return _refused(ctx.request, error)
    return _back(ctx.request, f"{user.name} is {_article(role)} now")


def _article(role: Role) -> str:
    return f"{'an' if role.value[0] in 'aeiou' else 'a'} {role.value}"


@router.post("/settings/members/{user_id}/remove", **_READ)
async def remove_member(ctx: PageCtx, user_id: UUID) -> Response:
    """Someone else, for whoever manages the workspace; or oneself, who leaves it."""
    try:
        await service.remove_member(ctx.session, ctx.principal, ctx.principal.workspace_id, user_id)
    except BrightRunError as error:
        return _refused(ctx.request, error)
    if user_id == ctx.principal.user_id:
        return _back(ctx.request, f"You have left {ctx.request.state.page.workspace_name}", "/")
    return _back(ctx.request, "Removed", description="They can be invited again at any time.")


# --- invitations ----------------------------------------------------------------------------------------------------


@router.post("/settings/invitations", **_MANAGE)
async def invite(ctx: PageCtx) -> Response:
    """Shows the link in this very answer: it is kept nowhere."""
    values = forms.text_fields(await ctx.request.form(), ("email", "role"))
    try:
        body = forms.parse(InvitationCreate, values)
        async with ctx.session.begin_nested():
            invitation, token = await service.invite(
                ctx.session, ctx.principal, ctx.principal.workspace_id, body.email, body.role
            )
            link = f"{ctx.platform.public_url}/invitations/{token}"
            workspace = ctx.request.state.page.workspace_name
            mailed = await mail.send_invitation(ctx.settings, body.email, ctx.principal.name, workspace, link)
    except BrightRunError as error:
        return await _members(ctx, Page(), values=values, **failure(error, "invite"))
    return await _members(ctx, Page(), link=link, mailed=mailed, invitation=invitation)


@router.post("/settings/invitations/{invitation_id}/revoke", **_MANAGE)
async def revoke_invitation(ctx: PageCtx, invitation_id: UUID) -> Response:
    try:
        await service.revoke_invitation(ctx.session, invitation_id)
    except BrightRunError as error:
        return _refused(ctx.request, error)
    return _back(ctx.request, "Invitation revoked", description="Its link no longer works.")


# --- API tokens -----------------------------------------------------------------------------------------------------


@router.get("/settings/tokens", **_READ)
async def tokens_page(ctx: PageCtx, page: PageParams) -> Response:
    return await _tokens(ctx, page)


async def _tokens(ctx: RequestContext, page: Page, **shown: Any) -> Response:
    principal = ctx.principal
    rows, total = await repository.list_api_tokens(ctx.session, principal.workspace_id, principal.user_id, page)
    now = utcnow()
    defaults = {"name": "", "scopes": [ALL_SCOPES], "expires_in_days": "90"}
    return settings_page(
        ctx,
        "tokens",
        "API tokens",
        page_number=page,
        tokens=[
            {"row": row, "status": "expired" if row.expires_at is not None and row.expires_at <= now else "active"}
            for row in rows
        ],
        total=total,
        scopes=[(permission.value, words) for permission, words in PERMISSION_WORDS.items()
                if permission in principal.permissions],
        all_scopes=ALL_SCOPES,
        expiries=EXPIRIES,
        **({"values": defaults, "token": None} | shown),
    )  # fmt: skip


@router.post("/settings/tokens", **_TOKENS)
async def create_token(ctx: PageCtx) -> Response:
    """Shows the token in this very answer: only its hash is kept."""
    form = await ctx.request.form()
    values: dict[str, Any] = forms.text_fields(form, ("name", "expires_in_days", "reach"))
    values["scopes"] = [ALL_SCOPES] if values["reach"] == "all" else [str(scope) for scope in form.getlist("scopes")]
    try:
        body = forms.parse(
            TokenCreate,
            {"name": values["name"], "scopes": values["scopes"], "expires_in_days": values["expires_in_days"] or None},
        )
        row, token = await service.create_token(
            ctx.session,
            user_id=ctx.principal.user_id,
            workspace_id=ctx.principal.workspace_id,
            name=body.name,
            scopes=body.scopes,
            expires_in_days=body.expires_in_days,
        )
    except BrightRunError as error:
        return await _tokens(ctx, Page(), values=values, **failure(error, "token"))
    return await _tokens(ctx, Page(), token=token, made=row)


@router.post("/settings/tokens/{token_id}/revoke", **_TOKENS)
async def revoke_token(ctx: PageCtx, token_id: UUID) -> Response:
    try:
        row = await service.revoke_token(ctx.session, ctx.principal, token_id)
    except BrightRunError as error:
        return _refused(ctx.request, error, "/settings/tokens")
    return _back(ctx.request, f"The token {row.name} is revoked", "/settings/tokens",
                 description="Programs that use it are refused from now on.")  # fmt: skip
