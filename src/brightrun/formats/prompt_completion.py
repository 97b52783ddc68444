"""`prompt_completion`: `{"prompt", "completion"}`, as texts or as lists of messages."""

from typing import Any

from brightrun.formats.messages import check_chat, read_messages, read_tools
from brightrun.formats.reading import Reading, join_path, json_type, shown, take_own_id
from brightrun.formats.records import Message
from brightrun.formats.texts import check_answer


def read_prompt_completion(obj: dict[str, Any], reading: Reading) -> None:
    """One exchange. Only the completion is trained."""
    key = "response" if "response" in obj and "completion" not in obj else "completion"
    prompt = read_side(obj, "prompt", reading, role="user")
    completion = read_side(obj, key, reading, role="assistant")
    if prompt is None or completion is None or reading.has_failed():
        return
    for message in prompt:
        message.trained = False
    messages = [*prompt, *completion]
    if not isinstance(obj[key], str):
        check_chat(messages, reading, key)
    if reading.has_failed():
        return
    reading.add(messages, conversation_id=take_own_id(obj, reading), tools=read_tools(obj.get("tools"), reading))


def read_side(obj: dict[str, Any], key: str, reading: Reading, *, role: str) -> list[Message] | None:
    """A prompt (role `user`) or an answer (role `assistant`), given as a text, one message, or a list of messages."""
    value = obj.get(key)
    match value:
        case str():
            return _text_side(value, key, reading, role)
        case list():
            return read_messages(value, reading, key)
        case dict():
            return read_messages([value], reading, key)
        case None if key in obj:
            reading.report("null_value", key, f"`{key}` is null; it must be a text or a list of messages.")
        case None:
            reading.report("missing_field", key, f"`{key}` is missing.")
        case _:
            where = join_path("", key)
            reading.report(
                "wrong_type",
                where,
                f"`{where}` is {json_type(value)}; it must be a text or a list of messages.",
                excerpt=shown(value),
            )
    return None


def _text_side(value: str, key: str, reading: Reading, role: str) -> list[Message]:
    if role == "assistant":
        if not value.strip():
            reading.report("blank_content", key, f"`{key}` is blank: there is nothing for a model to learn.")
        check_answer(value, reading, key)
        return [Message(role="assistant", content=value, trained=True)]
    if not value.strip():
        reading.report("blank_context", key, f"`{key}` is blank: the answer follows nothing.")
        return []
    return [Message(role="user", content=value)]
