"""All SQL of the accounts room. `lookup_*` functions run before a workspace is known, and return ids only."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, or_, select, text, update
from sqlalchemy.dialects.postgresql import aggregate_order_by, insert
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts.roles import Role
from brightrun.accounts.tables import (
    ApiToken,
    AuthSession,
    Invitation,
    SigninLink,
    User,
    Workspace,
    WorkspaceMember,
)
from brightrun.web.http import Page


async def _lookup(session: AsyncSession, function: str, argument: Any) -> Any:
    # `function` is one of the constants below, never input.
    return (await session.execute(text(f"select * from {function}(:argument)"), {"argument": argument})).one_or_none()  # noqa: S608


async def lookup_session(session: AsyncSession, token_hash: bytes) -> tuple[UUID, UUID] | None:
    """(session id, user id)."""
    row = await _lookup(session, "lookup_session", token_hash)
    return tuple(row) if row else None


async def lookup_api_token(session: AsyncSession, token_hash: bytes) -> tuple[UUID, UUID, UUID] | None:
    """(token id, user id, workspace id)."""
    row = await _lookup(session, "lookup_api_token", token_hash)
    return tuple(row) if row else None


async def lookup_signin_link(session: AsyncSession, token_hash: bytes) -> tuple[UUID, UUID] | None:
    """(link id, user id)."""
    row = await _lookup(session, "lookup_signin_link", token_hash)
    return tuple(row) if row else None


async def lookup_invitation(session: AsyncSession, token_hash: bytes) -> tuple[UUID, UUID] | None:
    """(invitation id, workspace id)."""
    row = await _lookup(session, "lookup_invitation", token_hash)
    return tuple(row) if row else None


async def lookup_user_by_email(session: AsyncSession, email: str) -> UUID | None:
    user_id: UUID | None = await session.scalar(text("select lookup_user_by_email(:email)"), {"email": email})
    return user_id


async def lookup_user_by_oidc_subject(session: AsyncSession, subject: str) -> UUID | None:
    user_id: UUID | None = await session.scalar(
        text("select lookup_user_by_oidc_subject(:subject)"), {"subject": subject}
    )
    return user_id


async def lookup_first_owner(session: AsyncSession) -> tuple[UUID, UUID] | None:
    """(user id, workspace id) of whoever owned a workspace first."""
    row = (await session.execute(text("select * from lookup_first_owner()"))).one_or_none()
    return tuple(row) if row else None


async def get_user(session: AsyncSession, user_id: UUID) -> User | None:
    return await session.get(User, user_id)


async def get_auth_session(session: AsyncSession, session_id: UUID) -> AuthSession | None:
    return await session.get(AuthSession, session_id)


async def get_api_token(session: AsyncSession, token_id: UUID) -> ApiToken | None:
    return await session.get(ApiToken, token_id)


async def session_with_member(
    session: AsyncSession, session_id: UUID
) -> tuple[AuthSession, User, WorkspaceMember | None] | None:
    """A browser's session, its user, and their membership in the workspace it looks at. Asked for every page."""
    where, workspace_id = AuthSession.id == session_id, AuthSession.current_workspace_id
    found: tuple[AuthSession, User, WorkspaceMember | None] | None
    found = await _with_member(session, AuthSession, where, workspace_id)
    return found


async def token_with_member(
    session: AsyncSession, token_id: UUID
) -> tuple[ApiToken, User, WorkspaceMember | None] | None:
    """An API token, its user, and their membership in its workspace. Asked for every call."""
    found: tuple[ApiToken, User, WorkspaceMember | None] | None
    found = await _with_member(session, ApiToken, ApiToken.id == token_id, ApiToken.workspace_id)
    return found


async def _with_member(session: AsyncSession, proof: Any, where: Any, workspace_id: Any) -> Any:
    there = (Workspace.id == workspace_id) & Workspace.deleted_at.is_(None)
    belongs = (WorkspaceMember.workspace_id == Workspace.id) & (WorkspaceMember.user_id == proof.user_id)
    found = await session.execute(
        select(proof, User, WorkspaceMember)
        .join(User, User.id == proof.user_id)
        .outerjoin(Workspace, there)
        .outerjoin(WorkspaceMember, belongs)
        .where(where)
    )
    row = found.one_or_none()
    return tuple(row) if row is not None else None


async def list_sessions(session: AsyncSession, user_id: UUID, now: datetime) -> list[AuthSession]:
    """A user's browsers that are signed in, the one seen last first."""
    rows = await session.scalars(
        select(AuthSession)
        .where(AuthSession.user_id == user_id, AuthSession.revoked_at.is_(None), AuthSession.expires_at > now)
        .order_by(AuthSession.last_seen_at.desc(), AuthSession.id.desc())
    )
    return list(rows)


async def touch_session(session: AsyncSession, session_id: UUID, now: datetime) -> None:
    # Whoever holds the row notes the same: requests of one browser must not wait for each other.
    free = select(AuthSession.id).where(AuthSession.id == session_id).with_for_update(skip_locked=True)
    await session.execute(update(AuthSession).where(AuthSession.id.in_(free)).values(last_seen_at=now))


