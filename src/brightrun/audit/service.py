"""Write the audit log, in the transaction of the act itself: what was rolled back was not done."""

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.audit.tables import AuditEntry


async def record(
    session: AsyncSession,
    action: str,
    target_kind: str,
    target_id: UUID | str | None,
    details: dict[str, Any] | None = None,
) -> None:
    """Note that whoever the transaction belongs to did `action` to a target.

    action: `dataset.deleted`, `member.role_changed`. target_kind: `dataset`, `member`. details: JSON-able facts that
    the target itself does not keep (the old role, the reason); never a secret.

    Raises LookupError for a transaction that belongs to nobody.
    """
    user_id, workspace_id = session.info.get("user_id"), session.info.get("workspace_id")
    if user_id is None and workspace_id is None:
        raise LookupError(f"{action} cannot be noted: the transaction has neither a user nor a workspace")
    session.add(
        AuditEntry(
            user_id=user_id,
            workspace_id=workspace_id,
            action=action,
            target_kind=target_kind,
            target_id=str(target_id) if target_id is not None else None,
            details=details or {},
        )
    )
    await session.flush()
