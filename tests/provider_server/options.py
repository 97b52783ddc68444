"""What the server is asked to be: latency, limits, faults. Every field can be changed while it runs."""

from dataclasses import dataclass, field, fields
from typing import Any

FAULTS = (
    "429",
    "529",
    "500",
    "reset",  # The connection is reset instead of an answer; the work is done and charged.
    "hang",  # No answer ever comes; charged.
    "malformed",  # 200 with half a body; charged.
    "refusal",  # 200, stop_reason refusal, category `refusal_category`.
    "truncated",  # 200, stop_reason max_tokens, text cut inside the JSON.
    "cut_word",  # end_turn and valid JSON, but the last reply stops in the middle of a word.
    "cut_backslash",  # The same, with a lone backslash at the end.
    "schema",  # Valid JSON that does not obey the schema.
    "not_json",  # Prose instead of JSON.
    "roles",  # Obeys the schema, but two turns of the same role follow each other.
    "empty",  # Obeys the schema, with an empty turn.
    "user_last",  # Obeys the schema, but ends on a user turn.
    "escapes",  # Obeys the schema, with literal \\n in the texts.
    "overflow",  # 400: prompt is too long.
    "overflow_stop",  # 200, stop_reason model_context_window_exceeded.
    "rejected",  # 400 of another kind.
    "expired",  # Batches only.
    "errored",  # Batches only: a validation error found late.
)


@dataclass
class Options:
    """latency_s: of every answer. tail_share of them take tail_s instead.

    every: fault → N: every Nth request gets it. faults: [{"kind", "contains"?, "times"?}]: requests whose body contains
    the text get it, the first `times` times.

    rate: requests a second of a token bucket holding `burst`, None for no limit; input_rate, output_rate: tokens a
    second, of buckets that hold a minute's worth. rate_headers: whether answers tell of the buckets. remaining_told:
    the state when the request was admitted, or when its answer leaves.
    """

    latency_s: float = 0.0
    tail_share: float = 0.0
    tail_s: float = 3.0
    seed: int = 1
    every: dict[str, int] = field(default_factory=dict)
    faults: list[dict[str, Any]] = field(default_factory=list)
    refusal_category: str | None = "general_harms"

    rate: float | None = None
    burst: int = 20
    input_rate: float | None = None
    output_rate: float | None = None
    rate_headers: bool = True
    limit_told: str = "minute"  # minute: tokens a minute; burst: what the bucket holds.
    remaining_told: str = "admission"  # or "reply"
    retry_after_s: float | None = 1

    beta_only: list[str] = field(default_factory=lambda: ["claude-older-beta"])
    unstructured: list[str] = field(default_factory=lambda: ["claude-older-plain"])
    any_model: bool = False
    models_endpoint: bool = True
    context_tokens: int | None = None
    thinking_block: bool = False
    reply_chars: int = 700
    turns: int | None = None

    openai_json_schema: bool = True
    openai_json_object: bool = True
    openai_models: list[str] = field(default_factory=lambda: ["local-model"])

    batch_s: float = 0.3
    batch_missing_s: float = 0.0  # How long a batch just made answers 404.
    batch_create_lost: int = 0  # This many creations succeed, but the connection is reset before the answer.

    keep_bodies: int = 2000

    def update(self, changes: dict[str, Any]) -> None:
        known = {item.name for item in fields(self)}
        for name, value in changes.items():
            if name not in known:
                raise KeyError(f"no option {name!r}; there are: {', '.join(sorted(known))}")
            setattr(self, name, value)
        for kind in [*self.every, *(fault["kind"] for fault in self.faults)]:
            if kind not in FAULTS:
                raise KeyError(f"no fault {kind!r}; there are: {', '.join(FAULTS)}")
