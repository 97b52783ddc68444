"""From a message of a normalised record back to the field of the file that it was read from.

Only needed for what is reported, so it is found then, by looking for the text in the object itself: that holds for
every spelling of every format.
"""

import re
from collections.abc import Iterator
from typing import Any, Literal

from brightrun.formats.reading import join_path
from brightrun.formats.records import Message, Record

Side = Literal["messages", "chosen", "rejected"]

_STEP = re.compile(r"[^.\[\]]+|\[\d+\]")
_MAX_DEPTH = 12


class Places:
    """Knows the object that the records being looked at were read from. The validator says which one that is."""

    def __init__(self) -> None:
        self._value: object = None
        self._prefix = ""
        self._format: str | None = None
        self._of: str | None = None  # the record whose fields are known: text to paths
        self._fields: dict[str, list[str]] = {}

    def enter(self, value: object, prefix: str, format: str | None) -> None:  # noqa: A002
        """value: the object, None where it was read the fast way. prefix: of the object's own path."""
        self._value, self._prefix, self._format = value, prefix, format
        self._of, self._fields = None, {}

    def path(self, record: Record, number: int, side: Side = "messages", part: str = "") -> str:
        """The field within the record that holds a message; empty where that cannot be told. part: of the text, which
        the field must hold where a message was put together from several."""
        if self._value is None:
            return _plain_path(record, number, self._format) if side == "messages" else ""
        if self._of != record.path:  # found once for all that is said about a record
            self._of, self._fields = record.path, {}
            for path, text in _texts(self._below(record), ""):
                self._fields.setdefault(text, []).append(path)
        messages: list[Message] = getattr(record, side)
        content = messages[number].content
        same = self._fields.get(content)
        if same is None:
            return next((paths[0] for text, paths in self._fields.items() if (part or content) in text), "")
        if len(same) == 1:
            return same[0]
        # Of several with the same text the one in the same order.
        order = sum(message.content == content for message in messages[:number])
        return same[min(order, len(same) - 1)]

    def _below(self, record: Record) -> object:
        """The part of the object that is the record's own."""
        value, path = self._value, record.path.removeprefix(self._prefix)
        for step in _STEP.findall(path):
            if step.startswith("[") and isinstance(value, list) and int(step[1:-1]) < len(value):
                value = value[int(step[1:-1])]
            elif isinstance(value, dict):
                value = value.get(step)
        return value


def _texts(value: object, path: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif depth < _MAX_DEPTH:
        if isinstance(value, dict):
            entries: dict[str, Any] = value
            for key, entry in entries.items():
                yield from _texts(entry, join_path(path, str(key)), depth + 1)
        elif isinstance(value, list):
            for number, entry in enumerate(value):
                yield from _texts(entry, f"{path}[{number}]", depth + 1)


def _plain_path(record: Record, number: int, format: str | None) -> str:  # noqa: A002
    """Of a row that was read the fast way, which has one spelling only."""
    match format:
        case "openai_messages":
            return f"messages[{number}].content"
        case "brightrun_lora_v3":
            return f"turns[{number}].content"
        case "brightrun_lora_v4":
            last = len(record.messages) - 1
            named = {0: "system_prompt", last - 1: "current_user_input", last: "target_response"}
            return named.get(number, f"conversation_history[{number - 1}].content")
        case _:
            return ""


def trained_replies(record: Record) -> Iterator[tuple[Side, int, Message]]:
    """The answers that a model would learn to give: not those before them, not the rejected, not the unwanted."""
    if record.kind == "kto" and not record.label:
        return
    side: Side = "messages" if record.chosen is None else "chosen"
    for number, message in enumerate(record.messages if record.chosen is None else record.chosen):
        if message.role == "assistant" and (message.trained or side == "chosen"):
            yield side, number, message
