"""Proving who one is: passwords, one-time links, browser sessions, bearer tokens."""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts import passwords, repository
from brightrun.accounts.roles import PERMISSIONS, Permission, Role, permitted
from brightrun.accounts.tables import AuthSession, LinkPurpose, SigninLink, User, Workspace, WorkspaceMember
from brightrun.accounts.tokens import new_token, token_hash
from brightrun.audit.service import record, record_in_each
from brightrun.clock import utcnow
from brightrun.db.session import assume
from brightrun.errors import ConflictError, ForbiddenError, InvalidInputError, UnauthenticatedError
from brightrun.ids import uuid7

_EMAIL = re.compile(r"[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+")
SIGNIN_LINK_LIFE = timedelta(hours=24)
RESET_LINK_LIFE = timedelta(hours=1)
# Written at most this often, so that reading a page does not write a row.
_TOUCH_EVERY = timedelta(minutes=5)


@dataclass(frozen=True)
class Principal:
    """Who acts, and where. Exactly one of session_id and token_id is set."""

    user_id: UUID
    workspace_id: UUID
    role: Role
    permissions: frozenset[Permission]
    email: str
    name: str
    theme: str
    session_id: UUID | None = None
    token_id: UUID | None = None


def require(principal: Principal, permission: Permission) -> None:
    """Raises ForbiddenError that says whether the role or the token's scopes are too narrow."""
    if permission in principal.permissions:
        return
    if permission in PERMISSIONS[principal.role]:
        raise ForbiddenError(f"This token may not do this: it needs the scope {permission.value!r}", code="scope")
    raise ForbiddenError(
        f"Your role in this workspace, {principal.role.value}, may not do this. An admin can change it", code="role"
    )


def clean_email(email: str) -> str:
    """Trimmed. Raises InvalidInputError for what cannot be an address."""
    email = email.strip()
    if len(email) > 254 or not _EMAIL.fullmatch(email):
        raise InvalidInputError(
            "That is not an e-mail address", code="validation_error", details={"email": ["not an e-mail address"]}
        )
    return email


async def create_user(
    session: AsyncSession, *, email: str, name: str, password: str | None = None, oidc_subject: str | None = None
) -> User:
    """A new user with no workspace yet; the transaction acts as the new user afterwards."""
    email = clean_email(email)
    if await repository.lookup_user_by_email(session, email) is not None:
        raise ConflictError("There is an account with this e-mail already: sign in instead", code="email_taken")
    hashed = None
    if password is not None:
        passwords.check_strength(password)
        hashed = await passwords.hash_password(password)
    user = User(id=uuid7(), email=email, name=name.strip() or email, password_hash=hashed, oidc_subject=oidc_subject)
    await assume(session, user_id=user.id)
    session.add(user)
    try:
        await session.flush()
    except IntegrityError as error:
        raise ConflictError(
            "There is an account with this e-mail already: sign in instead", code="email_taken"
        ) from error
    return user


async def create_workspace(session: AsyncSession, user_id: UUID, name: str) -> Workspace:
    """A workspace that `user_id` owns; the transaction acts in it afterwards."""
    workspace = Workspace(id=uuid7(), name=name.strip())
    await assume(session, user_id=user_id, workspace_id=workspace.id)
    session.add(workspace)
    await session.flush()
    session.add(WorkspaceMember(workspace_id=workspace.id, user_id=user_id, role=Role.OWNER))
    await record(session, "workspace.created", "workspace", workspace.id, {"name": workspace.name})
    await session.flush()
    return workspace


async def note_account(session: AsyncSession, user_id: UUID, action: str, details: dict[str, Any]) -> None:
    """Into the audit log of every workspace that the user belongs to. The transaction must act as the user."""
    workspaces = [workspace.id for workspace, _role in await repository.list_workspaces(session, user_id)]
    await record_in_each(session, workspaces, action, "account", user_id, details)


