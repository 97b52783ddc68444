"""Workspaces, members, invitations and API tokens: the rules."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts import repository
from brightrun.accounts.roles import ALL_SCOPES, Permission, Role, permitted
from brightrun.accounts.signin import Principal, check_password, clean_email, create_user, create_workspace, require
from brightrun.accounts.tables import ApiToken, Invitation, User, Workspace, WorkspaceMember
from brightrun.accounts.tokens import API_TOKEN_PREFIX, new_token, token_hash
from brightrun.audit.service import record
from brightrun.clock import utcnow
from brightrun.db.session import assume
from brightrun.errors import ConflictError, ForbiddenError, NotFoundError, UnauthenticatedError

INVITATION_LIFE = timedelta(days=7)
FIRST_OWNER_EMAIL = "owner@localhost"
_RANK = [Role.VIEWER, Role.REVIEWER, Role.TRAINER, Role.ADMIN, Role.OWNER]


async def bootstrap_first_owner(session: AsyncSession) -> tuple[UUID, UUID]:
    """(user id, workspace id) of the first owner, created when nobody owns anything yet. Acts as them afterwards."""
    # Two `up` that start on one new database must not make two first owners.
    await session.execute(text("select pg_advisory_xact_lock(7205118332)"))
    found = await repository.lookup_first_owner(session)
    if found is None:
        user = await create_user(session, email=FIRST_OWNER_EMAIL, name="Owner")
        workspace = await create_workspace(session, user.id, "My workspace")
        found = (user.id, workspace.id)
    await assume(session, user_id=found[0], workspace_id=found[1])
    return found


async def switch_workspace(session: AsyncSession, principal: Principal, workspace_id: UUID) -> Workspace:
    """Look at another of one's workspaces, in this browser."""
    if await repository.get_membership(session, workspace_id, principal.user_id) is None:
        raise NotFoundError("There is no such workspace, or you are not a member")
    if principal.session_id is None:
        raise ConflictError("An API token acts in one workspace only", code="token_workspace")
    row = await repository.get_auth_session(session, principal.session_id)
    assert row is not None
    row.current_workspace_id = workspace_id
    workspace = await repository.get_workspace(session, workspace_id)
    assert workspace is not None
    await session.flush()
    return workspace


async def change_profile(session: AsyncSession, principal: Principal, *, name: str, theme: str) -> User:
    """name: shown to the other members. theme: `light`, `dark` or `system`."""
    user = await repository.get_user(session, principal.user_id)
    assert user is not None
    user.name, user.theme = name, theme
    await session.flush()
    return user


async def end_session(session: AsyncSession, principal: Principal, session_id: UUID) -> None:
    """Sign one of one's own browsers out."""
    row = await repository.get_auth_session(session, session_id)
    if row is None or row.user_id != principal.user_id or row.revoked_at is not None:
        raise NotFoundError("There is no such session, or it has ended")
    row.revoked_at = utcnow()
    await session.flush()


async def rename_workspace(session: AsyncSession, principal: Principal, workspace_id: UUID, name: str) -> Workspace:
    workspace = await require_workspace(session, principal, workspace_id)
    await require_manager(session, principal, workspace_id)
    before, workspace.name = workspace.name, name
    if name != before:
        await record(session, "workspace.renamed", "workspace", workspace_id, {"before": before, "after": name})
    await session.flush()
    return workspace


async def require_workspace(session: AsyncSession, principal: Principal, workspace_id: UUID) -> Workspace:
    """The workspace of a path, if it is the one this request acts in (a token acts in exactly one)."""
    if workspace_id != principal.workspace_id:
        membership = await repository.get_membership(session, workspace_id, principal.user_id)
        if principal.token_id is not None or membership is None:
            raise NotFoundError("There is no such workspace, or you are not a member")
        # A browser session may name any workspace of its user; the caller's permission is checked again there.
        await assume(session, user_id=principal.user_id, workspace_id=workspace_id)
    workspace = await repository.get_workspace(session, workspace_id)
    if workspace is None:
        raise NotFoundError("There is no such workspace, or you are not a member")
    return workspace


