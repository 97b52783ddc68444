"""Counts of attempts in fixed windows, in the database, so that every server process sees the same count."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from brightrun.clock import utcnow
from brightrun.db.session import Database
from brightrun.errors import RateLimitedError

WINDOW = timedelta(minutes=15)


def _window(now: datetime) -> datetime:
    seconds = int(WINDOW.total_seconds())
    return datetime.fromtimestamp(int(now.timestamp()) // seconds * seconds, UTC)


async def hit(db: Database, keys: dict[str, int]) -> None:
    """Count one attempt under each key, and raise RateLimitedError when a key passes its limit.

    keys: key → attempts allowed in 15 minutes. Runs in a transaction of its own: a refused attempt counts as well.
    """
    now = utcnow()
    start = _window(now)
    over = False
    async with db.transaction() as session:
        await session.execute(
            text("delete from rate_limits where window_start < :old"), {"old": start - timedelta(days=1)}
        )
        for key, limit in sorted(keys.items()):
            hits = await session.scalar(
                text(
                    "insert into rate_limits (key, window_start, hits) values (:key, :start, 1)"
                    " on conflict (key, window_start) do update set hits = rate_limits.hits + 1 returning hits"
                ),
                {"key": key[:300], "start": start},
            )
            over = over or (hits or 0) > limit
    if over:
        wait = int((start + WINDOW - now).total_seconds()) + 1
        raise RateLimitedError(
            f"Too many attempts. Try again in {max(1, wait // 60)} min", retry_after_s=wait, details=None
        )


async def forget(db: Database, key: str) -> None:
    """Start `key` anew, after a success."""
    async with db.transaction() as session:
        await session.execute(text("delete from rate_limits where key = :key"), {"key": key[:300]})
