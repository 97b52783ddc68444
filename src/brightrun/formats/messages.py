"""Chat messages in all their spellings."""

from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from brightrun.formats.dialogue import content_key
from brightrun.formats.mendable import role_meant, weight_meant
from brightrun.formats.reading import Reading, join_path, json_type, likely_field, shown
from brightrun.formats.records import Message, Role
from brightrun.formats.tool_calls import read_calls, read_sharegpt_call

_TOOL_CALL = "tool call"
_ROLES: dict[str, Role | str] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "tool": "tool",
    "function": "tool",
    "ipython": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "function_response": "tool",
    "function_call": _TOOL_CALL,
    "tool_call": _TOOL_CALL,
}
_PLAIN_ROLES = ("user", "assistant", "system")


def role_of(name: object) -> Role | None:
    """The role behind a speaker's name; None when no chat model knows it. A ShareGPT tool call speaks as assistant."""
    role = _ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    return "assistant" if role == _TOOL_CALL else role  # type: ignore[return-value]


def read_messages(value: object, reading: Reading, path: str) -> list[Message]:
    """The messages of a list such as `messages`, `turns` or `conversations`.

    `role`/`from` and `content`/`value` are read alike. Assistant messages are trained unless their `weight` is 0. What
    cannot be read is reported and left out; `reading.has_failed()` is then true.
    """
    if not isinstance(value, list):
        code = "null_value" if value is None else "wrong_type"
        reading.report(code, path, f"`{path}` is {json_type(value)}; it must be a list of messages.")
        return []
    if not value:
        reading.report("empty_list", path, f"`{path}` is empty; a conversation has at least one message.")
        return []
    messages = []
    for number, entry in enumerate(value):
        if (plain := _plain(entry)) is not None:
            messages.append(plain)
            continue
        message = read_message(entry, reading, f"{path}[{number}]")
        if message is not None:
            messages.append(message)
    _check_numbers(value, reading, path)
    return messages


_NUMBERS = ("turn", "turn_number")


def _check_numbers(entries: list[Any], reading: Reading, path: str) -> None:
    """Warn where messages that number themselves leave a number out."""
    first = entries[0]
    key = next((key for key in _NUMBERS if key in first), None) if isinstance(first, dict) else None
    if key is None or reading.has_failed():
        return
    numbers = [entry.get(key) for entry in entries]
    begin, end = numbers[0], numbers[-1]
    if type(begin) is not int or type(end) is not int or end - begin == len(entries) - 1:
        return
    place = next(n for n, number in enumerate(numbers) if number != begin + n)
    where = f"{path}[{place}].{key}"
    reading.report(
        "turn_number_gap", where, f"`{where}` is {shown(numbers[place])[:40]}, but {begin + place} should come here."
    )


def _plain(entry: object) -> Message | None:
    """The message of an object with a known role and a text and nothing else, as nearly all are: quickly."""
    if not isinstance(entry, dict) or len(entry) != 2:
        return None
    role, content = entry.get("role"), entry.get("content")
    if role not in _PLAIN_ROLES or not isinstance(content, str) or not content or content.isspace():
        return None
    return Message(role, content, role == "assistant")


def read_message(entry: object, reading: Reading, path: str) -> Message | None:
    """One message object; None when it was reported as unreadable."""
    if not isinstance(entry, dict):
        reading.report("wrong_type", path, f"`{path}` is {json_type(entry)}; a message is an object.")
        return None
    role_key = "from" if "from" in entry and "role" not in entry else "role"
    spoken = entry.get(role_key)
    tool_calls = read_calls(entry, reading, path)
    role = role_of(spoken)
    if role is None:
        _report_role(entry, role_key, spoken, reading, path)
    key = content_key(entry)
    if isinstance(spoken, str) and _ROLES.get(spoken.strip().lower()) == _TOOL_CALL:
        return read_sharegpt_call(entry.get(key), reading, join_path(path, key), _weight(entry, role, reading, path))
    content = _content(entry, key, reading, path, may_be_absent=bool(tool_calls))
    trained = _weight(entry, role, reading, path)
    tool_call_id, name = (_optional_text(entry, field, reading, path) for field in ("tool_call_id", "name"))
    if role is None or content is None:
        return None
    if not content.strip() and not tool_calls:
        _report_blank(role, reading, join_path(path, key))
    return Message(
        role=role,
        content=content,
        trained=trained,
        tool_calls=tool_calls or None,
        tool_call_id=tool_call_id,
        name=name,
    )


