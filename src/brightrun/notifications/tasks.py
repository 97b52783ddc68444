"""Old notifications are deleted."""

from datetime import timedelta

from brightrun.clock import utcnow
from brightrun.notifications import repository
from brightrun.queue import registry, schedule

KEEP_DAYS = 90


@schedule("41 3 * * *", name="notifications.delete_old")
async def delete_old_notifications(platform: registry.TaskPlatform) -> None:
    before = utcnow() - timedelta(days=KEEP_DAYS)
    async with platform.db.transaction() as session:
        workspaces = await repository.workspaces_with_older(session, before)
    for workspace_id in workspaces:
        async with platform.db.transaction(workspace_id=workspace_id) as session:
            await repository.delete_older(session, before)
