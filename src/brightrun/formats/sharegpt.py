"""`sharegpt`: `{"conversations": [{"from", "value"}…]}`, also spelled with `role` and `content`."""

from typing import Any

from brightrun.formats.messages import check_chat, read_messages, read_tools
from brightrun.formats.reading import Reading, take_own_id, take_text
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
    reading.add(messages, conversation_id=take_own_id(obj, reading), tools=tools)