async def role_in(session: AsyncSession, principal: Principal, workspace_id: UUID) -> Role:
    membership = await repository.get_membership(session, workspace_id, principal.user_id)
    if membership is None:
        raise NotFoundError("There is no such workspace, or you are not a member")
    return Role(membership.role)


def may_give(acting: Role, target: Role) -> bool:
    """Nobody gives, changes or removes a role above their own."""
    return _RANK.index(target) <= _RANK.index(acting)


def _refuse_above(acting: Role, target: Role, verb: str) -> None:
    if not may_give(acting, target):
        raise ForbiddenError(f"As {acting.value} you cannot {verb} the role {target.value}", code="role")


async def change_role(
    session: AsyncSession, principal: Principal, workspace_id: UUID, user_id: UUID, role: Role
) -> tuple[WorkspaceMember, User]:
    owners = await repository.lock_members(session, workspace_id, {principal.user_id, user_id})
    acting = await require_manager(session, principal, workspace_id)
    member = await _member(session, workspace_id, user_id)
    _refuse_above(acting, Role(member.role), "change")
    _refuse_above(acting, role, "give")
    if owners == [user_id] and role is not Role.OWNER:
        raise ConflictError("A workspace needs an owner: make someone else owner first", code="last_owner")
    before, member.role = member.role, role
    user = await repository.get_user(session, user_id)
    assert user is not None
    if role != before:
        facts = {"email": user.email, "before": before, "after": role.value}
        await record(session, "member.role_changed", "member", user_id, facts)
    await session.flush()
    return member, user


async def remove_member(session: AsyncSession, principal: Principal, workspace_id: UUID, user_id: UUID) -> None:
    """Remove someone, or leave oneself. Their tokens for the workspace answer 401 from then on, for good."""
    owners = await repository.lock_members(session, workspace_id, {principal.user_id, user_id})
    if user_id != principal.user_id:
        acting = await require_manager(session, principal, workspace_id)
        member = await _member(session, workspace_id, user_id)
        _refuse_above(acting, Role(member.role), "remove")
    else:
        await require_whole(session, principal)
        member = await _member(session, workspace_id, user_id)
    if owners == [user_id]:
        raise ConflictError("A workspace needs an owner: make someone else owner first", code="last_owner")
    user = await repository.get_user(session, user_id)
    assert user is not None
    action = "member.left" if user_id == principal.user_id else "member.removed"
    await record(session, action, "member", user_id, {"email": user.email, "role": member.role})
    await session.delete(member)
    await session.flush()


async def require_manager(session: AsyncSession, principal: Principal, workspace_id: UUID) -> Role:
    """The acting role in `workspace_id`. A token must also have the scope: it is never wider than its scopes."""
    acting = await role_in(session, principal, workspace_id)
    if principal.token_id is not None:
        require(principal, Permission.WORKSPACE_MANAGE)
    if Permission.WORKSPACE_MANAGE not in permitted(acting, None):
        raise ForbiddenError(
            f"Your role in this workspace, {acting.value}, may not do this. An admin can change it", code="role"
        )
    return acting


async def _member(session: AsyncSession, workspace_id: UUID, user_id: UUID) -> WorkspaceMember:
    member = await repository.get_membership(session, workspace_id, user_id)
    if member is None:
        raise NotFoundError("There is no such member in this workspace")
    return member


async def invite(
    session: AsyncSession, principal: Principal, workspace_id: UUID, email: str, role: Role
) -> tuple[Invitation, str]:
    """The invitation and the token of its link, which is shown once."""
    acting = await require_manager(session, principal, workspace_id)
    _refuse_above(acting, role, "give")
    token = new_token()
    invitation = Invitation(
        workspace_id=workspace_id,
        email=clean_email(email),
        role=role,
        token_hash=token_hash(token),
        invited_by=principal.user_id,
        expires_at=utcnow() + INVITATION_LIFE,
    )
    session.add(invitation)
    await session.flush()
    await session.refresh(invitation)
    await record(session, "invitation.created", "invitation", invitation.id, _invited(invitation))
    return invitation, token


