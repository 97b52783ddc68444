"""The one clock. Everything that asks for the time asks here, so that a test can hold it still."""

from datetime import UTC, datetime


def utcnow() -> datetime:
    """Now, timezone-aware, UTC."""
    return datetime.now(UTC)
