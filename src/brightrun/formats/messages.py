"""Chat messages in all their spellings, and what must hold for a list of them."""

from typing import Any

import orjson

from brightrun.formats.reading import Reading, join_path, json_type, shown
from brightrun.formats.records import Message, Role
from brightrun.formats.texts import check_answer

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
    return messages


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
    tool_calls = _tool_calls(entry, reading, path)
    role = role_of(spoken)
    if role is None:
        _report_role(entry, role_key, spoken, reading, path)
    content_key = "value" if "value" in entry and "content" not in entry else "content"
    if isinstance(spoken, str) and _ROLES.get(spoken.strip().lower()) == _TOOL_CALL:
        return _sharegpt_call(
            entry.get(content_key), reading, join_path(path, content_key), _weight(entry, role, reading, path)
        )
    content = _content(entry, content_key, reading, path, may_be_absent=bool(tool_calls))
    trained = _weight(entry, role, reading, path)
    if role is None or content is None:
        return None
    if not content.strip() and not tool_calls:
        _report_blank(role, reading, join_path(path, content_key))
    tool_call_id, name = entry.get("tool_call_id"), entry.get("name")
    return Message(
        role=role,
        content=content,
        trained=trained,
        tool_calls=tool_calls or None,
        tool_call_id=tool_call_id if isinstance(tool_call_id, str) else None,
        name=name if isinstance(name, str) else None,
    )


def _report_role(entry: dict[str, Any], key: str, spoken: object, reading: Reading, path: str) -> None:
    where = join_path(path, key)
    if key not in entry:
        reading.report("missing_field", where, f"`{where}` is missing: who says this?", excerpt=shown(entry))
    elif isinstance(spoken, str):
        reading.report(
            "unknown_role", where, f"`{where}` is {spoken[:40]!r}, a role that no chat model knows.", excerpt=spoken
        )
    else:
        code = "null_value" if spoken is None else "wrong_type"
        reading.report(code, where, f"`{where}` is {json_type(spoken)}; it must be a role such as `user`.")


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
        reading.report("invalid_weight", where, f"`{where}` is {shown(weight)[:40]}; it must be 0 or 1.")
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
        case None if may_be_absent:
            return ""
        case None if key in entry:
            reading.report("null_value", where, f"`{where}` is null; it must be a text.")
        case None:
            reading.report(
                "missing_field", where, f"`{where}` is missing: the message says nothing.", excerpt=shown(entry)
            )
        case list():
            return read_parts(value, reading, where)
        case _:
            reading.report(
                "wrong_type", where, f"`{where}` is {json_type(value)}; it must be a text.", excerpt=shown(value)
            )
    return None


def read_parts(parts: list[Any], reading: Reading, path: str) -> str | None:
    """Content given as a list of parts, joined to one text. Parts that are not text are reported."""
    texts: list[str] = []
    for number, part in enumerate(parts):
        where = f"{path}[{number}]"
        match part:
            case str():
                texts.append(part)
            case {"type": "text" | "input_text" | "output_text" | "refusal", **fields}:
                text = fields.get("text", fields.get("refusal"))
                if not isinstance(text, str):
                    reading.report("wrong_type", where, f"`{where}.text` is {json_type(text)}; it must be a text.")
                    return None
                texts.append(text)
            case {"type": str(kind)}:
                reading.report(
                    "unsupported_content", where, f"`{where}` is a part of type {kind[:40]!r}, which is not text."
                )
                return None
            case _:
                reading.report(
                    "wrong_type", where, f"`{where}` is {json_type(part)}; a content part has a `type` and a `text`."
                )
                return None
    if not parts:
        reading.report("empty_list", path, f"`{path}` is an empty list of content parts.")
        return None
    return "".join(texts)


def _tool_calls(entry: dict[str, Any], reading: Reading, path: str) -> list[dict[str, Any]]:
    """`tool_calls`, or the older `function_call`, in the OpenAI shape; arguments stay as written."""
    calls = entry.get("tool_calls")
    if calls is None and isinstance(entry.get("function_call"), dict):
        _check_arguments(entry["function_call"], reading, join_path(path, "function_call"))
        return [{"type": "function", "function": entry["function_call"]}]
    if calls is None:
        return []
    where = join_path(path, "tool_calls")
    if not isinstance(calls, list):
        reading.report("wrong_type", where, f"`{where}` is {json_type(calls)}; it must be a list of tool calls.")
        return []
    read: list[dict[str, Any]] = []
    for number, call in enumerate(calls):
        here = f"{where}[{number}]"
        function = call.get("function", call if "name" in call else None) if isinstance(call, dict) else None
        if not isinstance(function, dict):
            reading.report(
                "wrong_type", here, f"`{here}` is not a tool call: it needs a `function` with `name` and `arguments`."
            )
            continue
        _check_arguments(function, reading, join_path(here, "function"))
        read.append(call if "function" in call else {"type": "function", "function": call})
    return read


