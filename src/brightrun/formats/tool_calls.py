"""Tool calls and tool definitions inside messages, in the spellings of OpenAI and ShareGPT."""

from typing import Any

import orjson

from brightrun.formats.reading import Reading, join_path, json_type, shown
from brightrun.formats.records import Message


def read_calls(entry: dict[str, Any], reading: Reading, path: str) -> list[dict[str, Any]]:
    """`tool_calls`, or the older `function_call`, in the OpenAI shape; arguments stay as written."""
    calls, older = entry.get("tool_calls"), entry.get("function_call")
    if calls is None and older is not None:
        where = join_path(path, "function_call")
        if not isinstance(older, dict):
            reading.report("wrong_type", where, f"`{where}` is {json_type(older)}; it must be an object.")
            return []
        _check_call(older, reading, where)
        return [{"type": "function", "function": older}]
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
        _check_call(function, reading, join_path(here, "function") if "function" in call else here)
        read.append(call if "function" in call else {"type": "function", "function": call})
    return read if is_writable(read, reading, where) else []


def _check_call(function: dict[str, Any], reading: Reading, path: str) -> None:
    name = function.get("name")
    if not isinstance(name, str) or not name.strip():
        where = join_path(path, "name")
        code = "missing_field" if name is None else "blank_content" if isinstance(name, str) else "wrong_type"
        what = "missing" if name is None else "blank" if isinstance(name, str) else json_type(name)
        reading.report(code, where, f"`{where}` is {what}: which tool is called?", suggestion="Name the tool.")
    _check_arguments(function, reading, join_path(path, "arguments"))


def _check_arguments(function: dict[str, Any], reading: Reading, where: str) -> None:
    arguments = function.get("arguments")
    if isinstance(arguments, dict) or arguments is None:
        return
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments or "{}")
        except orjson.JSONDecodeError as error:
            message = f"`{where}` is not JSON: {error.msg} (character {error.pos + 1})."
            reading.report("tool_arguments_not_json", where, message, excerpt=shown(arguments))
            return
    if not isinstance(arguments, dict):
        message = f"`{where}` is {json_type(arguments)}; it must be a JSON object: {{…}}."
        reading.report("tool_arguments_not_json", where, message, excerpt=shown(arguments))


def read_sharegpt_call(value: object, reading: Reading, path: str, trained: bool) -> Message | None:
    """A ShareGPT `function_call` turn: one call, or a list of them, as JSON text."""
    try:
        calls = orjson.loads(value) if isinstance(value, str) else value
    except ValueError:
        calls = None
    listed = isinstance(calls, list)
    calls = calls if listed else [calls]
    if not isinstance(calls, list) or not calls or not all(isinstance(call, dict) for call in calls):
        reading.report(
            "tool_arguments_not_json",
            path,
            f'`{path}` is a tool call, but not JSON of the shape {{"name": …, "arguments": {{…}}}}.',
            excerpt=shown(value),
        )
        return None
    for number, call in enumerate(calls):
        _check_call(call, reading, f"{path}[{number}]" if listed else path)
    written = [{"type": "function", "function": call} for call in calls]
    if not is_writable(written, reading, path):
        return None
    return Message(role="assistant", content="", trained=trained, tool_calls=written)


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
    return (tools or None) if is_writable(tools, reading, path) else None


def is_writable(value: object, reading: Reading, path: str) -> bool:
    """Whether what a record keeps as it stands can be written again: what nests too deeply for that is reported."""
    try:
        orjson.dumps(value)
    except TypeError:  # orjson says so for values nested too deeply
        reading.report("nesting_too_deep", path, f"`{path}` nests more than 250 brackets inside one another.")
        return False
    return True