async def touch_token(session: AsyncSession, token_id: UUID, now: datetime) -> None:
    free = select(ApiToken.id).where(ApiToken.id == token_id).with_for_update(skip_locked=True)
    await session.execute(update(ApiToken).where(ApiToken.id.in_(free)).values(last_used_at=now))


async def revoke_sessions(session: AsyncSession, user_id: UUID, now: datetime, *, but: UUID | None = None) -> None:
    """End every browser session of a user, except `but`."""
    statement = update(AuthSession).where(AuthSession.user_id == user_id, AuthSession.revoked_at.is_(None))
    if but is not None:
        statement = statement.where(AuthSession.id != but)
    await session.execute(statement.values(revoked_at=now))


async def consume_link(session: AsyncSession, link_id: UUID, purpose: str, now: datetime) -> UUID | None:
    """Use up a one-time link; the user's id, or None when it was used, has expired or is for something else."""
    return await session.scalar(
        update(SigninLink)
        .where(
            SigninLink.id == link_id,
            SigninLink.purpose == purpose,
            SigninLink.used_at.is_(None),
            SigninLink.expires_at > now,
        )
        .values(used_at=now)
        .returning(SigninLink.user_id)
    )


async def void_links(session: AsyncSession, user_id: UUID, purpose: str | None, now: datetime) -> None:
    """purpose: None voids every link of the user."""
    statement = update(SigninLink).where(SigninLink.user_id == user_id, SigninLink.used_at.is_(None))
    if purpose is not None:
        statement = statement.where(SigninLink.purpose == purpose)
    await session.execute(statement.values(used_at=now))


# Rows that have meant nothing for a while. Bare: which rows may go is said by the worker's policies, and the worker may
# read none of them.
SWEPT = ("auth_sessions", "signin_links", "api_tokens", "invitations")


async def sweep_ended(session: AsyncSession) -> dict[str, int]:
    """Delete what ended a month ago: browser sessions, links, tokens, invitations. table → rows."""
    counts = {}
    for table in SWEPT:
        done = await session.execute(text(f"delete from {table}"))  # noqa: S608 (constants)
        counts[table] = getattr(done, "rowcount", 0)
    return counts


async def sweep_rate_limits(session: AsyncSession, before: datetime) -> int:
    done = await session.execute(text("delete from rate_limits where window_start < :before"), {"before": before})
    return getattr(done, "rowcount", 0)


async def get_membership(session: AsyncSession, workspace_id: UUID, user_id: UUID) -> WorkspaceMember | None:
    return await session.scalar(
        select(WorkspaceMember)
        .join(Workspace, Workspace.id == WorkspaceMember.workspace_id)
        .where(
            WorkspaceMember.workspace_id == workspace_id,
            WorkspaceMember.user_id == user_id,
            Workspace.deleted_at.is_(None),
        )
    )


async def list_workspaces(session: AsyncSession, user_id: UUID) -> list[tuple[Workspace, str]]:
    """The user's workspaces with the role in each, oldest first."""
    rows = await session.execute(
        select(Workspace, WorkspaceMember.role)
        .join(WorkspaceMember, WorkspaceMember.workspace_id == Workspace.id)
        .where(WorkspaceMember.user_id == user_id, Workspace.deleted_at.is_(None))
        .order_by(WorkspaceMember.created_at, Workspace.id)
    )
    return [(workspace, role) for workspace, role in rows]


async def get_workspace(session: AsyncSession, workspace_id: UUID) -> Workspace | None:
    return await session.scalar(select(Workspace).where(Workspace.id == workspace_id, Workspace.deleted_at.is_(None)))


async def all_workspaces(session: AsyncSession) -> list[tuple[Workspace, list[str]]]:
    """Every workspace with the addresses of its owners, oldest first. For the owner role: others see their own."""
    emails = func.array_agg(aggregate_order_by(User.email, User.email))
    owning = (WorkspaceMember.workspace_id == Workspace.id) & (WorkspaceMember.role == Role.OWNER)
    rows = await session.execute(
        select(Workspace, emails)
        .join(WorkspaceMember, owning)
        .join(User, User.id == WorkspaceMember.user_id)
        .where(Workspace.deleted_at.is_(None))
        .group_by(Workspace.id)
        .order_by(Workspace.created_at, Workspace.id)
    )
    return [(workspace, list(owners)) for workspace, owners in rows]


async def list_members(session: AsyncSession, workspace_id: UUID, page: Page) -> tuple[list[Any], int]:
    """Rows of (WorkspaceMember, User), and how many there are."""
    where = WorkspaceMember.workspace_id == workspace_id
    total = await session.scalar(select(func.count()).select_from(WorkspaceMember).where(where))
    rows = await session.execute(
        select(WorkspaceMember, User)
        .join(User, User.id == WorkspaceMember.user_id)
        .where(where)
        .order_by(WorkspaceMember.created_at, User.id)
        .limit(page.limit)
        .offset(page.offset)
    )
    return list(rows), total or 0


