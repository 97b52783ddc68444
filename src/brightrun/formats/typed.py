"""The fast way through a JSON Lines file: whole blocks decoded into typed rows, for records that need no remark.

The types say what a record without any finding looks like; what does not fit them, or does not pass `check`, is left to
the general reader, which finds out why. So this module decides nothing that a person sees: a test holds both ways to
the same report. Only fields that matter are decoded, which is why it can be faster than reading all of the JSON.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Annotated, Any, Literal, NamedTuple, Protocol, cast

import msgspec

from brightrun.formats.decode import decode
from brightrun.formats.lines import Block, Line, lines_of
from brightrun.formats.names import FormatId
from brightrun.formats.records import Message, Record, Role
from brightrun.formats.repeated_keys import strings_in, written_strings
from brightrun.formats.texts import may_be_cut_off, suspicious_braces, suspicious_bytes, suspicious_text
from brightrun.formats.v4 import scaffold_of

Text = Annotated[str, msgspec.Meta(min_length=1)]


class Turn(msgspec.Struct, gc=False):
    """A plain message. The fields of type None are those whose presence needs the general reader."""

    role: Literal["user", "assistant", "system"]
    content: Text
    turn: int | None = None
    turn_number: int | None = None
    weight: None = None
    tool_calls: None = None
    function_call: None = None
    value: None = None
    text: None = None
    refusal: None = None
    messages: None = None
    name: None = None
    tool_call_id: None = None


class PairRow(msgspec.Struct, gc=False):
    """A line of `brightrun_lora_v4`."""

    conversation_id: Text
    current_user_input: Text
    target_response: Text
    system_prompt: Text
    conversation_history: list[Turn] = []
    turn_number: int | None = None
    id: Text | None = None
    conversation_metadata: msgspec.Raw = msgspec.Raw()
    training_metadata: msgspec.Raw = msgspec.Raw()


class ChatRow(msgspec.Struct, gc=False):
    """A line of `openai_messages`."""

    messages: list[Turn]
    conversation_id: Text | None = None
    id: Text | None = None
    tools: None = None
    functions: None = None


class TurnsRow(msgspec.Struct, gc=False):
    """A line of `brightrun_lora_v3`."""

    conversation_id: Text
    turns: list[Turn]
    tools: None = None
    id: None = None


Row = PairRow | ChatRow | TurnsRow


class Counted(NamedTuple):
    """What a clean row amounts to. spoken: messages other than the system's. pairs: trained assistant messages."""

    spoken: int
    pairs: int


class CleanRun:
    """Rows of consecutive lines without any finding.

    first_line: 1-based; offset: of its first byte. counted: one a row. repeats: numbers of the rows whose history
    ends with the current input. first_index: of the first row among the file's records; the reader sets it.
    """

    __slots__ = ("_data", "_starts", "counted", "first_index", "first_line", "offset", "repeats", "rows")

    def __init__(
        self, first_line: int, offset: int, data: bytes, rows: list[Row], counted: list[Counted], repeats: list[int]
    ) -> None:
        self.first_line, self.offset, self._data = first_line, offset, data
        self.rows, self.counted, self.repeats = rows, counted, repeats
        self.first_index = 0
        self._starts: list[int] | None = None

    def records(self) -> Iterator[Record]:
        """The rows as the general reader would have normalised them."""
        for number, row in enumerate(self.rows):
            yield record_of(row, self.first_index + number, self.first_line + number, self.offset_of(number))

    def offset_of(self, number: int) -> int:
        """The first byte of a row, in the file. Rarely wanted, so found only then."""
        if self._starts is None:
            lengths = (len(line) + 1 for line in self._data.split(b"\n"))
            self._starts = list(accumulate(lengths, initial=self.offset))
        return self._starts[number]


_ROLES: dict[tuple[str, ...], Counted | None] = {}
_MAX_KNOWN_ROLES = 10_000


def _count_roles(roles: tuple[str, ...]) -> Counted | None:
    """Of a chat that alternates and ends with an answer; None for any other. Remembered: real files have few."""
    if roles in _ROLES:
        return _ROLES[roles]
    spoken = roles[1:] if roles[:1] == ("system",) else roles
    turns = len(spoken) // 2
    counted = Counted(len(spoken), turns) if turns and spoken == ("user", "assistant") * turns else None
    if len(_ROLES) < _MAX_KNOWN_ROLES:
        _ROLES[roles] = counted
    return counted


