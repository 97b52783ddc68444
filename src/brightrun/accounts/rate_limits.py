"""Counts of attempts in fixed windows, in the database, so that every server process sees the same count."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.clock import utcnow
from brightrun.db.session import Database
from brightrun.errors import RateLimitedError

WINDOW = timedelta(minutes=15)
_LONGEST_KEY = 300


def _window(now: datetime) -> datetime:
    seconds = int(WINDOW.total_seconds())
    return datetime.fromtimestamp(int(now.timestamp()) // seconds * seconds, UTC)


async def hit(db: Database, keys: dict[str, int]) -> None:
    """Count one attempt under each key, and raise RateLimitedError when a key passes its limit.

    keys: key → attempts allowed in 15 minutes. Runs in a transaction of its own, so that an attempt that fails counts.
    """
    async with db.transaction() as session:
        await count(session, keys)


async def count(session: AsyncSession, keys: dict[str, int]) -> None:
    """As `hit`, in the caller's transaction: only what that commits counts."""
    now = utcnow()
    start = _window(now)
    limits = {key[:_LONGEST_KEY]: limit for key, limit in keys.items()}
    # A refused attempt adds no rows: a flood of invented accounts from one address stays within the address's limit.
    used = await session.execute(
        text("select key, hits from rate_limits where window_start = :start and key = any(:keys)"),
        {"start": start, "keys": list(limits)},
    )
    if any(hits >= limits[key] for key, hits in used):
        wait = int((start + WINDOW - now).total_seconds()) + 1
        raise RateLimitedError(f"Too many attempts. Try again in {max(1, wait // 60)} min", retry_after_s=wait)
    await session.execute(
        text(
            "insert into rate_limits (key, window_start, hits)"
            " select key, :start, 1 from unnest(cast(:keys as text[])) as key"
            " on conflict (key, window_start) do update set hits = rate_limits.hits + 1"
        ),
        {"start": start, "keys": sorted(limits)},  # Sorted: two requests lock in one order.
    )


async def give_back(db: Database, keys: dict[str, int]) -> None:
    """Take one attempt back, after a success: what is limited is failing."""
    async with db.transaction() as session:
        await session.execute(
            text(
                "update rate_limits set hits = hits - 1 where hits > 0 and window_start = :start and key in"
                " (select key from rate_limits where window_start = :start and key = any(:keys)"
                " order by key for update)"
            ),
            {"start": _window(utcnow()), "keys": [key[:_LONGEST_KEY] for key in keys]},
        )
