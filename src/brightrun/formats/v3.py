"""`brightrun_lora_v3`: `{"conversation_id", "turns": [{"role", "content"}…]}`."""

from typing import Any

from brightrun.formats.messages import check_chat, read_messages, read_tools
from brightrun.formats.reading import Reading, json_type, take_id


def read_v3(obj: dict[str, Any], reading: Reading) -> None:
    """One conversation. `conversation_id` and `turns` are required."""
    conversation_id = take_id(obj, "conversation_id")
    if conversation_id is None:
        _report_id(obj, reading)
    if "turns" not in obj:
        if "conversation_id" in obj:
            reading.report("missing_field", "turns", "`turns` is missing: the conversation has no messages.")
        return
    messages = read_messages(obj["turns"], reading, "turns")
    check_chat(messages, reading, "turns")
    if reading.has_failed() or conversation_id is None:
        return
    reading.object_id = ("conversation_id", conversation_id)
    reading.add(messages, conversation_id=conversation_id, tools=read_tools(obj.get("tools"), reading))


def _report_id(obj: dict[str, Any], reading: Reading) -> None:
    value = obj.get("conversation_id")
    if "conversation_id" not in obj:
        also = " (and no `turns`)" if "turns" not in obj else ""
        message = f"`conversation_id` is missing{also}."
        reading.report("missing_field", "conversation_id", message)
    elif isinstance(value, str):
        reading.report("blank_content", "conversation_id", "`conversation_id` is blank.")
    else:
        code = "null_value" if value is None else "wrong_type"
        reading.report(code, "conversation_id", f"`conversation_id` is {json_type(value)}; it must be a text.")
