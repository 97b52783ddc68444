"""`brightrun_lora_v3`: `{"conversation_id", "turns": [{"role", "content"}…]}`."""

from typing import Any

from brightrun.formats.dialogue import Part, check_chat
from brightrun.formats.messages import read_messages
from brightrun.formats.reading import Reading, likely_field, take_required_id
from brightrun.formats.tool_calls import read_tools


def read_v3(obj: dict[str, Any], reading: Reading) -> None:
    """One conversation. `conversation_id` and `turns` are required."""
    if "conversation_id" not in obj and "turns" not in obj:
        reading.report("missing_field", "conversation_id", "`conversation_id` is missing (and no `turns`).")
        return
    conversation_id = take_required_id(obj, reading)
    if "turns" not in obj:
        reading.report(
            "missing_field",
            "turns",
            "`turns` is missing: the conversation has no messages.",
            suggestion=likely_field(obj, "turns") or 'Add `turns`: [{"role": "user", "content": …}, …].',
        )
        return
    messages = read_messages(obj["turns"], reading, "turns")
    check_chat([Part(messages, "turns", obj["turns"])], reading, "turns")
    tools = read_tools(obj.get("tools"), reading)
    if reading.has_failed() or conversation_id is None:
        return
    reading.object_id = ("conversation_id", conversation_id)
    reading.add(messages, conversation_id=conversation_id, tools=tools)
