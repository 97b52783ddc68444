"""UUIDv7 made in Python (RFC 9562 §5.7): PostgreSQL 16 and 17 cannot make them."""

import secrets
import threading
import time
from uuid import UUID

_lock = threading.Lock()
_last = 0


def uuid7() -> UUID:
    """A new UUIDv7, strictly increasing within this process even inside one millisecond.

    48 bits of Unix milliseconds, 12 bits of sub-millisecond fraction (RFC 9562 §6.2 method 3), 62 random bits.
    """
    global _last  # noqa: PLW0603
    nanoseconds = time.time_ns()
    stamp = (nanoseconds // 1_000_000 << 12) | (nanoseconds % 1_000_000 * 4096 // 1_000_000)
    with _lock:
        stamp = max(stamp, _last + 1)
        _last = stamp
    high = (stamp >> 12 << 16) | 0x7000 | (stamp & 0xFFF)
    low = (0b10 << 62) | secrets.randbits(62)
    return UUID(int=(high << 64) | low)