def _invited(invitation: Invitation) -> dict[str, str]:
    return {"email": invitation.email, "role": invitation.role}


async def revoke_invitation(session: AsyncSession, invitation_id: UUID) -> Invitation:
    now = utcnow()
    revoked = await repository.revoke_invitation(session, invitation_id, now)
    if revoked is not None:
        if revoked.revoked_at == now:
            await record(session, "invitation.revoked", "invitation", invitation_id, _invited(revoked))
        return revoked
    if await repository.get_invitation(session, invitation_id) is None:
        raise NotFoundError("There is no such invitation")
    raise ConflictError("This invitation was accepted already: remove the member instead", code="accepted")


async def find_invitation(session: AsyncSession, token: str) -> tuple[Invitation, Workspace]:
    """What a link invites to; the transaction acts in that workspace afterwards."""
    found = await repository.lookup_invitation(session, token_hash(token))
    if found is not None:
        invitation_id, workspace_id = found
        await assume(session, workspace_id=workspace_id)
        invitation = await repository.get_invitation(session, invitation_id)
        workspace = await repository.get_workspace(session, workspace_id)
        if invitation is not None and workspace is not None:
            open_ = invitation.accepted_at is None and invitation.revoked_at is None
            if open_ and invitation.expires_at > utcnow():
                return invitation, workspace
    raise UnauthenticatedError(
        "This invitation was used, revoked or has expired. Ask for another", code="invitation_invalid"
    )


async def accept_invitation(session: AsyncSession, token: str, user_id: UUID) -> Workspace:
    """Join, once. Someone who is a member already keeps the higher of the two roles."""
    invitation, workspace = await find_invitation(session, token)
    await assume(session, user_id=user_id, workspace_id=workspace.id)
    if not await repository.accept_invitation(session, invitation.id, utcnow()):
        raise UnauthenticatedError(
            "This invitation was used, revoked or has expired. Ask for another", code="invitation_invalid"
        )
    # Two invitations of one person may be accepted at the same moment.
    member, made = await repository.find_or_add_member(session, workspace.id, user_id, invitation.role)
    if made:
        # Tokens from an earlier membership stay dead. Here and not at the removal, where a token's row may be held by
        # a request of its member that waits for the removal: a deadlock.
        await repository.revoke_tokens_of(session, workspace.id, user_id, utcnow())
    elif _RANK.index(Role(invitation.role)) > _RANK.index(Role(member.role)):
        member.role = invitation.role
    await record(session, "invitation.accepted", "invitation", invitation.id, _invited(invitation))
    await session.flush()
    return workspace


async def join(session: AsyncSession, token: str, *, name: str, password: str) -> tuple[User, Workspace]:
    """Accept as the invited address: its existing account (whose password this must be), or a new one."""
    invitation, _workspace = await find_invitation(session, token)
    if await repository.lookup_user_by_email(session, invitation.email) is not None:
        user = await check_password(session, invitation.email, password)
    else:
        user = await create_user(session, email=invitation.email, name=name, password=password)
    return user, await accept_invitation(session, token, user.id)


