"""How much a workspace may store, and how many jobs it may have at work at once.

Rooms that store bytes of users add what they hold to `usage_sources`.
"""

from collections.abc import Callable
from uuid import UUID

from sqlalchemy import ScalarSelect, select
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts import repository
from brightrun.accounts.schemas import StorageOut
from brightrun.errors import StorageFullError
from brightrun.settings import Settings

UsageSource = Callable[[], ScalarSelect[int]]

usage_sources: list[UsageSource] = []
"""Each asks how many bytes the session's workspace has stored in its room; all are asked in one query."""


async def quota_bytes(session: AsyncSession, settings: Settings, workspace_id: UUID) -> int | None:
    """The workspace's own quota, else the setting's; None means no limit."""
    own = await repository.workspace_quota(session, workspace_id)
    return (settings.workspace_quota_bytes if own is None else own) or None


async def used_bytes(session: AsyncSession) -> int:
    answers = (await session.execute(select(*(source() for source in usage_sources)))).one()
    return sum(int(answer) for answer in answers)


async def storage_of(session: AsyncSession, settings: Settings, workspace_id: UUID) -> StorageOut:
    """Used and allowed. The transaction must act in the workspace."""
    own = await repository.workspace_quota(session, workspace_id)
    return StorageOut(
        used_bytes=await used_bytes(session),
        quota_bytes=(settings.workspace_quota_bytes if own is None else own) or None,
        own_quota=own is not None,
    )


async def running_jobs(session: AsyncSession, settings: Settings, workspace_id: UUID) -> tuple[int | None, bool]:
    """(jobs that the workspace may have at work at once, None: any number; whether it is a limit of its own)."""
    own = await repository.workspace_running_jobs(session, workspace_id)
    return (settings.workspace_running_jobs if own is None else own) or None, own is not None


async def reserve(session: AsyncSession, settings: Settings, workspace_id: UUID, size: int) -> None:
    """Make sure that `size` more bytes fit, until this transaction ends. Raises StorageFullError with the numbers."""
    await repository.lock_quota(session, workspace_id)
    quota = await quota_bytes(session, settings, workspace_id)
    if quota is None:
        return
    used = await used_bytes(session)
    if used + size > quota:
        raise StorageFullError(
            f"The file of {size:,} bytes does not fit: this workspace has stored {used:,} of the {quota:,} bytes it "
            f"may. Deleted datasets count until they are purged. Make room, or ask for a larger quota.",
            code="quota_exceeded",
            details={"size": size, "used": used, "quota": quota},
        )
