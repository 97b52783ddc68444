"""What has ended is deleted: sessions, links, tokens and invitations after a month, counts of attempts after a day."""

from datetime import timedelta

from brightrun.accounts import repository
from brightrun.clock import utcnow
from brightrun.logs import get_logger
from brightrun.queue import registry, schedule

log = get_logger(__name__)


@schedule("23 * * * *", name="accounts.sweep")
async def sweep(platform: registry.TaskPlatform) -> None:
    async with platform.db.transaction() as session:
        counts = await repository.sweep_ended(session)
        counts["rate_limits"] = await repository.sweep_rate_limits(session, utcnow() - timedelta(days=1))
    if any(counts.values()):
        log.info("deleted what had ended", **counts)
