"""`preference`: two answers to one prompt, in the spellings of TRL, OpenAI, ShareGPT, Alpaca and Anthropic's HH."""

import re
from typing import Any

from brightrun.formats.alpaca import alpaca_prompt
from brightrun.formats.dialogue import Part, check_answers, check_end, check_order, has_answer, messages_of
from brightrun.formats.messages import read_messages
from brightrun.formats.prompt_completion import read_side, read_system
from brightrun.formats.reading import Reading, likely_field, take_own_id
from brightrun.formats.records import Message
from brightrun.formats.tool_calls import read_tools

_HH_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
_PROMPT_LISTS = ("messages", "conversations")
_PROMPT_TEXTS = ("prompt", "question")


def read_preference(obj: dict[str, Any], reading: Reading) -> None:
    """One pair. Only the two answers are trained; the prompt may stand apart or be the beginning of both."""
    openai = "preferred_output" in obj or "non_preferred_output" in obj
    keys = ("preferred_output", "non_preferred_output") if openai else ("chosen", "rejected")
    chosen, rejected = (_answer(obj, key, reading) for key in keys)
    parts = _prompt(obj, reading)
    tools_of, tools_path = (obj.get("input"), "input.tools") if openai else (obj, "tools")
    tools = read_tools(tools_of.get("tools"), reading, tools_path) if isinstance(tools_of, dict) else None
    if reading.has_failed() or chosen is None or rejected is None:
        return
    prompt = messages_of(parts)
    chosen, rejected = _without_prompt(prompt, chosen), _without_prompt(prompt, rejected)
    if not prompt:
        common, chosen, rejected = _split_common(chosen, rejected)
        parts, prompt = [common], common.messages
    for side in (chosen, rejected):
        has_answer(side, reading)
    if not prompt:
        _report_no_prompt(obj, reading)
    if reading.has_failed():
        return
    if _same(chosen.messages, rejected.messages):
        reading.report("identical_preference", keys[0], f"`{keys[0]}` and `{keys[1]}` are the same.")
    for side in (chosen, rejected):
        check_end([*parts, side], reading)
        check_answers([side], reading)
    check_order([*parts, chosen], reading)
    for message in prompt:
        message.trained = False
    reading.add(
        prompt,
        conversation_id=take_own_id(obj, reading),
        kind="preference",
        chosen=chosen.messages,
        rejected=rejected.messages,
        tools=tools,
    )


def _report_no_prompt(obj: dict[str, Any], reading: Reading) -> None:
    blank = next((key for key in _PROMPT_TEXTS if isinstance(obj.get(key), str)), None)
    if blank is not None:
        reading.report("blank_content", blank, f"`{blank}` is blank: what are the two answers an answer to?")
        return
    reading.report(
        "missing_field",
        "prompt",
        "There is no prompt: neither a field of its own nor a common beginning.",
        suggestion=likely_field(obj, "prompt") or "Add `prompt` with what both answers are an answer to.",
    )


def _prompt(obj: dict[str, Any], reading: Reading) -> list[Part]:
    """The prompt where it has a field of its own; no messages where the answers contain it."""
    if "input" in obj and isinstance(obj["input"], dict):
        value = obj["input"].get("messages")
        return [Part(read_messages(value, reading, "input.messages"), "input.messages", value)]
    if key := next((key for key in _PROMPT_LISTS if key in obj), None):
        part: Part | None = Part(read_messages(obj[key], reading, key), key, obj[key])
    elif "instruction" in obj:
        return alpaca_prompt(obj, reading) or []
    elif key := next((key for key in _PROMPT_TEXTS if key in obj), None):
        value = obj[key]
        if isinstance(value, str) and not value.strip():
            return []
        turns = _hh_turns(value)
        part = read_side(obj, key, reading, role="user") if turns is None else Part(turns, key, value)
    else:
        return []
    return [] if part is None or not part.messages else [read_system(obj, reading), part]


def _answer(obj: dict[str, Any], key: str, reading: Reading) -> Part | None:
    """One side: a text, a message, a list of messages, or a whole HH dialogue in one text."""
    value = obj.get(key)
    if (turns := _hh_turns(value)) is not None:
        if blank := next((message.role for message in turns if not message.content), None):
            reading.report("blank_content", key, f"`{key}` is a dialogue, and one of its {blank} messages is blank.")
        return Part(turns, key, value)
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


def _without_prompt(prompt: list[Message], side: Part) -> Part:
    """An answer that repeats the prompt, without it."""
    spoken = [message for message in prompt if message.role != "system"]
    for start in (prompt, spoken):
        if start and len(side.messages) > len(start) and _same(side.messages[: len(start)], start):
            return side.after(len(start))
    return side


def _split_common(chosen: Part, rejected: Part) -> tuple[Part, Part, Part]:
    """Two whole dialogues: their common beginning is the prompt, and it ends before an answer."""
    one, other = chosen.messages, rejected.messages
    common = 0
    for first, second in zip(one, other, strict=False):
        if not _same([first], [second]):
            break
        common += 1
    common = min(common, len(one) - 1, len(other) - 1)
    while common > 0 and one[common - 1].role == "assistant":
        common -= 1
    return chosen.until(common), chosen.after(common), rejected.after(common)


def _same(one: list[Message], other: list[Message]) -> bool:
    return [(m.role, m.content, m.tool_calls) for m in one] == [(m.role, m.content, m.tool_calls) for m in other]
