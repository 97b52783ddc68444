"""`alpaca`: `instruction`, `input`, `output`, and optionally `history` and `system`."""

from typing import Any

from brightrun.formats.reading import Reading, json_type, take_own_id, take_text
from brightrun.formats.records import Message
from brightrun.formats.texts import check_answer


def read_alpaca(obj: dict[str, Any], reading: Reading) -> None:
    """One exchange. Earlier answers in `history` are trained like the last one: they are the assistant's, too."""
    prompt = alpaca_prompt(obj, reading)
    answer = take_text(obj, "output" if "output" in obj or "response" not in obj else "response", reading)
    if answer is not None and not answer.strip():
        reading.report("blank_content", "output", "`output` is blank: there is nothing for a model to learn.")
    if answer is not None:
        check_answer(answer, reading, "output")
    if prompt is None or answer is None or reading.has_failed():
        return
    reading.add(
        [*prompt, Message(role="assistant", content=answer, trained=True)], conversation_id=take_own_id(obj, reading)
    )


def alpaca_prompt(obj: dict[str, Any], reading: Reading) -> list[Message] | None:
    """`system`, `history`, `instruction` and `input` as messages; None when reported as unreadable."""
    instruction = take_text(obj, "instruction", reading)
    context = take_text(obj, "input", reading, required=False)
    system = take_text(obj, "system", reading, required=False)
    messages = [Message(role="system", content=system)] if system and system.strip() else []
    messages += _history(obj.get("history"), reading)
    question = "\n".join(text for text in (instruction, context) if text and text.strip())
    if instruction is not None and not question:
        reading.report(
            "blank_content", "instruction", "`instruction` and `input` are blank: there is nothing to answer."
        )
    if reading.has_failed():
        return None
    return [*messages, Message(role="user", content=question)]


def _history(value: object, reading: Reading) -> list[Message]:
    if value is None:
        return []
    if not isinstance(value, list):
        reading.report(
            "wrong_type", "history", f"`history` is {json_type(value)}; it must be a list of [question, answer]."
        )
        return []
    messages = []
    for number, exchange in enumerate(value):
        match exchange:
            case [str(question), str(answer)]:
                messages.append(Message(role="user", content=question))
                messages.append(Message(role="assistant", content=answer, trained=True))
                if not answer.strip():
                    reading.report(
                        "blank_content", f"history[{number}][1]", f"`history[{number}][1]`: the answer is blank."
                    )
            case _:
                where = f"history[{number}]"
                reading.report("wrong_type", where, f"`{where}` must be a pair of texts: [question, answer].")
    return messages