async def start_session(
    session: AsyncSession,
    user: User,
    *,
    days: int,
    user_agent: str | None,
    address: str | None,
    by: str,
    workspace_id: UUID | None = None,
) -> tuple[AuthSession, str]:
    """Sign a browser in; the row and the token for its cookie. The transaction must act as the user.

    by: what proved who it is, for the audit log. workspace_id: which one to look at first; default the one that the
    user has belonged to longest.
    """
    token = new_token()
    if workspace_id is None:
        workspaces = await repository.list_workspaces(session, user.id)
        workspace_id = workspaces[0][0].id if workspaces else None
    row = AuthSession(
        user_id=user.id,
        current_workspace_id=workspace_id,
        token_hash=token_hash(token),
        expires_at=utcnow() + timedelta(days=days),
        user_agent=(user_agent or "")[:300] or None,
        address=address,
    )
    session.add(row)
    await session.flush()
    await note_account(session, user.id, "account.signed_in", {"by": by, "address": address})
    return row, token


async def note_failed_signin(session: AsyncSession, email: str, address: str) -> None:
    """A wrong password for an account that exists, for those who watch over its workspaces."""
    user_id = await repository.lookup_user_by_email(session, email.strip())
    if user_id is not None:
        await assume(session, user_id=user_id)
        await note_account(session, user_id, "account.sign_in_failed", {"address": address})


async def check_password(session: AsyncSession, email: str, password: str) -> User:
    """The user, or UnauthenticatedError in the same words and time for a wrong e-mail and a wrong password."""
    user_id = await repository.lookup_user_by_email(session, email.strip())
    user = None
    if user_id is not None:
        await assume(session, user_id=user_id)
        user = await repository.get_user(session, user_id)
    right = await passwords.verify_password(password, user.password_hash if user else None)
    if user is None or not right or user.disabled_at is not None:
        raise UnauthenticatedError("E-mail or password is wrong", code="bad_credentials")
    return user


async def make_link(session: AsyncSession, user_id: UUID, purpose: LinkPurpose) -> str:
    """The token of a new one-time link; it voids the ones made before for the same purpose."""
    now = utcnow()
    await assume(session, user_id=user_id)
    await repository.void_links(session, user_id, purpose, now)
    token = new_token()
    life = SIGNIN_LINK_LIFE if purpose is LinkPurpose.SIGN_IN else RESET_LINK_LIFE
    session.add(SigninLink(user_id=user_id, purpose=purpose, token_hash=token_hash(token), expires_at=now + life))
    await session.flush()
    await note_account(session, user_id, "account.link_created", {"purpose": purpose.value})
    return token


async def use_link(session: AsyncSession, token: str, purpose: LinkPurpose) -> User:
    """Use a one-time link up. Raises UnauthenticatedError when it does not work (any more)."""
    found = await repository.lookup_signin_link(session, token_hash(token))
    if found is not None:
        link_id, user_id = found
        await assume(session, user_id=user_id)
        if await repository.consume_link(session, link_id, purpose, utcnow()) is not None:
            user = await repository.get_user(session, user_id)
            if user is not None and user.disabled_at is None:
                return user
    raise UnauthenticatedError(
        "This link was used already or has expired. `brightrun signin-link` makes another", code="link_invalid"
    )


async def reset_password(session: AsyncSession, token: str, password: str) -> User:
    """Every browser is signed out and every other link is void. API tokens go on: programs know no password, and the
    settings list and revoke them.
    """
    passwords.check_strength(password)
    user = await use_link(session, token, LinkPurpose.PASSWORD_RESET)
    await _new_password(session, user, password)
    await note_account(session, user.id, "account.password_reset", {})
    return user


async def _new_password(session: AsyncSession, user: User, password: str, *, but: UUID | None = None) -> None:
    user.password_hash = await passwords.hash_password(password)
    await repository.revoke_sessions(session, user.id, utcnow(), but=but)
    await repository.void_links(session, user.id, None, utcnow())
    await session.flush()