async def lock_members(session: AsyncSession, workspace_id: UUID, user_ids: set[UUID]) -> list[UUID]:
    """Lock the owners and `user_ids`, and see their roles as they are now; the owners' ids.

    So that two requests cannot remove the last two owners at once, nor one act with a role that another just took away.
    """
    wanted = or_(WorkspaceMember.role == Role.OWNER, WorkspaceMember.user_id.in_(user_ids))
    rows = await session.scalars(
        select(WorkspaceMember)
        .where(WorkspaceMember.workspace_id == workspace_id, wanted)
        .order_by(WorkspaceMember.user_id)  # One order for all: no deadlock.
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return [row.user_id for row in rows if row.role == Role.OWNER]


async def find_or_add_member(
    session: AsyncSession, workspace_id: UUID, user_id: UUID, role: str
) -> tuple[WorkspaceMember, bool]:
    """The membership, locked, and whether it was made now."""
    made = await session.scalar(
        insert(WorkspaceMember)
        .values(workspace_id=workspace_id, user_id=user_id, role=role)
        .on_conflict_do_nothing()
        .returning(WorkspaceMember)
    )
    if made is not None:
        return made, True
    await lock_members(session, workspace_id, {user_id})
    found = await session.get(WorkspaceMember, (workspace_id, user_id))
    assert found is not None
    return found, False


async def list_invitations(session: AsyncSession, workspace_id: UUID, page: Page) -> tuple[list[Invitation], int]:
    where = Invitation.workspace_id == workspace_id
    total = await session.scalar(select(func.count()).select_from(Invitation).where(where))
    rows = await session.scalars(
        select(Invitation)
        .where(where)
        .order_by(Invitation.created_at.desc(), Invitation.id.desc())
        .limit(page.limit)
        .offset(page.offset)
    )
    return list(rows), total or 0


async def get_invitation(session: AsyncSession, invitation_id: UUID) -> Invitation | None:
    return await session.get(Invitation, invitation_id)


async def revoke_invitation(session: AsyncSession, invitation_id: UUID, now: datetime) -> Invitation | None:
    """Guarded: None when it was accepted, or is not there. Revoking again changes nothing."""
    return await session.scalar(
        update(Invitation)
        .where(Invitation.id == invitation_id, Invitation.accepted_at.is_(None))
        .values(revoked_at=func.coalesce(Invitation.revoked_at, now))
        .returning(Invitation)
    )


async def accept_invitation(session: AsyncSession, invitation_id: UUID, now: datetime) -> bool:
    """Guarded: two people holding the link never both win."""
    accepted = await session.scalar(
        update(Invitation)
        .where(
            Invitation.id == invitation_id,
            Invitation.accepted_at.is_(None),
            Invitation.revoked_at.is_(None),
            Invitation.expires_at > now,
        )
        .values(accepted_at=now)
        .returning(Invitation.id)
    )
    return accepted is not None


async def list_api_tokens(
    session: AsyncSession, workspace_id: UUID, user_id: UUID, page: Page
) -> tuple[list[ApiToken], int]:
    """A member's own tokens that still work."""
    where = (ApiToken.workspace_id == workspace_id, ApiToken.user_id == user_id, ApiToken.revoked_at.is_(None))
    total = await session.scalar(select(func.count()).select_from(ApiToken).where(*where))
    rows = await session.scalars(
        select(ApiToken)
        .where(*where)
        .order_by(ApiToken.created_at.desc(), ApiToken.id.desc())
        .limit(page.limit)
        .offset(page.offset)
    )
    return list(rows), total or 0


async def revoke_api_token(
    session: AsyncSession, token_id: UUID, user_id: UUID | None, now: datetime
) -> ApiToken | None:
    """Revoke a token of `user_id` (None: of anyone in the workspace)."""
    statement = update(ApiToken).where(ApiToken.id == token_id, ApiToken.revoked_at.is_(None))
    if user_id is not None:
        statement = statement.where(ApiToken.user_id == user_id)
    return await session.scalar(statement.values(revoked_at=now).returning(ApiToken))


async def revoke_tokens_of(
    session: AsyncSession, workspace_id: UUID, user_id: UUID, now: datetime, *, origin: str | None = None
) -> None:
    statement = update(ApiToken).where(
        ApiToken.workspace_id == workspace_id, ApiToken.user_id == user_id, ApiToken.revoked_at.is_(None)
    )
    if origin is not None:
        statement = statement.where(ApiToken.origin == origin)
    await session.execute(statement.values(revoked_at=now))


async def lock_quota(session: AsyncSession, workspace_id: UUID) -> None:
    """One creation at a time in a workspace, so that two cannot both take the last free bytes."""
    await session.execute(
        text("select pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"quota {workspace_id}"}
    )


async def workspace_running_jobs(session: AsyncSession, workspace_id: UUID) -> int | None:
    most: int | None = await session.scalar(select(Workspace.max_running_jobs).where(Workspace.id == workspace_id))
    return most


async def workspace_quota(session: AsyncSession, workspace_id: UUID) -> int | None:
    quota: int | None = await session.scalar(select(Workspace.storage_quota_bytes).where(Workspace.id == workspace_id))
    return quota