def _optional_text(entry: dict[str, Any], key: str, reading: Reading, path: str) -> str | None:
    value = entry.get(key)
    if value is None or isinstance(value, str):
        return value
    where = join_path(path, key)
    reading.report("wrong_type", where, f"`{where}` is {json_type(value)}; it must be a text.", excerpt=shown(value))
    return None


def _report_role(entry: dict[str, Any], key: str, spoken: object, reading: Reading, path: str) -> None:
    where = join_path(path, key)
    if key not in entry:
        message = f"`{where}` is missing: who says this?"
        found = likely_field(entry, key) or f"Add `{key}` with who says this: `system`, `user` or `assistant`."
        reading.report("missing_field", where, message, excerpt=shown(entry), suggestion=found)
    elif isinstance(spoken, str):
        likely = _likely_role(spoken[:40].strip().lower())
        advice = f"Did you mean `{likely}`?" if likely else None
        message = f"`{where}` is {spoken[:40]!r}, a role that no chat model knows."
        mendable = role_meant(spoken) is not None
        reading.report("unknown_role", where, message, excerpt=spoken, suggestion=advice, fixable=mendable)
    else:
        code = "null_value" if spoken is None else "wrong_type"
        reading.report(code, where, f"`{where}` is {json_type(spoken)}; it must be a role such as `user`.")


@lru_cache(maxsize=256)
def _likely_role(spoken: str) -> str | None:
    return next(iter(get_close_matches(spoken, _ROLES, n=1, cutoff=0.75)), None)


def _report_blank(role: Role, reading: Reading, where: str) -> None:
    match role:
        case "user" | "assistant":
            reading.report("blank_content", where, f"`{where}`: the {role} message is blank.")
        case "system":
            reading.report("blank_context", where, f"`{where}`: the system message is blank.")
        case "tool":
            pass  # a tool may well answer nothing


def _weight(entry: dict[str, Any], role: Role | None, reading: Reading, path: str) -> bool:
    if entry.get("weight") is None:
        return role == "assistant"
    weight, where = entry["weight"], join_path(path, "weight")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or weight not in {0, 1}:
        message = f"`{where}` is {shown(weight)[:40]}; it must be 0 or 1."
        reading.report("invalid_weight", where, message, fixable=weight_meant(weight) is not None)
    elif role is not None and role != "assistant":
        if weight == 1:
            reading.report("weight_ignored", where, f"`{where}` is 1 on a {role} message, which is never trained.")
        return False
    return role == "assistant" and weight != 0


def _content(entry: dict[str, Any], key: str, reading: Reading, path: str, *, may_be_absent: bool) -> str | None:
    value, where = entry.get(key), join_path(path, key)
    match value:
        case str():
            return value
        case None if isinstance(refusal := entry.get("refusal"), str):
            return refusal  # OpenAI's way to write an answer that declines
        case None if may_be_absent:
            return ""
        case None if key in entry:
            reading.report("null_value", where, f"`{where}` is null; it must be a text.")
        case None:
            reading.report(
                "missing_field",
                where,
                f"`{where}` is missing: the message says nothing.",
                excerpt=shown(entry),
                suggestion=likely_field(entry, key) or f"Add `{key}` with the text of the message.",
            )
        case list():
            return read_parts(value, reading, where)
        case _:
            reading.report(
                "wrong_type", where, f"`{where}` is {json_type(value)}; it must be a text.", excerpt=shown(value)
            )
    return None


def read_parts(parts: list[Any], reading: Reading, path: str) -> str | None:
    """Content given as a list of parts, joined to one text. Every part that is not text is reported."""
    texts = [_part(part, reading, f"{path}[{number}]") for number, part in enumerate(parts)]
    if not parts:
        reading.report("empty_list", path, f"`{path}` is an empty list of content parts.")
        return None
    return None if None in texts else "".join(text or "" for text in texts)


def _part(part: object, reading: Reading, where: str) -> str | None:
    match part:
        case str():
            return part
        case {"type": "text" | "input_text" | "output_text" | "refusal" as kind, **fields}:
            key = "refusal" if kind == "refusal" and "text" not in fields else "text"
            text, here = fields.get(key), f"{where}.{key}"
            if isinstance(text, str):
                return text
            code = "missing_field" if key not in fields else "null_value" if text is None else "wrong_type"
            what = "missing" if key not in fields else json_type(text)
            reading.report(code, here, f"`{here}` is {what}; it must be a text.")
        case {"type": str(kind)}:
            reading.report(
                "unsupported_content", where, f"`{where}` is a part of type {kind[:40]!r}, which is not text."
            )
        case _:
            reading.report(
                "wrong_type", where, f"`{where}` is {json_type(part)}; a content part has a `type` and a `text`."
            )
    return None
