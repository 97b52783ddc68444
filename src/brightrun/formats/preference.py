"""`preference`: two answers to one prompt, in the spellings of TRL, OpenAI, ShareGPT, Alpaca and Anthropic's HH."""

import re
from typing import Any

from brightrun.formats.alpaca import alpaca_prompt
from brightrun.formats.messages import check_order, read_messages, read_tools
from brightrun.formats.prompt_completion import read_side
from brightrun.formats.reading import Reading, json_type, take_own_id
from brightrun.formats.records import Message

_HH_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
_PROMPT_LISTS = ("messages", "conversations")


def read_preference(obj: dict[str, Any], reading: Reading) -> None:
    """One pair. Only the two answers are trained; the prompt may stand apart or be the beginning of both."""
    openai = "preferred_output" in obj or "non_preferred_output" in obj
    keys = ("preferred_output", "non_preferred_output") if openai else ("chosen", "rejected")
    chosen, rejected = (_answer(obj, key, reading) for key in keys)
    prompt, tools_of = _prompt(obj, reading), obj.get("input") if openai else obj
    if reading.has_failed() or chosen is None or rejected is None:
        return
    chosen, rejected = _without_prompt(prompt, chosen), _without_prompt(prompt, rejected)
    if not prompt:
        prompt, chosen, rejected = _split_common(chosen, rejected)
    for key, side in zip(keys, (chosen, rejected), strict=True):
        if not any(message.role == "assistant" for message in side):
            reading.report("no_assistant_turn", key, f"`{key}` has no assistant message after the prompt.")
    if not prompt:
        reading.report(
            "missing_field", "prompt", "There is no prompt: neither a field of its own nor a common beginning."
        )
    if reading.has_failed():
        return
    if _same(chosen, rejected):
        reading.report("identical_preference", keys[0], f"`{keys[0]}` and `{keys[1]}` are the same.")
    check_order([*prompt, *chosen], reading, keys[0])
    for message in prompt:
        message.trained = False
    tools = read_tools(tools_of.get("tools"), reading) if isinstance(tools_of, dict) else None
    reading.add(
        prompt,
        conversation_id=take_own_id(obj, reading),
        kind="preference",
        chosen=chosen,
        rejected=rejected,
        tools=tools,
    )


def _prompt(obj: dict[str, Any], reading: Reading) -> list[Message]:
    """The prompt where it has a field of its own; empty where the answers contain it."""
    messages: list[Message] | None = []
    if "input" in obj and isinstance(obj["input"], dict):
        messages = read_messages(obj["input"].get("messages"), reading, "input.messages")
    elif key := next((key for key in _PROMPT_LISTS if key in obj), None):
        messages = read_messages(obj[key], reading, key)
    elif "instruction" in obj:
        return alpaca_prompt(obj, reading) or []
    elif key := next((key for key in ("prompt", "question") if key in obj), None):
        messages = _hh_turns(obj[key]) or read_side(obj, key, reading, role="user")
    system = obj.get("system")
    if messages and isinstance(system, str) and system.strip():
        messages.insert(0, Message(role="system", content=system))
    return messages or []


def _answer(obj: dict[str, Any], key: str, reading: Reading) -> list[Message] | None:
    """One side: a text, a message, a list of messages, or a whole HH dialogue in one text."""
    value = obj.get(key)
    if isinstance(value, str):
        turns = _hh_turns(value)
        if turns is not None:
            return turns
    elif value is not None and not isinstance(value, list | dict):
        reading.report(
            "wrong_type", key, f"`{key}` is {json_type(value)}; it must be a text, a message or a list of them."
        )
        return None
    return read_side(obj, key, reading, role="assistant")


def _hh_turns(text: object) -> list[Message] | None:
    """`\\n\\nHuman: …\\n\\nAssistant: …` as messages; None when the text is not written so."""
    if not isinstance(text, str) or not text.lstrip().startswith("Human:"):
        return None
    pieces = _HH_TURN.split("\n\n" + text.lstrip())
    messages = []
    for speaker, content in zip(pieces[1::2], pieces[2::2], strict=True):
        human = speaker == "Human"
        messages.append(Message(role="user" if human else "assistant", content=content.strip(), trained=not human))
    if messages and messages[-1].role == "assistant" and not messages[-1].content:
        messages.pop()  # a prompt that ends with "Assistant:" asks for the answer
    return messages


def _without_prompt(prompt: list[Message], side: list[Message]) -> list[Message]:
    """An answer that repeats the prompt, without it."""
    spoken = [message for message in prompt if message.role != "system"]
    for start in (prompt, spoken):
        if start and len(side) > len(start) and _same(side[: len(start)], start):
            return side[len(start) :]
    return side


def _split_common(chosen: list[Message], rejected: list[Message]) -> tuple[list[Message], list[Message], list[Message]]:
    """Two whole dialogues: their common beginning is the prompt, and it ends before an answer."""
    common = 0
    for one, other in zip(chosen, rejected, strict=False):
        if not _same([one], [other]):
            break
        common += 1
    common = min(common, len(chosen) - 1, len(rejected) - 1)
    while common > 0 and chosen[common - 1].role == "assistant":
        common -= 1
    return chosen[:common], chosen[common:], rejected[common:]


def _same(one: list[Message], other: list[Message]) -> bool:
    return [(m.role, m.content, m.tool_calls) for m in one] == [(m.role, m.content, m.tool_calls) for m in other]
