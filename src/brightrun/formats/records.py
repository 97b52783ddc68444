"""What every training format normalises to. Pure data; readers make it, everything else consumes it."""

from typing import Any, Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool"]
Kind = Literal["chat", "preference", "kto"]


class Message(msgspec.Struct, omit_defaults=True):
    """One chat message.

    trained: whether the loss covers this message (and, for the last trained one, its end-of-turn token).
    tool_calls: OpenAI shape, `[{"type": "function", "function": {"name", "arguments"}}]`; arguments stay as written.
    """

    role: Role
    content: str
    trained: bool = False
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    name: str | None = None


class Scaffold(msgspec.Struct, omit_defaults=True):
    """Keys that tie a record to the scaffolding it was written from; None where the file does not say."""

    persona: str | None = None
    emotional_arc: str | None = None
    topic: str | None = None
    tier: str | None = None
    quality_score: float | None = None


class Record(msgspec.Struct, omit_defaults=True):
    """One record of a training file, normalised.

    conversation_id: what a split must keep together. Records of one conversation (v4 pairs) share it; where a format
      has no id it is `record-<index>`.
    index: 0-based ordinal among records (blank lines and `_meta` are not records).
    line: 1-based physical line in JSONL; 1-based record number in a JSON array; number of the pair in the full v4 file.
    byte_offset: of the record's first byte in the file.
    path: prefix for issue paths (`""`, `[n]`, `conversations[i].training_pairs[j]`).
    messages: the whole chat, prompt and answer, each flagged trained or not. Never an empty list.
    chosen, rejected: for `preference` only: the two continuations of `messages` (which then holds the prompt alone).
    label: for `kto` only.
    tools: tool definitions, for templates that render them.
    """

    conversation_id: str
    index: int
    line: int
    byte_offset: int
    messages: list[Message]
    kind: Kind = "chat"
    path: str = ""
    chosen: list[Message] | None = None
    rejected: list[Message] | None = None
    label: bool | None = None
    tools: list[dict[str, Any]] | None = None
    scaffold: Scaffold | None = None

    @property
    def training_pairs(self) -> int:
        """Trained assistant messages; for preference files, pairs; for KTO, 1."""
        if self.kind != "chat":
            return 1
        return sum(message.trained for message in self.messages)
