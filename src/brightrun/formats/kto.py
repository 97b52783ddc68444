"""`kto`: one answer and whether it is a wanted one (`label`, also `kto_tag`)."""

from typing import Any

from brightrun.formats.alpaca import alpaca_prompt, read_answer
from brightrun.formats.dialogue import Part, check_chat, has_answer, messages_of
from brightrun.formats.mendable import label_meant
from brightrun.formats.messages import read_messages
from brightrun.formats.prompt_completion import read_side, read_system
from brightrun.formats.reading import Reading, json_type, shown, take_own_id
from brightrun.formats.tool_calls import read_tools

_OTHER_LABEL = (
    "Write `true` for a wanted answer and `false` for an unwanted one. If the field means something else, declare the "
    "format when you upload."
)
_LIST_KEYS = ("messages", "conversations")


def read_kto(obj: dict[str, Any], reading: Reading) -> None:
    """One judged answer. Only the last answer is what the label speaks of, and only it is flagged as trained."""
    key, parts = _chat(obj, reading)
    label = _label(obj, reading)
    tools = read_tools(obj.get("tools"), reading)
    if reading.has_failed() or parts is None or label is None or not has_answer(parts[-1], reading):
        return
    messages = messages_of(parts)
    last = max((number for number, message in enumerate(messages) if message.role == "assistant"), default=None)
    for number, message in enumerate(messages):
        message.trained = number == last
    check_chat(parts, reading, key)
    if reading.has_failed():
        return
    reading.add(messages, conversation_id=take_own_id(obj, reading), kind="kto", label=label, tools=tools)


def _chat(obj: dict[str, Any], reading: Reading) -> tuple[str, list[Part] | None]:
    for key in _LIST_KEYS:
        if key in obj:
            return key, [read_system(obj, reading), Part(read_messages(obj[key], reading, key), key, obj[key])]
    if "instruction" in obj:
        asked, output = alpaca_prompt(obj, reading), read_answer(obj, "output", reading)
        return "output", None if asked is None or output is None else [*asked, output]
    key = "response" if "response" in obj and "completion" not in obj else "completion"
    system = read_system(obj, reading)
    prompt = read_side(obj, "prompt", reading, role="user")
    answer = read_side(obj, key, reading, role="assistant")
    return key, None if prompt is None or answer is None else [system, prompt, answer]


def _label(obj: dict[str, Any], reading: Reading) -> bool | None:
    key = "kto_tag" if "kto_tag" in obj and "label" not in obj else "label"
    value = obj.get(key)
    if isinstance(value, bool):
        return value
    if key not in obj:
        reading.report("missing_field", key, f"`{key}` is missing: is the answer a wanted one?")
        return None
    reading.report(
        "invalid_label",
        key,
        f"`{key}` is {json_type(value)}; it must be true or false.",
        excerpt=shown(value),
        fixable=label_meant(value) is not None,
    )
    return None
