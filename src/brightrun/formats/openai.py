"""`openai_messages`: `{"messages": [...]}` as OpenAI's fine-tuning writes it, with tools, weights and content parts."""

from typing import Any

from brightrun.formats.messages import check_chat, read_messages, read_tools
from brightrun.formats.reading import Reading, take_own_id


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
    reading.add(messages, conversation_id=take_own_id(obj, reading), tools=tools)
