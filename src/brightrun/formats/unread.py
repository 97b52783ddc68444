"""Fields of an object that do not go into its Record: what a conversion would lose without a word."""

from collections.abc import Iterator
from typing import Any

from brightrun.formats.names import FormatId

Object = dict[str, Any]
_MESSAGE = frozenset(
    {"role", "from", "content", "value", "weight", "tool_calls", "function_call", "tool_call_id", "name"}
)
PART_FIELDS = frozenset({"type", "text", "refusal"})
_PROMPTS = frozenset({"system", "prompt", "question", "instruction", "input", "history", "messages", "conversations"})
_OWN_ID = frozenset({"conversation_id", "id"})
_READ: dict[FormatId, frozenset[str]] = {
    "brightrun_lora_v4": frozenset(
        {"conversation_id", "system_prompt", "conversation_history", "current_user_input", "target_response"}
    ),
    "brightrun_lora_v3": frozenset({"conversation_id", "turns", "tools"}),
    "openai_messages": _OWN_ID | {"messages", "tools", "functions"},
    "sharegpt": _OWN_ID | {"conversations", "conversation", "system", "tools"},
    "alpaca": _OWN_ID | {"system", "history", "instruction", "input", "output", "response"},
    "prompt_completion": _OWN_ID | {"system", "prompt", "completion", "response", "tools"},
    "preference": _OWN_ID
    | _PROMPTS
    | {"chosen", "rejected", "preferred_output", "non_preferred_output", "tools", "conversation"},
    "kto": _OWN_ID | _PROMPTS | {"completion", "output", "label", "kto_tag", "tools"},
}
MESSAGE_FIELDS = frozenset(
    {"messages", "turns", "conversations", "conversation", "conversation_history", "prompt", "completion", "response"}
    | {"chosen", "rejected", "preferred_output", "non_preferred_output", "input"}
)
"""Fields that may hold messages: a list of them, or one."""
_INPUT = frozenset({"messages", "tools"})  # OpenAI's preferences: messages, and what goes with them


def fields_read(format: FormatId) -> frozenset[str]:  # noqa: A002 - the field's word
    """The fields of an object that go into its Record."""
    return _READ[format]


def fields_read_of_message(holder: str) -> frozenset[str]:
    """The fields that are read of an object in the field `holder`."""
    return _MESSAGE | _INPUT if holder == "input" else _MESSAGE


def unread_fields(obj: Object, format: FormatId) -> Iterator[str]:  # noqa: A002 - the field's word
    """Paths of the fields that no Record of this object holds, list indices left out (`turns[].mood`).

    An object of `enriched_conversation` is to be given pair by pair, as `brightrun_lora_v4`.
    """
    read = _READ[format]
    for key, value in obj.items():
        if value is None:
            continue
        if key not in read or (key == "id" and obj.get("conversation_id") is not None):
            yield key
        elif key in MESSAGE_FIELDS:
            yield from _of_messages(value, key)


def _of_messages(value: object, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for entry in value:
            yield from _of_message(entry, f"{path}[]")
    elif path == "input" and isinstance(value, dict):
        yield from (f"{path}.{key}" for key in value if key not in _INPUT)
        yield from _of_messages(value.get("messages"), f"{path}.messages")
    else:
        yield from _of_message(value, path)


def _of_message(entry: object, path: str) -> Iterator[str]:
    if not isinstance(entry, dict):
        return
    for key, value in entry.items():
        if value is None:
            continue
        if key not in _MESSAGE:
            yield f"{path}.{key}"
        elif key in {"content", "value"} and isinstance(value, list):
            for part in value:
                if isinstance(part, dict):
                    yield from (f"{path}.{key}[].{name}" for name in part if name not in PART_FIELDS)
