"""`sharegpt`: `{"conversations": [{"from", "value"}…]}`, also spelled with `role` and `content`."""

from typing import Any

from brightrun.formats.messages import check_chat, read_messages, read_tools
from brightrun.formats.reading import Reading, take_id, take_text
from brightrun.formats.records import Message


def read_sharegpt(obj: dict[str, Any], reading: Reading) -> None:
    """One conversation. A top-level `system` becomes the system message."""
    key = "conversation" if "conversation" in obj and "conversations" not in obj else "conversations"
    if key not in obj:
        reading.report("missing_field", key, f"`{key}` is missing.")
        return
    messages = read_messages(obj[key], reading, key)
    system = take_text(obj, "system", reading, required=False)
    check_chat(messages, reading, key)
    tools = read_tools(obj.get("tools"), reading)
    if reading.has_failed():
        return
    if system and system.strip():
        messages.insert(0, Message(role="system", content=system))
    own_id = take_id(obj, "conversation_id", "id")
    if own_id is not None:
        reading.object_id = ("conversation_id" if "conversation_id" in obj else "id", own_id)
    reading.add(messages, conversation_id=own_id, tools=tools)