async def adopt_identity(session: AsyncSession, user: User, oidc_subject: str) -> None:
    """Bind an account to the provider's identity, found by the e-mail that the provider vouches for.

    Nobody vouched for the address when the account was made: whoever made it may be another person, who waits for its
    owner to come. So all that they could come back with ends: the password, browsers, links and API tokens.
    """
    now = utcnow()
    user.oidc_subject, user.password_hash = oidc_subject, None
    await repository.revoke_sessions(session, user.id, now)
    await repository.void_links(session, user.id, None, now)
    for workspace, _role in await repository.list_workspaces(session, user.id):
        await assume(session, user_id=user.id, workspace_id=workspace.id)
        await repository.revoke_tokens_of(session, workspace.id, user.id, now)
    await assume(session, user_id=user.id)
    await session.flush()
    await note_account(session, user.id, "account.single_sign_on_bound", {})


async def change_password(session: AsyncSession, principal: Principal, current: str | None, new: str) -> None:
    """Other browsers are signed out, links are void. Someone without a password yet need not give one."""
    passwords.check_strength(new)
    user = await repository.get_user(session, principal.user_id)
    assert user is not None
    if user.password_hash is not None and not await passwords.verify_password(current or "", user.password_hash):
        raise InvalidInputError(
            "The current password is wrong", code="validation_error", details={"current_password": ["is wrong"]}
        )
    await _new_password(session, user, new, but=principal.session_id)
    await note_account(session, user.id, "account.password_changed", {})


async def authenticate_session(session: AsyncSession, token: str) -> Principal:
    """Who a session cookie belongs to; the transaction acts as them, in the workspace they are looking at."""
    ended = UnauthenticatedError("Your session has ended. Sign in again", code="session_ended")
    found = await repository.lookup_session(session, token_hash(token))
    if found is None:
        raise ended
    session_id, user_id = found
    await assume(session, user_id=user_id)
    known = await repository.session_with_member(session, session_id)
    if known is None:
        raise ended
    row, user, membership = known
    now = utcnow()
    if row.revoked_at or row.expires_at <= now or user.disabled_at:
        raise ended
    if now - row.last_seen_at > _TOUCH_EVERY:
        await repository.touch_session(session, session_id, now)
    if membership is None:
        # Removed from the workspace since, or it was deleted: look at the first that is left.
        workspaces = await repository.list_workspaces(session, user_id)
        if not workspaces:
            workspace = await create_workspace(session, user_id, f"{user.name}'s workspace")
            workspaces = [(workspace, Role.OWNER)]
        row.current_workspace_id = workspaces[0][0].id
        role, workspace_id = Role(workspaces[0][1]), workspaces[0][0].id
    else:
        role, workspace_id = Role(membership.role), membership.workspace_id
    await session.flush()
    await assume(session, user_id=user_id, workspace_id=workspace_id)
    return Principal(
        user_id=user_id,
        workspace_id=workspace_id,
        role=role,
        permissions=permitted(role, None),
        email=user.email,
        name=user.name,
        theme=user.theme,
        session_id=session_id,
    )


async def authenticate_token(session: AsyncSession, token: str) -> Principal:
    """Who a bearer token acts for, in its one workspace."""
    refused = UnauthenticatedError("The API token is not valid, was revoked or has expired", code="token_invalid")
    found = await repository.lookup_api_token(session, token_hash(token))
    if found is None:
        raise refused
    token_id, user_id, workspace_id = found
    await assume(session, user_id=user_id, workspace_id=workspace_id)
    known = await repository.token_with_member(session, token_id)
    if known is None:
        raise refused
    row, user, membership = known
    now = utcnow()
    if membership is None or row.revoked_at or user.disabled_at:
        raise refused
    if row.expires_at is not None and row.expires_at <= now:
        raise refused
    if row.last_used_at is None or now - row.last_used_at > _TOUCH_EVERY:
        await repository.touch_token(session, token_id, now)
    role = Role(membership.role)
    session.info["token"] = row.name  # For the audit log.
    return Principal(
        user_id=user_id,
        workspace_id=workspace_id,
        role=role,
        permissions=permitted(role, frozenset(row.scopes)),
        email=user.email,
        name=user.name,
        theme=user.theme,
        token_id=token_id,
    )
