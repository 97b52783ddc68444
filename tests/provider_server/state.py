"""What the server knows about what it was asked. It is the truth that a client's ledger is compared with."""

import hashlib
from collections import Counter, deque
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any


@dataclass
class State:
    """counts: see `told`. bodies: SHA-256 → how often it was admitted (neither throttled nor rejected)."""

    counts: Counter[str] = field(default_factory=Counter)
    bodies: Counter[str] = field(default_factory=Counter)
    usd: Decimal = Decimal(0)
    unpriced: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    first_at: float | None = None
    last_at: float | None = None
    recent: deque[dict[str, Any]] = field(default_factory=deque)
    cached: dict[str, float] = field(default_factory=dict)

    def note(self, digest: str, entry: dict[str, Any], keep: int) -> None:
        self.bodies[digest] += 1
        if keep:
            self.recent.append(entry)
            while len(self.recent) > keep:
                self.recent.popleft()

    def told(self) -> dict[str, Any]:
        """requests: to messages or chat completions, all that came. admitted: neither throttled nor rejected; the
        provider did (and charges) their work. distinct: different bodies among these; admitted − distinct is what
        was bought twice. answered: whole answers that left. usd: exact."""
        admitted = sum(self.bodies.values())
        return {
            **{name: self.counts[name] for name in ("requests", "answered", "throttled", "overloaded", "rejected")},
            "admitted": admitted,
            "distinct": len(self.bodies),
            "counts": dict(self.counts),
            "usd": str(self.usd),
            "unpriced": self.unpriced,
            "in_flight": self.in_flight,
            "peak_in_flight": self.peak_in_flight,
            "first_at": self.first_at,
            "last_at": self.last_at,
        }


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