def _check_arguments(function: dict[str, Any], reading: Reading, path: str) -> None:
    if not isinstance(function.get("name"), str) or not function["name"].strip():
        reading.report("missing_field", join_path(path, "name"), f"`{path}.name` is missing: which tool is called?")
    arguments, where = function.get("arguments"), join_path(path, "arguments")
    if isinstance(arguments, dict) or arguments is None:
        return
    try:
        known = isinstance(arguments, str) and isinstance(orjson.loads(arguments or "{}"), dict)
    except ValueError:
        known = False
    if not known:
        reading.report("tool_arguments_not_json", where, f"`{where}` is not a JSON object.", excerpt=shown(arguments))


def _sharegpt_call(value: object, reading: Reading, path: str, trained: bool) -> Message | None:
    """A ShareGPT `function_call` turn: one call, or a list of them, as JSON text."""
    try:
        calls = orjson.loads(value) if isinstance(value, str) else value
    except ValueError:
        calls = None
    calls = [calls] if isinstance(calls, dict) else calls
    if not isinstance(calls, list) or not calls or not all(isinstance(call, dict) for call in calls):
        reading.report(
            "tool_arguments_not_json",
            path,
            f'`{path}` is a tool call, but not JSON of the shape {{"name": …, "arguments": {{…}}}}.',
            excerpt=shown(value),
        )
        return None
    for call in calls:
        _check_arguments(call, reading, path)
    return Message(
        role="assistant", content="", trained=trained, tool_calls=[{"type": "function", "function": c} for c in calls]
    )


def read_tools(value: object, reading: Reading, path: str = "tools") -> list[dict[str, Any]] | None:
    """Tool definitions, as a list or as the JSON text of one."""
    if value is None or value in ("", []):
        return None
    tools = value
    if isinstance(value, str):
        try:
            tools = orjson.loads(value)
        except ValueError:
            tools = None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        reading.report("invalid_tools", path, f"`{path}` is not a list of tool definitions.", excerpt=shown(value))
        return None
    return tools or None


def check_chat(messages: list[Message], reading: Reading, path: str) -> None:
    """What must hold for the whole list. Consequences of faults already reported are not reported again."""
    if reading.has_failed():
        return
    roles = [message.role for message in messages]
    if "assistant" not in roles:
        reading.report(
            "no_assistant_turn", path, f"`{path}` has no assistant message: there is nothing for a model to learn."
        )
    elif not any(message.trained for message in messages):
        reading.report(
            "all_weights_zero", path, f"All assistant messages of `{path}` have weight 0: nothing would be trained."
        )
    elif roles[-1] != "assistant":
        trailing = roles[::-1].index("assistant")
        reading.report(
            "last_turn_not_assistant",
            f"{path}[{len(roles) - trailing}]",
            f"`{path}` ends with {trailing} message{'s' if trailing > 1 else ''} after the last answer.",
        )
    for number, message in enumerate(messages):
        if message.trained:
            check_answer(message.content, reading, f"{path}[{number}]")
    check_order(messages, reading, path)


def check_order(messages: list[Message], reading: Reading, path: str) -> None:
    """Warn, once each, about speakers out of turn and system messages out of place."""
    for number, message in enumerate(messages):
        if number and message.role == "system":
            reading.report(
                "system_not_first",
                f"{path}[{number}]",
                f"Message {number + 1} is a system message; only the first may be.",
            )
            break
    previous: Message | None = None
    for number, message in enumerate(messages):
        if message.role == "system":
            continue
        if previous is None:
            wrong = message.role != "user"
        else:
            same = message.role == previous.role and message.role != "tool"
            wrong = same and not (message.tool_calls or previous.tool_calls)
        if wrong:
            after = "begins the conversation" if previous is None else f"follows another {previous.role} message"
            reading.report("role_order", f"{path}[{number}]", f"Message {number + 1} ({message.role}) {after}.")
            break
        previous = message
