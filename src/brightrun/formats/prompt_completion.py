"""`prompt_completion`: `{"prompt", "completion"}`, as texts or as lists of messages."""

from typing import Any

from brightrun.formats.dialogue import Part, check_chat, has_answer, messages_of
from brightrun.formats.messages import read_message, read_messages
from brightrun.formats.reading import Reading, json_type, likely_field, shown, take_own_id, take_text
from brightrun.formats.records import Message
from brightrun.formats.tool_calls import read_tools

# Stands for a prompt that is blank, which is said, so that the order of speakers is not found wanting as well.
_NO_PROMPT = Part([Message(role="user", content="")], "prompt", "")


def read_prompt_completion(obj: dict[str, Any], reading: Reading) -> None:
    """One exchange. Only the completion is trained."""
    key = "response" if "response" in obj and "completion" not in obj else "completion"
    system = read_system(obj, reading)
    prompt = read_side(obj, "prompt", reading, role="user")
    completion = read_side(obj, key, reading, role="assistant")
    tools = read_tools(obj.get("tools"), reading)
    if prompt is None or completion is None or reading.has_failed():
        return
    for message in prompt.messages:
        message.trained = False
    parts = (system, prompt, completion)
    if not has_answer(completion, reading):
        return
    check_chat(parts if prompt.messages else [_NO_PROMPT, completion], reading, key)
    if reading.has_failed():
        return
    reading.add(messages_of(parts), conversation_id=take_own_id(obj, reading), tools=tools)


def read_system(obj: dict[str, Any], reading: Reading) -> Part:
    """The system message that stands in a field of its own; without messages where there is none."""
    system = take_text(obj, "system", reading, required=False)
    messages = [Message(role="system", content=system)] if system and system.strip() else []
    return Part(messages, "system", system)


def read_side(obj: dict[str, Any], key: str, reading: Reading, *, role: str) -> Part | None:
    """A prompt (role `user`) or an answer (role `assistant`), given as a text, one message, or a list of messages."""
    value = obj.get(key)
    match value:
        case str():
            return Part(_text_side(value, key, reading, role), key, value)
        case list():
            return Part(read_messages(value, reading, key), key, value)
        case dict():
            message = read_message(value, reading, key)
            return None if message is None else Part([message], key, value)
        case None if key in obj:
            reading.report("null_value", key, f"`{key}` is null; it must be a text or a list of messages.")
        case None:
            advice = likely_field(obj, key) or f"Add `{key}` with its text."
            reading.report("missing_field", key, f"`{key}` is missing.", suggestion=advice)
        case _:
            wanted = "it must be a text or a list of messages"
            reading.report("wrong_type", key, f"`{key}` is {json_type(value)}; {wanted}.", excerpt=shown(value))
    return None


def _text_side(value: str, key: str, reading: Reading, role: str) -> list[Message]:
    if role == "assistant":
        if not value.strip():
            reading.report("blank_content", key, f"`{key}` is blank: there is nothing for a model to learn.")
        return [Message(role="assistant", content=value, trained=True)]
    if not value.strip():
        reading.report("blank_context", key, f"`{key}` is blank: the answer follows nothing.", fixable=False)
        return []
    return [Message(role="user", content=value)]
