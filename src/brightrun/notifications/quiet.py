"""Quiet hours: until when mail waits. Pure arithmetic of local times."""

from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones


@lru_cache(maxsize=1)
def timezones() -> tuple[str, ...]:
    """Names of time zones as `Europe/Berlin`, in order; UTC first."""
    regions = (
        "Africa/",
        "America/",
        "Antarctica/",
        "Asia/",
        "Atlantic/",
        "Australia/",
        "Europe/",
        "Indian/",
        "Pacific/",
    )
    return ("UTC", *sorted(name for name in available_timezones() if name.startswith(regions)))


def is_timezone(name: str) -> bool:
    return name in timezones()


def due(now: datetime, quiet_from: time | None, quiet_to: time | None, timezone: str) -> datetime:
    """`now`, or the end of the quiet hours it falls into. quiet_from = quiet_to means all day: the next such moment.

    On the day when clocks change an end that does not exist is taken an hour later, as clocks then show it.
    """
    if quiet_from is None or quiet_to is None:
        return now
    zone = ZoneInfo(timezone)
    local = now.astimezone(zone)
    clock = local.time().replace(tzinfo=None)
    through_midnight = quiet_from >= quiet_to
    is_quiet = clock >= quiet_from or clock < quiet_to if through_midnight else quiet_from <= clock < quiet_to
    if not is_quiet:
        return now
    day = local.date() + timedelta(days=clock >= quiet_to)
    return datetime.combine(day, quiet_to, tzinfo=zone).astimezone(UTC)
