"""`openai_messages`: `{"messages": [...]}` as OpenAI's fine-tuning writes it, with tools, weights and content parts."""

from typing import Any

from brightrun.formats.messages import check_chat, read_messages, read_tools
from brightrun.formats.reading import Reading, take_id


def read_openai(obj: dict[str, Any], reading: Reading) -> None:
    """One conversation. Assistant messages with `weight` 0 are context."""
    if "messages" not in obj:
        reading.report("missing_field", "messages", "`messages` is missing.")
        return
    messages = read_messages(obj["messages"], reading, "messages")
    check_chat(messages, reading, "messages")
    tools_key = "functions" if "functions" in obj and "tools" not in obj else "tools"
    tools = read_tools(obj.get(tools_key), reading, tools_key)
    if reading.has_failed():
        return
    own_id = take_id(obj, "conversation_id", "id")
    if own_id is not None:
        reading.object_id = ("conversation_id" if "conversation_id" in obj else "id", own_id)
    reading.add(messages, conversation_id=own_id, tools=tools)
