"""Write the audit log, in the transaction of the act itself: what was rolled back was not done."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.audit.tables import AuditEntry
from brightrun.db.session import assume

_EMAIL = text("select email from users where id = :user_id")


async def record(
    session: AsyncSession,
    action: str,
    target_kind: str,
    target_id: UUID | str | None,
    details: dict[str, Any] | None = None,
) -> None:
    """Note that whoever the transaction belongs to did `action` to a target.

    action: `dataset.deleted`, `member.role_changed`. target_kind: `dataset`, `member`. details: JSON-able facts that
    the target itself does not keep (the old role, the reason); never a secret. An act by API token names the token.

    Raises LookupError for a transaction that belongs to nobody.
    """
    user_id, workspace_id = session.info.get("user_id"), session.info.get("workspace_id")
    if user_id is None and workspace_id is None:
        raise LookupError(f"{action} cannot be noted: the transaction has neither a user nor a workspace")
    by_token = session.info.get("token")
    session.add(
        AuditEntry(
            user_id=user_id,
            actor=await session.scalar(_EMAIL, {"user_id": user_id}) if user_id is not None else None,
            workspace_id=workspace_id,
            action=action,
            target_kind=target_kind,
            target_id=str(target_id) if target_id is not None else None,
            details=(details or {}) | ({"by_token": by_token} if by_token else {}),
        )
    )
    await session.flush()


async def record_in_each(
    session: AsyncSession,
    workspace_ids: Iterable[UUID],
    action: str,
    target_kind: str,
    target_id: UUID | str | None,
    details: dict[str, Any] | None = None,
) -> None:
    """As `record`, once in each workspace: what someone does to their account concerns all they belong to."""
    user_id, here = session.info.get("user_id"), session.info.get("workspace_id")
    for workspace_id in workspace_ids:
        await assume(session, user_id=user_id, workspace_id=workspace_id)
        await record(session, action, target_kind, target_id, details)
    await assume(session, user_id=user_id, workspace_id=here)
