"""JSON routes: who am I, sign-in, workspaces, members, invitations, API tokens."""

from uuid import UUID

from fastapi import APIRouter, Request, Response

from brightrun.accounts import mail, quota, repository, service, signin
from brightrun.accounts.browser import leave, link_limits, note_failed_signin, open_session, signin_limits
from brightrun.accounts.context import Ctx, csrf_token, needs, platform_of
from brightrun.accounts.rate_limits import count, give_back, hit
from brightrun.accounts.roles import Permission, Role
from brightrun.accounts.schemas import (
    Empty,
    InvitationAccept,
    InvitationCreate,
    InvitationCreated,
    InvitationData,
    InvitationOut,
    Me,
    MemberData,
    MemberOut,
    MemberUpdate,
    PasswordChange,
    SignIn,
    StorageData,
    TokenCreate,
    TokenCreated,
    TokenData,
    TokenOut,
    UserData,
    UserOut,
    WorkspaceCreate,
    WorkspaceData,
    WorkspaceOut,
)
from brightrun.accounts.tables import User, Workspace, WorkspaceMember
from brightrun.errors import ForbiddenError, UnauthenticatedError
from brightrun.web.http import FAILURES, Items, PageParams, Success, many, one

router = APIRouter(prefix="/api", tags=["accounts"])


def _workspace(workspace: Workspace, role: Role | str) -> WorkspaceOut:
    return WorkspaceOut(id=workspace.id, name=workspace.name, role=Role(role), created_at=workspace.created_at)


def _member(member: WorkspaceMember, user: User) -> MemberOut:
    return MemberOut(
        user_id=user.id, email=user.email, name=user.name, role=Role(member.role), created_at=member.created_at
    )


@router.post("/auth/signin", responses=FAILURES)
async def sign_in(request: Request, response: Response, body: SignIn) -> Success[UserData]:
    """Start a browser session from a script; answers with the session cookie and `X-CSRF-Token` for later writes."""
    platform = platform_of(request)
    limits = signin_limits(platform, request, body.email)
    await hit(platform.db, limits)
    try:
        async with platform.db.transaction() as session:
            user = await signin.check_password(session, body.email, body.password)
            session_id = await open_session(session, platform, request, response, user, by="password")
    except UnauthenticatedError:
        note_failed_signin(platform, request, body.email)
        raise
    await give_back(platform.db, limits)
    response.headers["X-CSRF-Token"] = csrf_token(platform, str(session_id))
    return one(UserData(user=UserOut(id=user.id, email=user.email, name=user.name)))


@router.post("/auth/signout", responses=FAILURES)
async def sign_out(ctx: Ctx, response: Response) -> Success[Empty]:
    """End this browser session."""
    await leave(ctx, response)
    return one(Empty())


@router.get("/me", **needs(Permission.WORKSPACE_READ))
async def me(ctx: Ctx, response: Response) -> Success[Me]:
    """Who acts, in which workspace, and what they may do there."""
    principal = ctx.principal
    workspace = await service.require_workspace(ctx.session, principal, principal.workspace_id)
    if principal.session_id is not None:
        response.headers["X-CSRF-Token"] = csrf_token(ctx.platform, str(principal.session_id))
    return one(
        Me(
            user=UserOut(id=principal.user_id, email=principal.email, name=principal.name),
            workspace=_workspace(workspace, principal.role),
            permissions=sorted(permission.value for permission in principal.permissions),
        )
    )


@router.post("/me/password", **needs(Permission.WORKSPACE_READ))
async def change_password(ctx: Ctx, body: PasswordChange) -> Success[Empty]:
    """Set or change one's password; other browsers are signed out. Not with an API token."""
    if ctx.principal.token_id is not None:
        raise ForbiddenError("A password is changed in the browser, not with an API token", code="token_password")
    platform, principal = ctx.platform, ctx.principal
    await hit(platform.db, {f"password:{principal.user_id}": platform.settings.login_attempts})
    await signin.change_password(ctx.session, principal, body.current_password, body.new_password)
    return one(Empty())


