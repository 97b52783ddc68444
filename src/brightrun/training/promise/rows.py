"""The records of a file as a base model sees them: how long each is, and how much of it is trained."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from brightrun.formats.chat import ChatTokenizer, preference_sides
from brightrun.formats.chat_errors import ChatError
from brightrun.formats.reader import read_records
from brightrun.formats.records import Message, Record
from brightrun.training.promise.lengths import Lengths, counted


@dataclass(frozen=True, slots=True)
class Row:
    """One record that would be trained on. index: its number in the file, as `Record.index`. tokens: of the rendered
    chat, uncut; of a preference pair, of its longer side. trained: tokens in trained messages, ends of turn included.
    """

    index: int
    conversation_id: str
    tokens: int
    trained: int


def rows_of(
    path: Path, data_format: str, tokenizer: ChatTokenizer, on_bytes: Callable[[int], None] = lambda _offset: None
) -> Iterator[Row]:
    """Rows of a file; records that the trainer would not use are left out, as it names them itself.

    on_bytes: told how far the file is read; may raise to stop. Raises OSError, FormatError.
    """
    for item in read_records(path, data_format):
        if not isinstance(item, Record):
            continue
        on_bytes(item.byte_offset)
        row = row_of(item, tokenizer)
        if row is not None:
            yield row


def row_of(record: Record, tokenizer: ChatTokenizer) -> Row | None:
    """None: nothing of it is trained, or the chat template refuses it."""
    try:
        if record.kind == "preference":
            sides = [tokenizer.render(side, tools=record.tools) for side in preference_sides(record)]
            tokens = max(map(tokenizer.count, sides))
            answers: list[Message] = [*(record.chosen or ()), *(record.rejected or ())]
        else:
            tokens = tokenizer.count(tokenizer.render(record.messages, tools=record.tools))
            answers = [message for message in record.messages if message.trained]
        trained = sum(tokenizer.count(message.content) + 1 for message in answers)
    except ChatError:
        return None
    return Row(record.index, record.conversation_id, tokens, trained) if answers else None


def lengths_of_rows(rows: list[Row], *, source: str) -> Lengths:
    """Raises ValueError without rows."""
    conversations = len({row.conversation_id for row in rows})
    return counted(((row.tokens, row.trained) for row in rows), source=source, conversations=conversations)
