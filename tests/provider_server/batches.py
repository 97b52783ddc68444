"""Message Batches: created at once, ended later, results in any order."""

import random
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from provider_server.messages import Refused, invalid
from provider_server.options import Options

CUSTOM_ID = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")
MOST = 100_000


@dataclass
class Batch:
    """results: JSONL lines, made when it ends. counts: what it ended with."""

    id: str
    requests: list[dict[str, Any]]
    made: float = field(default_factory=time.monotonic)
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    cancelled: bool = False
    ended_at: datetime | None = None
    results: list[bytes] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def told(self, base_url: str) -> dict[str, Any]:
        status = "ended" if self.ended_at else "canceling" if self.cancelled else "in_progress"
        none = dict.fromkeys(("succeeded", "errored", "canceled", "expired"), 0)
        counts = (
            {"processing": 0, **none, **self.counts} if self.ended_at else {"processing": len(self.requests), **none}
        )
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": status,
            "request_counts": counts,
            "created_at": self.created_at.isoformat(),
            "expires_at": (self.created_at + timedelta(hours=24)).isoformat(),
            "ended_at": self.ended_at.isoformat() if self.ended_at else None,
            "cancel_initiated_at": self.created_at.isoformat() if self.cancelled else None,
            "archived_at": None,
            "results_url": f"{base_url}/v1/messages/batches/{self.id}/results" if self.ended_at else None,
        }

    def end(self, answer: Any, rng: random.Random) -> None:
        """answer: (params) → ("succeeded", message) | ("errored", error) | ("expired", None)."""
        for asked in self.requests:
            kind, value = ("canceled", None) if self.cancelled else answer(asked["params"])
            result: dict[str, Any] = {"type": kind}
            if kind == "succeeded":
                result["message"] = value
            elif kind == "errored":
                result["error"] = value
            self.counts[kind] = self.counts.get(kind, 0) + 1
            self.results.append(orjson.dumps({"custom_id": asked["custom_id"], "result": result}))
        rng.shuffle(self.results)
        self.ended_at = datetime.now(UTC)


def check(body: Any) -> list[dict[str, Any]]:
    requests = body.get("requests") if isinstance(body, dict) else None
    if not isinstance(requests, list) or not requests:
        raise invalid("requests: Field required")
    if len(requests) > MOST:
        raise Refused(413, "request_too_large", f"A batch has at most {MOST} requests")
    seen: set[str] = set()
    for position, asked in enumerate(requests):
        name = asked.get("custom_id") if isinstance(asked, dict) else None
        if not isinstance(name, str) or not CUSTOM_ID.match(name):
            raise invalid(f"requests.{position}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'")
        if name in seen:
            raise invalid(f"requests.{position}.custom_id: '{name}' is not unique")
        seen.add(name)
        if not isinstance(asked.get("params"), dict):
            raise invalid(f"requests.{position}.params: Field required")
    return requests


def page(batches: list[Batch], query: dict[str, list[str]], base_url: str) -> dict[str, Any]:
    """Newest first, as the real list."""
    limit = int(query.get("limit", ["20"])[0])
    if not 1 <= limit <= 1000:
        raise invalid("limit: Input should be between 1 and 1000")
    ordered = sorted(batches, key=lambda batch: batch.made, reverse=True)
    if (after := query.get("after_id", [None])[0]) is not None:
        position = next((index for index, batch in enumerate(ordered) if batch.id == after), None)
        ordered = ordered[position + 1 :] if position is not None else []
    shown = ordered[:limit]
    return {
        "data": [batch.told(base_url) for batch in shown],
        "has_more": len(ordered) > len(shown),
        "first_id": shown[0].id if shown else None,
        "last_id": shown[-1].id if shown else None,
    }


def gone_missing(batch: Batch, options: Options) -> bool:
    """Just created, and not known everywhere yet."""
    return time.monotonic() - batch.made < options.batch_missing_s