@router.get("/workspaces", **needs(Permission.WORKSPACE_READ))
async def list_workspaces(ctx: Ctx, page: PageParams) -> Success[Items[WorkspaceOut]]:
    """The workspaces one belongs to; with a token, the one it acts in."""
    found = await repository.list_workspaces(ctx.session, ctx.principal.user_id)
    if ctx.principal.token_id is not None:
        found = [(workspace, role) for workspace, role in found if workspace.id == ctx.principal.workspace_id]
    shown = found[page.offset : page.offset + page.limit]
    return many([_workspace(workspace, role) for workspace, role in shown], len(found), page)


@router.post("/workspaces", status_code=201, **needs(Permission.WORKSPACE_READ))
async def create_workspace(ctx: Ctx, body: WorkspaceCreate) -> Success[WorkspaceData]:
    """A new workspace that the caller owns. A token needs the scope `*`, and goes on acting in its own workspace."""
    await service.require_whole(ctx.session, ctx.principal)
    workspace = await signin.create_workspace(ctx.session, ctx.principal.user_id, body.name)
    await ctx.session.refresh(workspace)
    return one(WorkspaceData(workspace=_workspace(workspace, Role.OWNER)))


@router.get("/workspaces/{workspace_id}", **needs(Permission.WORKSPACE_READ))
async def get_workspace(ctx: Ctx, workspace_id: UUID) -> Success[WorkspaceData]:
    workspace = await service.require_workspace(ctx.session, ctx.principal, workspace_id)
    role = await service.role_in(ctx.session, ctx.principal, workspace_id)
    return one(WorkspaceData(workspace=_workspace(workspace, role)))


@router.get("/workspaces/{workspace_id}/storage", **needs(Permission.WORKSPACE_READ))
async def get_storage(ctx: Ctx, workspace_id: UUID) -> Success[StorageData]:
    """How much the workspace stores, and how much it may."""
    await service.require_workspace(ctx.session, ctx.principal, workspace_id)
    return one(StorageData(storage=await quota.storage_of(ctx.session, ctx.settings, workspace_id)))


@router.patch("/workspaces/{workspace_id}", **needs(Permission.WORKSPACE_MANAGE))
async def rename_workspace(ctx: Ctx, workspace_id: UUID, body: WorkspaceCreate) -> Success[WorkspaceData]:
    workspace = await service.rename_workspace(ctx.session, ctx.principal, workspace_id, body.name)
    role = await service.role_in(ctx.session, ctx.principal, workspace_id)
    return one(WorkspaceData(workspace=_workspace(workspace, role)))


@router.post("/workspaces/{workspace_id}/switch", **needs(Permission.WORKSPACE_READ))
async def switch_workspace(ctx: Ctx, workspace_id: UUID) -> Success[WorkspaceData]:
    """Look at another workspace in this browser."""
    workspace = await service.switch_workspace(ctx.session, ctx.principal, workspace_id)
    role = await service.role_in(ctx.session, ctx.principal, workspace_id)
    return one(WorkspaceData(workspace=_workspace(workspace, role)))


@router.get("/workspaces/{workspace_id}/members", **needs(Permission.WORKSPACE_READ))
async def list_members(ctx: Ctx, workspace_id: UUID, page: PageParams) -> Success[Items[MemberOut]]:
    await service.require_workspace(ctx.session, ctx.principal, workspace_id)
    rows, total = await repository.list_members(ctx.session, workspace_id, page)
    return many([_member(member, user) for member, user in rows], total, page)


@router.patch("/workspaces/{workspace_id}/members/{user_id}", **needs(Permission.WORKSPACE_MANAGE))
async def change_role(ctx: Ctx, workspace_id: UUID, user_id: UUID, body: MemberUpdate) -> Success[MemberData]:
    await service.require_workspace(ctx.session, ctx.principal, workspace_id)
    member, user = await service.change_role(ctx.session, ctx.principal, workspace_id, user_id, body.role)
    return one(MemberData(member=_member(member, user)))


