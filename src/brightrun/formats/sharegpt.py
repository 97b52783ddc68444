"""`sharegpt`: `{"conversations": [{"from", "value"}…]}`, also spelled with `role` and `content`."""

from typing import Any

from brightrun.formats.dialogue import Part, check_chat
from brightrun.formats.messages import read_messages
from brightrun.formats.prompt_completion import read_system
from brightrun.formats.reading import Reading, likely_field, take_own_id
from brightrun.formats.tool_calls import read_tools


def read_sharegpt(obj: dict[str, Any], reading: Reading) -> None:
    """One conversation. A top-level `system` becomes the system message."""
    key = "conversation" if "conversation" in obj and "conversations" not in obj else "conversations"
    if key not in obj:
        advice = likely_field(obj, key) or f'Add `{key}`: [{{"from": "human", "value": …}}, …].'
        reading.report("missing_field", key, f"`{key}` is missing.", suggestion=advice)
        return
    messages = read_messages(obj[key], reading, key)
    system = read_system(obj, reading)
    check_chat([system, Part(messages, key, obj[key])], reading, key)
    tools = read_tools(obj.get("tools"), reading)
    if reading.has_failed():
        return
    reading.add([*system.messages, *messages], conversation_id=take_own_id(obj, reading), tools=tools)
