"""Records' messages in the shape that chat templates read."""

import json
import re
from collections.abc import Sequence
from typing import Any

from brightrun.formats.chat_errors import ChatError, TemplateFaultError
from brightrun.formats.chat_spans import Render, TemplateMessage
from brightrun.formats.records import Message

_PROBE = {"place": 'the "old" harbour', "days": 3}


def for_template(messages: Sequence[Message], *, arguments_as_text: bool) -> list[TemplateMessage]:
    """Messages as dictionaries; keys without a value are left out, as transformers leaves them out.

    arguments_as_text: templates disagree on tool call arguments. OpenAI's files hold them as JSON text, most templates
    want the object, a few want the text.
    """
    return [_message(message, arguments_as_text) for message in messages]


def _message(message: Message, arguments_as_text: bool) -> TemplateMessage:
    written: TemplateMessage = {"role": message.role, "content": message.content}
    if message.tool_calls:
        written["tool_calls"] = [_call(call, arguments_as_text) for call in message.tool_calls]
    if message.tool_call_id is not None:
        written["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        written["name"] = message.name
    return written


def _call(call: dict[str, Any], arguments_as_text: bool) -> dict[str, Any]:
    function = call.get("function")
    if isinstance(function, dict):
        return {**call, "function": _with_arguments(function, arguments_as_text)}
    return _with_arguments(call, arguments_as_text)


def _with_arguments(function: dict[str, Any], as_text: bool) -> dict[str, Any]:
    arguments = function.get("arguments")
    if as_text and isinstance(arguments, dict):
        return {**function, "arguments": json.dumps(arguments, ensure_ascii=False)}
    if not as_text and isinstance(arguments, str):
        try:
            value = json.loads(arguments)
        except ValueError:
            return function  # not JSON: the validator says so; the template sees what was written
        if isinstance(value, dict):
            return {**function, "arguments": value}
    return function


def wants_arguments_as_text(render: Render) -> bool:
    """Whether a template writes proper JSON only from arguments that are text already, found by trying both."""
    return not _writes_arguments(render, _PROBE) and _writes_arguments(render, json.dumps(_PROBE))


def _writes_arguments(render: Render, arguments: object) -> bool:
    call = {"id": "call00001", "type": "function", "function": {"name": "travel", "arguments": arguments}}
    probe: list[TemplateMessage] = [
        {"role": "user", "content": "Question"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]
    try:
        text = render(probe, False)
    except ChatError:
        return False
    return re.sub(r"\s", "", json.dumps(_PROBE)) in re.sub(r"\s", "", text)


def check_tool_calls_shown(messages: list[TemplateMessage], rendered: str) -> None:
    """A template that ignores tool calls would train answers to something that the model never saw."""
    for i, message in enumerate(messages):
        for call in message.get("tool_calls") or []:
            name = (call.get("function") or call).get("name")
            if name and str(name) not in rendered:
                raise TemplateFaultError(
                    f"Message {i + 1} calls the tool {name}, but this model's chat template does not write tool calls. "
                    "Choose a base model that knows tools, or remove the call."
                )