def _check_chat(turns: list[Turn]) -> Counted | None:
    counted = _count_roles(tuple([turn.role for turn in turns]))
    if counted is None or not numbered(turns):
        return None
    for turn in turns:
        text = turn.content
        if text.isspace() or suspicious_text(text) or (turn.role == "assistant" and may_be_cut_off(text)):
            return None
    return counted


class _OtherTurn(Protocol):
    turn: int | None
    turn_number: int | None


def numbered(turns: Sequence[_OtherTurn]) -> bool:
    """Whether messages that number themselves count from 1 to the last without a gap, as nearly all do."""
    first, last, size = turns[0], turns[-1], len(turns)
    return (
        first.turn in _FIRST
        and first.turn_number in _FIRST
        and (last.turn is None or last.turn == size)
        and (last.turn_number is None or last.turn_number == size)
    )


_FIRST = (None, 1)


def _check_messages(row: ChatRow) -> Counted | None:
    return None if _blank(row.id) or _blank(row.conversation_id) else _check_chat(row.messages)


def _check_turns(row: TurnsRow) -> Counted | None:
    return None if row.conversation_id.isspace() else _check_chat(row.turns)


_MAX_HISTORY = 200
_ALTERNATING = [(["user", "assistant"] * size)[:size] for size in range(_MAX_HISTORY)]
_ONE_ANSWER = [Counted(spoken, 1) for spoken in range(_MAX_HISTORY + 3)]


def _check_pair(row: PairRow) -> Counted | None:
    history = row.conversation_history
    size, current, target = len(history), row.current_user_input, row.target_response
    if size >= _MAX_HISTORY or [turn.role for turn in history] != _ALTERNATING[size]:
        return None
    if size and not numbered(history):
        return None
    if size % 2 and history[-1].content != current:
        return None
    spoken = size + 2 - size % 2
    if row.turn_number is not None and row.turn_number != spoken:
        return None
    for text in (current, target, row.system_prompt):
        if text.isspace() or suspicious_text(text):
            return None
    if may_be_cut_off(target):
        return None
    for turn in history:
        if turn.content.isspace():
            return None
    if row.conversation_id.isspace() or _blank(row.id):
        return None
    return _ONE_ANSWER[spoken]


def _blank(text: str | None) -> bool:
    return text is not None and text.isspace()


def messages_of(row: Row) -> list[tuple[str, str]]:
    """Role and content of every message, as the general reader would normalise them."""
    match row:
        case ChatRow():
            return [(turn.role, turn.content) for turn in row.messages]
        case TurnsRow():
            return [(turn.role, turn.content) for turn in row.turns]
        case PairRow():
            history = row.conversation_history
            history = history[:-1] if len(history) % 2 else history
            return [
                ("system", row.system_prompt),
                *((turn.role, turn.content) for turn in history),
                ("user", row.current_user_input),
                ("assistant", row.target_response),
            ]


def record_of(row: Row, index: int, line: int, byte_offset: int) -> Record:
    """The record of a row; equal to what the general reader makes of the same line."""
    said = messages_of(row)
    messages = [Message(cast(Role, role), content, role == "assistant") for role, content in said]
    scaffold = None
    if isinstance(row, PairRow):
        for message in messages[:-1]:
            message.trained = False
        scaffold = scaffold_of(
            {
                "conversation_metadata": _decoded(row.conversation_metadata),
                "training_metadata": _decoded(row.training_metadata),
            },
            None,
        )
    return Record(conversation_of(row) or f"record-{index}", index, line, byte_offset, messages, scaffold=scaffold)


def _decoded(raw: msgspec.Raw) -> Any:
    return decode(bytes(raw)) if raw else None


def id_of(row: Row) -> tuple[str, str] | None:
    """The field and the value that should be unique in the file; None where the row has none."""
    match row:
        case TurnsRow():
            return "conversation_id", row.conversation_id
        case PairRow():
            return None if row.id is None else ("id", f"{row.conversation_id}/{row.id}")
        case ChatRow():
            return None if row.id is None else ("id", row.id)


