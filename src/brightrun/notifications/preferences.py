"""What a member wants to be told of, and how: read with its defaults, saved whole."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.notifications import repository
from brightrun.notifications.schemas import PreferencesIn, QuietHours
from brightrun.notifications.tables import NotificationType


async def read(session: AsyncSession, user_id: UUID) -> PreferencesIn:
    """Without any saved: everything in the panel, nothing by mail."""
    row = await repository.preference_of(session, user_id)
    if row is None:
        return PreferencesIn()
    quiet = None
    if row.quiet_from is not None and row.quiet_to is not None:
        quiet = QuietHours(
            start=row.quiet_from, end=row.quiet_to, timezone=row.timezone, urgent_at_once=row.urgent_at_once
        )
    known = set(NotificationType)
    return PreferencesIn(
        muted=[NotificationType(name) for name in row.muted if name in known],
        email=[NotificationType(name) for name in row.email if name in known],
        quiet_hours=quiet,
    )


async def save(session: AsyncSession, user_id: UUID, given: PreferencesIn) -> None:
    """Replace what was saved. Mail that waits for the end of earlier quiet hours keeps its time."""
    quiet = given.quiet_hours
    await repository.save_preference(
        session,
        {
            "workspace_id": session.info["workspace_id"],
            "user_id": user_id,
            "muted": sorted(set(given.muted)),
            "email": sorted(set(given.email)),
            "quiet_from": quiet.start if quiet else None,
            "quiet_to": quiet.end if quiet else None,
            "timezone": quiet.timezone if quiet else "UTC",
            "urgent_at_once": quiet.urgent_at_once if quiet else False,
        },
    )
