"""What must hold for a chat as a whole, whichever fields its messages were read from."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from brightrun.formats.reading import Reading, join_path
from brightrun.formats.records import Message
from brightrun.formats.texts import check_answer, may_be_cut_off


class Part(NamedTuple):
    """Messages that were read from one field, so that each can be shown where it stands.

    path: of the field. value: what it holds: a list of message objects, one of them, or a text. start: number of the
    first message within that list.
    """

    messages: list[Message]
    path: str
    value: object = None
    start: int = 0

    def after(self, count: int) -> "Part":
        """Without the first `count` messages."""
        return Part(self.messages[count:], self.path, self.value, self.start + count)

    def until(self, count: int) -> "Part":
        """Only the first `count` messages."""
        return Part(self.messages[:count], self.path, self.value, self.start)

    def place(self, number: int, *, text: bool = False) -> str:
        """The path of a message, or of its text."""
        entry, where = self.value, self.path
        if isinstance(entry, list):
            entry, where = entry[self.start + number], f"{where}[{self.start + number}]"
        return join_path(where, content_key(entry)) if text and isinstance(entry, dict) else where


def content_key(entry: dict[str, Any]) -> str:
    """Where a message object keeps its text: `value` is ShareGPT's word, `content` everybody else's."""
    if "content" in entry:
        return "content"
    return "value" if "value" in entry or ("from" in entry and "role" not in entry) else "content"


def messages_of(parts: Sequence[Part]) -> list[Message]:
    """All messages in order."""
    return [message for part in parts for message in part.messages]


def place_of(number: int, parts: Sequence[Part], *, text: bool = False) -> str:
    """The path of a message of the chat, or of its text."""
    for part in parts:
        if number < len(part.messages):
            return part.place(number, text=text)
        number -= len(part.messages)
    raise IndexError(number)


def check_chat(parts: Sequence[Part], reading: Reading, path: str) -> None:
    """What must hold for a chat that is trained as one. Consequences of faults already reported are not reported again.

    path: of the field that should hold the answer.
    """
    if reading.has_failed():
        return
    messages = messages_of(parts)
    roles = [message.role for message in messages]
    if "assistant" not in roles:
        reading.report(
            "no_assistant_turn", path, f"`{path}` has no assistant message: there is nothing for a model to learn."
        )
    elif not any(message.trained for message in messages):
        reading.report(
            "all_weights_zero", path, f"All assistant messages of `{path}` have weight 0: nothing would be trained."
        )
    check_end(parts, reading)
    check_answers(parts, reading)
    check_order(parts, reading)


def has_answer(part: Part, reading: Reading) -> bool:
    """Whether the field that should hold the answer does; reported where not."""
    found = any(message.role == "assistant" for message in part.messages)
    if not found:
        message = f"`{part.path}` has no assistant message: there is nothing for a model to learn."
        reading.report("no_assistant_turn", part.path, message)
    return found


def check_end(parts: Sequence[Part], reading: Reading) -> None:
    """Warn about what follows the last answer."""
    roles = [message.role for message in messages_of(parts)]
    if "assistant" not in roles or roles[-1] == "assistant":
        return
    trailing = roles[::-1].index("assistant")
    where = place_of(len(roles) - trailing, parts)
    count = "one message follows" if trailing == 1 else f"{trailing} messages follow"
    reading.report("last_turn_not_assistant", where, f"From `{where}` on {count} the last answer.")


def check_answers(parts: Sequence[Part], reading: Reading) -> None:
    """Warn about trained answers that stop in the middle."""
    for part in parts:
        for number, message in enumerate(part.messages):
            if message.trained and may_be_cut_off(message.content):
                check_answer(message.content, reading, part.place(number, text=True))


def check_order(parts: Sequence[Part], reading: Reading) -> None:
    """Warn, once each, about speakers out of turn and system messages out of place."""
    messages = messages_of(parts)
    for number, message in enumerate(messages):
        if number and message.role == "system":
            where = place_of(number, parts)
            second = " and it is not the only one" if any(m.role == "system" for m in messages[:number]) else ""
            reading.report(
                "system_not_first",
                where,
                f"`{where}` is a system message; only the first message may be{second}.",
                fixable=number == 1 and bool(second) and len(parts[0].messages) > 1,
            )
            break
    previous: Message | None = None
    for number, message in enumerate(messages):
        if message.role == "system":
            continue
        if previous is None:
            wrong = message.role != "user"
        else:
            same = message.role == previous.role and message.role != "tool"
            wrong = same and not (message.tool_calls or previous.tool_calls)
        if wrong:
            where = place_of(number, parts)
            after = "begins the conversation" if previous is None else f"follows another {previous.role} message"
            reading.report("role_order", where, f"`{where}`: this {message.role} message {after}.")
            break
        previous = message
