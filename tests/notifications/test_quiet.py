"""Quiet hours, by the clock of the member."""

from datetime import UTC, datetime, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brightrun.notifications.quiet import due, timezones

NIGHT = (time(22), time(7))


@pytest.mark.parametrize(
    ("now", "hours", "zone", "expected"),
    [
        ("2026-11-28T12:00", NIGHT, "UTC", "2026-11-28T12:00"),
        ("2026-11-28T22:00", NIGHT, "UTC", "2026-11-29T07:00"),
        ("2026-11-28T03:00", NIGHT, "UTC", "2026-11-28T07:00"),
        ("2026-11-28T07:00", NIGHT, "UTC", "2026-11-28T07:00"),
        ("2026-11-28T21:30", NIGHT, "Europe/Berlin", "2026-11-29T06:00"),
        ("2026-11-28T05:00", NIGHT, "America/New_York", "2026-11-28T12:00"),
        ("2026-11-28T13:00", (time(12), time(14)), "UTC", "2026-11-28T14:00"),
        ("2026-11-28T15:00", (time(12), time(14)), "UTC", "2026-11-28T15:00"),
        # Clocks go from 2:00 to 3:00 in that night.
        ("2026-03-29T00:30", (time(1), time(2, 30)), "Europe/Berlin", "2026-03-29T01:30"),
    ],
)
def test_mail_waits_until_the_quiet_hours_end(now: str, hours: tuple[time, time], zone: str, expected: str) -> None:
    at = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert due(at, *hours, zone) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),
    st.times(),
    st.times(),
    st.sampled_from(timezones()),
)
def test_mail_is_never_early_nor_later_than_a_day(now: datetime, start: time, end: time, zone: str) -> None:
    at = due(now, start, end, zone)
    assert 0 <= (at - now).total_seconds() <= 25 * 3600 + 3600


def test_without_quiet_hours_nothing_waits() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert due(now, None, None, "UTC") == now