def conversation_of(row: Row) -> str | None:
    """What groups the row with others."""
    return row.conversation_id or row.id


class _Way(NamedTuple):
    decoder: msgspec.json.Decoder[Any]
    check: Callable[[Any], Counted | None]
    scaffolded: bool


_BETWEEN = b"],\n["
# A tuple around every row: two objects on one line would make it a pair, which the type refuses.
_WAYS: dict[FormatId, _Way] = {
    "brightrun_lora_v4": _Way(msgspec.json.Decoder(list[tuple[PairRow]]), _check_pair, True),
    "brightrun_lora_v3": _Way(msgspec.json.Decoder(list[tuple[TurnsRow]]), _check_turns, False),
    "openai_messages": _Way(msgspec.json.Decoder(list[tuple[ChatRow]]), _check_messages, False),
}


def has_fast_way(format: FormatId) -> bool:  # noqa: A002
    """Whether `clean_runs` knows the format."""
    return format in _WAYS


def clean_runs(block: Block, format: FormatId, max_record_bytes: int) -> Iterator[CleanRun | Line]:  # noqa: A002
    """The lines of a block in order: runs of clean rows, and single lines for the general reader."""
    way = _WAYS[format]
    if block.data is not None and block.length <= max_record_bytes and (rows := _decode(block.data, way, block)):
        counted = [way.check(row) for (row,) in rows]
        if None not in counted:
            yield _run(way, block.first_line, block.offset, block.data, [row for (row,) in rows], counted)
        else:
            for line, (row,), one in zip(lines_of(block, max_record_bytes), rows, counted, strict=True):
                yield line if one is None else _run(way, line.number, line.offset, line.data or b"", [row], [one])
        return
    for line in lines_of(block, max_record_bytes):
        single = None if line.data is None else _decode(line.data, way)
        one = way.check(single[0][0]) if single else None
        if line.data is None or single is None or one is None:
            yield line
        else:
            yield _run(way, line.number, line.offset, line.data, [single[0][0]], [one])


def _run(way: _Way, line: int, offset: int, data: bytes, rows: list[Row], counted: list[Counted | None]) -> CleanRun:
    repeats = []
    if way.scaffolded:
        repeats = [n for n, row in enumerate(rows) if isinstance(row, PairRow) and len(row.conversation_history) % 2]
    return CleanRun(line, offset, data, rows, cast(list[Counted], counted), repeats)


def _decode(data: bytes, way: _Way, block: Block | None = None) -> list[tuple[Any]] | None:
    """The rows of whole lines; None when any needs the general reader. block: is told how many lines it has.

    Lines become entries of one list by their line feeds, which stay where they are: inside a text a line feed is an
    error, and a value that goes on over a line end swallows an entry, which the count shows.
    """
    if suspicious_bytes(data) or (way.scaffolded and suspicious_braces(data)):
        return None
    text = data.removesuffix(b"\n")
    listed = b"[[%b]]" % text.replace(b"\n", _BETWEEN)
    lines = (len(listed) - 4 - len(text)) // (len(_BETWEEN) - 1) + 1
    if block is not None:
        block.line_ends = lines - (len(text) == len(data))
    try:
        if not text.isascii():
            text.decode()  # msgspec passes over fields that it does not need without looking at their bytes
        rows: list[tuple[Any]] = way.decoder.decode(listed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if len(rows) != lines:
        return None
    # Where a key stands twice the types say nothing: the last value is taken.
    written = written_strings(text)
    if not way.scaffolded and written == sum(strings_of(row) for (row,) in rows):
        return rows
    try:
        return rows if written == strings_in(decode(listed)) else None
    except ValueError:
        return None  # it stands in a field that needs no decoding here


def strings_of(row: Any) -> int:
    """The keys and texts that a chat has at least, and exactly where it has none but the usual fields."""
    turns = row.turns if hasattr(row, "turns") else row.messages
    named = 2 * (row.conversation_id is not None) + 2 * (getattr(row, "id", None) is not None)
    numbers = [(turn.turn, turn.turn_number) for turn in turns]
    return 1 + named + 4 * len(turns) + sum(2 - pair.count(None) for pair in numbers)
