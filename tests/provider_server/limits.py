"""Token buckets as the provider keeps them, and the headers that tell of them."""

import math
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from provider_server.options import Options


@dataclass(slots=True)
class TokenBucket:
    rate: float
    size: float
    level: float
    at: float = field(default_factory=time.monotonic)

    def refill(self) -> None:
        now = time.monotonic()
        self.level = min(self.size, self.level + (now - self.at) * self.rate)
        self.at = now


class Buckets:
    """Requests, input tokens and output tokens. A request is admitted when all three have room."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.buckets: dict[str, TokenBucket] = {}
        self.rebuild()

    def rebuild(self) -> None:
        sizes = {
            "requests": (self.options.rate, self.options.burst),
            "input-tokens": (self.options.input_rate, (self.options.input_rate or 0) * 60),
            "output-tokens": (self.options.output_rate, (self.options.output_rate or 0) * 60),
        }
        self.buckets = {name: TokenBucket(rate, size, size) for name, (rate, size) in sizes.items() if rate is not None}

    def admit(self, input_tokens: int) -> str | None:
        """The name of the bucket that is empty, or None: then one request and its input were taken out."""
        for bucket in self.buckets.values():
            bucket.refill()
        wanted = {"requests": 1, "input-tokens": input_tokens, "output-tokens": 1}
        for name, bucket in self.buckets.items():
            if bucket.level < min(wanted[name], bucket.size):
                return name
        for name, bucket in self.buckets.items():
            if name != "output-tokens":
                bucket.level -= wanted[name]
        return None

    def spend_output(self, tokens: int) -> None:
        if (bucket := self.buckets.get("output-tokens")) is not None:
            bucket.refill()
            bucket.level -= tokens

    def _limit(self, bucket: TokenBucket) -> int:
        return round(bucket.rate * 60) if self.options.limit_told == "minute" else round(bucket.size)

    def anthropic_headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        if not self.options.rate_headers:
            return headers
        for name, bucket in self.buckets.items():
            bucket.refill()
            full = datetime.now(UTC) + timedelta(seconds=max(0.0, (bucket.size - bucket.level) / bucket.rate))
            headers[f"anthropic-ratelimit-{name}-limit"] = str(self._limit(bucket))
            headers[f"anthropic-ratelimit-{name}-remaining"] = str(max(0, math.floor(bucket.level)))
            headers[f"anthropic-ratelimit-{name}-reset"] = full.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return headers

    def openai_headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        if not self.options.rate_headers:
            return headers
        for ours, theirs in (("requests", "requests"), ("input-tokens", "tokens")):
            if (bucket := self.buckets.get(ours)) is None:
                continue
            bucket.refill()
            headers[f"x-ratelimit-limit-{theirs}"] = str(self._limit(bucket))
            headers[f"x-ratelimit-remaining-{theirs}"] = str(max(0, math.floor(bucket.level)))
            headers[f"x-ratelimit-reset-{theirs}"] = _duration((bucket.size - bucket.level) / bucket.rate)
        return headers


def _duration(seconds: float) -> str:
    """As OpenAI writes it: `120ms`, `7.66s`, `2m59.56s`."""
    seconds = max(0.0, seconds)
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{rest:.2f}s" if minutes else f"{rest:.2f}s"
