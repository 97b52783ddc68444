"""`alpaca`: `instruction`, `input`, `output`, and optionally `history` and `system`."""

from typing import Any

from brightrun.formats.dialogue import Part, check_chat, messages_of
from brightrun.formats.prompt_completion import read_system
from brightrun.formats.reading import Reading, json_type, take_own_id, take_text
from brightrun.formats.records import Message


def read_alpaca(obj: dict[str, Any], reading: Reading) -> None:
    """One exchange. Earlier answers in `history` are trained like the last one: they are the assistant's, too."""
    key = "response" if "response" in obj and "output" not in obj else "output"
    prompt, answer = alpaca_prompt(obj, reading), read_answer(obj, key, reading)
    if prompt is None or answer is None or reading.has_failed():
        return
    parts = [*prompt, answer]
    check_chat(parts, reading, key)
    reading.add(messages_of(parts), conversation_id=take_own_id(obj, reading))


def read_answer(obj: dict[str, Any], key: str, reading: Reading) -> Part | None:
    """The answer at `key`, which must be a text; None when reported as unreadable."""
    answer = take_text(obj, key, reading)
    if answer is None:
        return None
    if not answer.strip():
        reading.report("blank_content", key, f"`{key}` is blank: there is nothing for a model to learn.")
    return Part([Message(role="assistant", content=answer, trained=True)], key, answer)


def alpaca_prompt(obj: dict[str, Any], reading: Reading) -> list[Part] | None:
    """`system`, `history`, `instruction` and `input` as messages; None when reported as unreadable."""
    errors_before = reading.errors
    instruction = take_text(obj, "instruction", reading)
    context = take_text(obj, "input", reading, required=False)
    parts = [read_system(obj, reading), *_history(obj.get("history"), reading)]
    question = "\n".join(text for text in (instruction, context) if text and text.strip())
    if instruction is not None and not question:
        reading.report(
            "blank_content", "instruction", "`instruction` and `input` are blank: there is nothing to answer."
        )
    if reading.errors > errors_before:
        return None
    return [*parts, Part([Message(role="user", content=question)], "instruction", question)]


def _history(value: object, reading: Reading) -> list[Part]:
    if value is None:
        return []
    if not isinstance(value, list):
        reading.report(
            "wrong_type", "history", f"`history` is {json_type(value)}; it must be a list of [question, answer]."
        )
        return []
    parts = []
    for number, exchange in enumerate(value):
        where = f"history[{number}]"
        match exchange:
            case [str(question), str(answer)]:
                asked = Message(role="user", content=question)
                answered = Message(role="assistant", content=answer, trained=True)
                parts += [Part([asked], f"{where}[0]", question), Part([answered], f"{where}[1]", answer)]
                for place, (name, text) in enumerate((("question", question), ("answer", answer))):
                    if not text.strip():
                        here = f"{where}[{place}]"
                        reading.report("blank_content", here, f"`{here}`: the {name} is blank.")
            case _:
                reading.report("wrong_type", where, f"`{where}` must be a pair of texts: [question, answer].")
    return parts