@router.delete("/workspaces/{workspace_id}/members/{user_id}", **needs(Permission.WORKSPACE_READ))
async def remove_member(ctx: Ctx, workspace_id: UUID, user_id: UUID) -> Success[Empty]:
    """Remove a member (admins), or leave (oneself)."""
    await service.require_workspace(ctx.session, ctx.principal, workspace_id)
    await service.remove_member(ctx.session, ctx.principal, workspace_id, user_id)
    return one(Empty())


@router.get("/workspaces/{workspace_id}/invitations", **needs(Permission.WORKSPACE_MANAGE))
async def list_invitations(ctx: Ctx, workspace_id: UUID, page: PageParams) -> Success[Items[InvitationOut]]:
    await service.require_workspace(ctx.session, ctx.principal, workspace_id)
    await service.require_manager(ctx.session, ctx.principal, workspace_id)
    rows, total = await repository.list_invitations(ctx.session, workspace_id, page)
    return many([InvitationOut.model_validate(row) for row in rows], total, page)


@router.post("/workspaces/{workspace_id}/invitations", status_code=201, **needs(Permission.WORKSPACE_MANAGE))
async def invite(ctx: Ctx, workspace_id: UUID, body: InvitationCreate) -> Success[InvitationCreated]:
    """Invite by link. The link is in the answer, once; with SMTP set it is also mailed."""
    workspace = await service.require_workspace(ctx.session, ctx.principal, workspace_id)
    invitation, token = await service.invite(ctx.session, ctx.principal, workspace_id, body.email, body.role)
    link = f"{ctx.platform.public_url}/invitations/{token}"
    mailed = await mail.send_invitation(ctx.settings, body.email, ctx.principal.name, workspace.name, link)
    return one(InvitationCreated(invitation=InvitationOut.model_validate(invitation), link=link, mailed=mailed))


@router.post("/invitations/accept", status_code=201, responses=FAILURES)
async def accept_invitation(request: Request, body: InvitationAccept) -> Success[UserData]:
    """Join by an invitation's token: as the invited address' account, or as a new one."""
    platform = platform_of(request)
    await hit(platform.db, link_limits(platform, request, body.token))
    async with platform.db.transaction() as session:
        user, _workspace = await service.join(session, body.token, name=body.name, password=body.password)
    return one(UserData(user=UserOut(id=user.id, email=user.email, name=user.name)))


@router.delete("/invitations/{invitation_id}", **needs(Permission.WORKSPACE_MANAGE))
async def revoke_invitation(ctx: Ctx, invitation_id: UUID) -> Success[InvitationData]:
    invitation = await service.revoke_invitation(ctx.session, invitation_id)
    return one(InvitationData(invitation=InvitationOut.model_validate(invitation)))


@router.get("/tokens", **needs(Permission.TOKENS_MANAGE))
async def list_tokens(ctx: Ctx, page: PageParams) -> Success[Items[TokenOut]]:
    """One's own tokens for this workspace."""
    rows, total = await repository.list_api_tokens(ctx.session, ctx.principal.workspace_id, ctx.principal.user_id, page)
    return many([TokenOut.model_validate(row) for row in rows], total, page)


@router.post("/tokens", status_code=201, **needs(Permission.TOKENS_MANAGE))
async def create_token(ctx: Ctx, body: TokenCreate) -> Success[TokenCreated]:
    """A new API token, shown once. A token can make another that is no wider than itself."""
    await count(ctx.session, {f"tokens:{ctx.principal.user_id}": ctx.settings.login_attempts * 10})
    row, token = await service.issue_token(
        ctx.session,
        ctx.principal,
        workspace_id=body.workspace_id or ctx.principal.workspace_id,
        name=body.name,
        scopes=body.scopes,
        expires_in_days=body.expires_in_days,
    )
    return one(TokenCreated(token=token, id=row.id, api_token=TokenOut.model_validate(row)))


@router.delete("/tokens/{token_id}", **needs(Permission.TOKENS_MANAGE))
async def revoke_token(ctx: Ctx, token_id: UUID) -> Success[TokenData]:
    row = await service.revoke_token(ctx.session, ctx.principal, token_id)
    return one(TokenData(api_token=TokenOut.model_validate(row)))
