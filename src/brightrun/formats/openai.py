"""`openai_messages`: `{"messages": [...]}` as OpenAI's fine-tuning writes it, with tools, weights and content parts."""

from typing import Any

from brightrun.formats.dialogue import Part, check_chat
from brightrun.formats.messages import read_messages
from brightrun.formats.reading import Reading, likely_field, take_own_id
from brightrun.formats.tool_calls import read_tools


def read_openai(obj: dict[str, Any], reading: Reading) -> None:
    """One conversation. Assistant messages with `weight` 0 are context."""
    if "messages" not in obj:
        advice = likely_field(obj, "messages") or 'Add `messages`: [{"role": "user", "content": …}, …].'
        reading.report("missing_field", "messages", "`messages` is missing.", suggestion=advice)
        return
    messages = read_messages(obj["messages"], reading, "messages")
    check_chat([Part(messages, "messages", obj["messages"])], reading, "messages")
    tools_key = "functions" if "functions" in obj and "tools" not in obj else "tools"
    tools = read_tools(obj.get(tools_key), reading, tools_key)
    if reading.has_failed():
        return
    reading.add(messages, conversation_id=take_own_id(obj, reading), tools=tools)