async def issue_token(
    session: AsyncSession,
    principal: Principal,
    *,
    workspace_id: UUID,
    name: str,
    scopes: list[str],
    expires_in_days: float | None,
) -> tuple[ApiToken, str]:
    """A token that a member asks for, for one of their workspaces in which they may have tokens.

    A token with the scope `*` acts for its member and may make others for their other workspaces. A narrower one makes
    none that is wider, and none that outlives it: the new one then ends when it does.
    """
    maker = await _token_of(session, principal)
    narrow = maker is not None and ALL_SCOPES not in maker.scopes
    if (
        maker is not None
        and narrow
        and (workspace_id != principal.workspace_id or not set(scopes) <= set(maker.scopes))
    ):
        listed = ", ".join(maker.scopes)
        raise ForbiddenError(
            f"This token can make tokens for its own workspace, with these scopes only: {listed}", code="scope"
        )
    await assume(session, user_id=principal.user_id, workspace_id=workspace_id)
    row, token = await create_token(
        session,
        user_id=principal.user_id,
        workspace_id=workspace_id,
        name=name,
        scopes=scopes,
        expires_in_days=expires_in_days,
        ends_with=maker if narrow else None,
    )
    return row, token


async def require_whole(session: AsyncSession, principal: Principal) -> None:
    """Raises ForbiddenError for a token that does not have every right of its member."""
    maker = await _token_of(session, principal)
    if maker is not None and ALL_SCOPES not in maker.scopes:
        raise ForbiddenError(f"This token may not do this: it needs the scope {ALL_SCOPES!r}", code="scope")


async def _token_of(session: AsyncSession, principal: Principal) -> ApiToken | None:
    """The token that acts; None for a browser."""
    if principal.token_id is None:
        return None
    found = await repository.get_api_token(session, principal.token_id)
    assert found is not None
    return found


async def create_token(
    session: AsyncSession,
    *,
    user_id: UUID,
    workspace_id: UUID,
    name: str,
    scopes: list[str],
    expires_in_days: float | None,
    origin: str = "person",
    ends_with: ApiToken | None = None,
) -> tuple[ApiToken, str]:
    """The row and the token itself, which is shown once. Acts in `workspace_id` afterwards.

    ends_with: a token that the new one must not outlive.
    """
    await assume(session, user_id=user_id, workspace_id=workspace_id)
    if await repository.get_membership(session, workspace_id, user_id) is None:
        raise NotFoundError("There is no such workspace, or you are not a member")
    token = new_token(API_TOKEN_PREFIX)
    ends = [utcnow() + timedelta(days=expires_in_days)] if expires_in_days is not None else []
    if ends_with is not None and ends_with.expires_at is not None:
        ends.append(ends_with.expires_at)
    row = ApiToken(
        workspace_id=workspace_id,
        user_id=user_id,
        name=name,
        origin=origin,
        hint=token[-4:],
        token_hash=token_hash(token),
        scopes=sorted(set(scopes)),
        expires_at=min(ends, default=None),
    )
    session.add(row)
    await session.flush()
    await session.refresh(row)
    expires = row.expires_at.isoformat() if row.expires_at is not None else None
    facts = {"name": name, "hint": row.hint, "scopes": row.scopes, "expires_at": expires, "origin": origin}
    await record(session, "token.created", "token", row.id, facts)
    return row, token


async def replace_up_token(session: AsyncSession, user_id: UUID, workspace_id: UUID) -> str:
    """The token that `brightrun up` prints: 24 hours, and the last start's ends."""
    await assume(session, user_id=user_id, workspace_id=workspace_id)
    await repository.revoke_tokens_of(session, workspace_id, user_id, utcnow(), origin="up")
    _row, token = await create_token(
        session,
        user_id=user_id,
        workspace_id=workspace_id,
        name="brightrun up",
        scopes=["*"],
        expires_in_days=1,
        origin="up",
    )
    return token


async def revoke_token(session: AsyncSession, principal: Principal, token_id: UUID) -> ApiToken:
    """One's own, or anyone's for whoever manages the workspace."""
    anyone = Permission.WORKSPACE_MANAGE in principal.permissions
    row = await repository.revoke_api_token(session, token_id, None if anyone else principal.user_id, utcnow())
    if row is None:
        raise NotFoundError("There is no such token")
    owner = await repository.get_user(session, row.user_id)
    facts = {"name": row.name, "hint": row.hint, "of": owner.email if owner is not None else None}
    await record(session, "token.revoked", "token", row.id, facts)
    return row
