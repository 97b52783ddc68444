"""`kto`: one answer and whether it is a wanted one (`label`, also `kto_tag`)."""

from typing import Any

from brightrun.formats.alpaca import alpaca_prompt
from brightrun.formats.messages import check_chat, read_messages, read_tools
from brightrun.formats.prompt_completion import read_side
from brightrun.formats.reading import Reading, json_type, shown, take_own_id, take_text
from brightrun.formats.records import Message

_LIST_KEYS = ("messages", "conversations")


def read_kto(obj: dict[str, Any], reading: Reading) -> None:
    """One judged answer. Only the last answer is what the label speaks of, and only it is flagged as trained."""
    key, messages = _chat(obj, reading)
    label = _label(obj, reading)
    tools = read_tools(obj.get("tools"), reading)
    if reading.has_failed() or messages is None or label is None:
        return
    check_chat(messages, reading, key)
    if reading.has_failed():
        return
    last = max(number for number, message in enumerate(messages) if message.role == "assistant")
    for number, message in enumerate(messages):
        message.trained = number == last
    reading.add(messages, conversation_id=take_own_id(obj, reading), kind="kto", label=label, tools=tools)


def _chat(obj: dict[str, Any], reading: Reading) -> tuple[str, list[Message] | None]:
    for key in _LIST_KEYS:
        if key in obj:
            return key, read_messages(obj[key], reading, key)
    if "instruction" in obj:
        prompt, output = alpaca_prompt(obj, reading), take_text(obj, "output", reading)
        if prompt is None or output is None:
            return "output", None
        return "output", [*prompt, Message(role="assistant", content=output, trained=True)]
    prompt = read_side(obj, "prompt", reading, role="user")
    answer = read_side(obj, "completion", reading, role="assistant")
    return "completion", None if prompt is None or answer is None else [*prompt, *answer]


def _label(obj: dict[str, Any], reading: Reading) -> bool | None:
    key = "kto_tag" if "kto_tag" in obj and "label" not in obj else "label"
    value = obj.get(key)
    if isinstance(value, bool):
        return value
    if key not in obj:
        reading.report("missing_field", key, f"`{key}` is missing: is the answer a wanted one?")
        return None
    readable = value in (0, 1) or (isinstance(value, str) and value.strip().lower() in {"true", "false"})
    reading.report(
        "invalid_label",
        key,
        f"`{key}` is {json_type(value)}; it must be true or false.",
        excerpt=shown(value),
        fixable=readable,
    )
    return None
