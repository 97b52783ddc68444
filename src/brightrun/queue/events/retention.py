"""Events are for live pages: they are kept long enough to reconnect, then deleted."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import text

from brightrun.clock import utcnow
from brightrun.queue.registry import TaskPlatform, schedule

KEEP_S = 48 * 3600
REPLAYABLE_S = KEEP_S - 3600
"""A cursor older than this may have lost events to the retention: its reader is told to reload."""

_EXPIRED = text("select * from lookup_expired_events(:before)")
_DELETE = text(
    "delete from events where id in ("
    " select id from events where workspace_id = :workspace_id and created_at < :before limit 10000)"
)


@schedule("23 * * * *", name="events.delete_old")
async def delete_old_events(platform: TaskPlatform) -> None:
    before = utcnow() - timedelta(seconds=KEEP_S)
    async with platform.db.transaction() as session:
        workspaces: list[UUID] = list((await session.execute(_EXPIRED, {"before": before})).scalars())
    for workspace_id in workspaces:
        deleted = 10_000
        while deleted == 10_000:
            async with platform.db.transaction(workspace_id=workspace_id) as session:
                result = await session.execute(_DELETE, {"workspace_id": workspace_id, "before": before})
                deleted = result.rowcount  # type: ignore[attr-defined]
