"""The fastest way through JSON Lines: whole blocks cleared of every suspicion by few operations, for who only counts.

A block is cleared when each of its lines is one plain record about which nothing could be said. It need not be told
why a block is not: `typed.clean_runs` and the general reader look at it then. So what is tested here may be stricter
than what is a fault, never laxer; a test holds all ways to the same report.
"""

import re
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from brightrun.formats.lean_pairs import PairDecoder
from brightrun.formats.lines import Block
from brightrun.formats.names import FormatId
from brightrun.formats.texts import BRACES, BRACKETED, MARKUP, WHOLE_ENDS, damaged_characters
from brightrun.formats.typed import numbered, strings_of

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Role = Literal["user", "assistant", "system"]


class Cleared(NamedTuple):
    """What the lines of a block amount to.

    rows: how many. pairs: trained answers. spoken: messages other than the system's, in all. ids: what groups each row
    with others, with its own `spoken`; None for rows without an id when no row has one. first_repeat: number of the
    first row whose history ends with the current input, None without one; repeats: how many do.
    """

    rows: int
    pairs: int
    spoken: int
    ids: list[tuple[str | None, int]] | None
    first_repeat: int | None = None
    repeats: int = 0


def clear(block: Block, format: FormatId) -> Cleared | None:  # noqa: A002
    """The sum of a block without any finding; None where that is not certain."""
    data = block.data
    if not data:
        return None
    cleared = _clear_pairs(data) if format == "brightrun_lora_v4" else _clear_chats(data, *_CHATS[format])
    if cleared is not None:
        block.line_ends = cleared.rows - (data[-1] != _LINE_FEED)
    return cleared


_LINE_FEED, _QUOTE = 0x0A, 0x22
# Escapes that may stand for anything in a clean text; what follows another backslash is looked at more closely.
_HARMLESS = frozenset(b'n"tr/')
_HARMFUL_ESCAPE = re.compile(
    rb"\\(?=[bf\\]|u(?:00(?:[0135789]|[cC][23]|[eE]2\\u(?:20[aA][cC]|0080)|[fF]0\\u01)|[fF]{2}))"
).search


def _damaged(data: bytes) -> bool:
    return b"\x7f" in data or damaged_characters(data)


def _escaped_quotes(data: bytes, *, counts: bool = True) -> int:
    """How many quotation marks are escaped, where the caller `counts`; -1 where there are suspicious escapes.

    Those are control characters, �, ｜, what was decoded wrongly, and escaped backslashes. Escapes are few, so a loop
    over them is faster than an expression over all bytes.
    """
    find, quotes = data.find, 0
    position = find(b"\\")
    while position >= 0:
        if data[position + 1] not in _HARMLESS:
            if _HARMFUL_ESCAPE(data, position):
                return -1
            return quotes + data.count(b'\\"', position) if counts else 0
        quotes += data[position + 1] == _QUOTE
        position = find(b"\\", position + 2)
    return quotes


def _count_lines(data: bytes) -> int:
    """The lines, when each begins with `{` and ends with `}`; else -1.

    Within a value no `}` stands directly before a line end with a `{` behind it, for JSON wants a comma there. So a
    decoder that read as many values as there are such lines read one from each.
    """
    find, last = data.find, len(data) - 1
    if data[0] != 0x7B or data[-1] not in b"}\n":
        return -1
    lines, position = 1, find(b"\n")
    while 0 <= position < last:
        if data[position - 1] != 0x7D or data[position + 1] != 0x7B:
            return -1
        lines += 1
        position = find(b"\n", position + 1)
    return lines if data[position - 1] == 0x7D else -1


# Chats. Every field is known and every text decoded, so that nothing of the bytes remains unread.


class _Turn(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    role: _Role
    content: _Text
    turn: int | None = None
    turn_number: int | None = None


class _Chat(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    messages: list[_Turn]
    conversation_id: _Text | None = None
    id: _Text | None = None


class _Turns(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    turns: list[_Turn]
    conversation_id: _Text


_CHATS: dict[FormatId, tuple[msgspec.json.Decoder[Any], str]] = {
    "openai_messages": (msgspec.json.Decoder(_Chat), "messages"),
    "brightrun_lora_v3": (msgspec.json.Decoder(_Turns), "turns"),
}
_MAX_TURNS = 400
# By the number of messages: an odd one means that a system message stands first. None can be a whole chat.
_CHAT_ROLES: list[list[str] | None] = [
    [*(["system"] * (size % 2)), *(["user", "assistant"] * (size // 2))] if size > 1 else None
    for size in range(_MAX_TURNS)
]


def _clear_chats(data: bytes, decoder: msgspec.json.Decoder[Any], field: str) -> Cleared | None:
    lines = _count_lines(data)
    if lines < 0 or _damaged(data) or (quotes := _escaped_quotes(data)) < 0 or MARKUP(data):
        return None
    try:
        rows = decoder.decode_lines(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if lines != len(rows):
        return None
    texts: list[str] = []
    answers: list[str] = []
    sizes: list[int] = []
    for turns in [row.messages for row in rows] if field == "messages" else [row.turns for row in rows]:
        size = len(turns)
        if size >= _MAX_TURNS or [turn.role for turn in turns] != _CHAT_ROLES[size] or not numbered(turns):
            return None
        said = [turn.content for turn in turns]
        texts += said
        answers += said[1 + size % 2 :: 2]
        sizes.append(size & ~1)
    if any(map(str.isspace, texts)):
        return None
    if [text for text in texts if "{" in text or "[" in text] and (BRACES(data) or BRACKETED(data)):
        return None
    if b"`" in data and any("```" in text for text in answers):
        return None
    if not all(end in WHOLE_ENDS or (end > "\x7f" and not end.isspace()) for end in {text[-1] for text in answers}):
        return None
    ids = None
    if field == "turns" or any(row.conversation_id is not None or row.id is not None for row in rows):
        own = [row.id for row in rows] if field == "messages" else []
        shared = [row.conversation_id for row in rows]
        if any(text is not None and text.isspace() for text in (*own, *shared)):
            return None
        names = [one or other for one, other in zip(shared, own, strict=True)] if own else shared
        ids = list(zip(names, sizes, strict=True))
    # Two marks for every key and text that was decoded; a key that stands twice has more.
    marks = data.count(b'"') - quotes
    if marks != 2 * (lines + 4 * len(texts)) and marks != 2 * sum(map(strings_of, rows)):
        return None
    return Cleared(lines, len(answers), sum(sizes), ids)


# Pairs. A history repeats what other lines say, and much of a line concerns nobody here: texts stay as they are
# written, and are only looked at where they begin and end.


class _PairTurn(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    role: _Role
    content: msgspec.Raw
    turn: int | None = None
    turn_number: int | None = None
    weight: None = None
    tool_calls: None = None
    function_call: None = None
    value: None = None
    text: None = None
    refusal: None = None
    messages: None = None


class _Pair(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    conversation_id: _Text
    current_user_input: msgspec.Raw
    target_response: msgspec.Raw
    system_prompt: msgspec.Raw
    conversation_history: list[_PairTurn]
    turn_number: int | None = None
    id: _Text | None = None
    conversation_metadata: msgspec.Raw = msgspec.Raw()
    training_metadata: msgspec.Raw = msgspec.Raw()


_PAIRS = PairDecoder(_Pair, _PairTurn)
_MAX_HISTORY = 200
_ALTERNATING = [(["user", "assistant"] * size)[:size] for size in range(_MAX_HISTORY)]
# Second byte of a JSON text that may be blank: white space, an escape, the closing quote, or the first byte of a
# character that may be white space.
_MAYBE_BLANK = frozenset(b' \t\n\r\\"\xc2\xe1\xe2\xe3')
# Last byte of the characters beyond ASCII that are white space.
_MAYBE_SPACE = frozenset([*range(0x80, 0x8B), 0x9F, 0xA0, 0xA8, 0xA9, 0xAF])
_DIGITS = frozenset(b"0123456789")  # at the end of a JSON text they may belong to an escape


def _clear_pairs(data: bytes) -> Cleared | None:
    lines = _count_lines(data)
    if lines < 0:
        return None
    try:
        if not data.isascii():
            data.decode()  # msgspec passes over what it need not decode without looking at its bytes
        rows = _PAIRS.decode_lines(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if rows is None or lines != len(rows) or _PAIRS.repeat(data, rows):
        return None
    if not _texts_are_clean(rows):
        return None
    ids: list[tuple[str | None, int]] = []
    repeats, first_repeat = 0, None
    for number, row in enumerate(rows):
        history, conversation_id = row.conversation_history, row.conversation_id
        size = len(history)
        if size >= _MAX_HISTORY or [turn.role for turn in history] != _ALTERNATING[size]:
            return None
        if size and not numbered(history):
            return None
        spoken = size + 2
        if size & 1:
            if history[-1].content != row.current_user_input:
                return None
            spoken -= 1
            repeats += 1
            if first_repeat is None:
                first_repeat = number
        if row.turn_number is not None and row.turn_number != spoken:
            return None
        if conversation_id.isspace() or (row.id is not None and row.id.isspace()):
            return None
        ids.append((conversation_id, spoken))
    return Cleared(lines, lines, 0, ids, first_repeat, repeats)


def _texts_are_clean(rows: list[_Pair]) -> bool:
    """Whether every text is one, says something, and holds nothing that no model should learn."""
    # System prompt and metadata are mostly those of the line before.
    prompts: list[msgspec.Raw] = []
    about: list[msgspec.Raw] = []
    prompt = metadata = None
    for row in rows:
        if row.system_prompt != prompt:
            prompts.append(prompt := row.system_prompt)
        if row.conversation_metadata != metadata:
            about.append(metadata := row.conversation_metadata)
    texts = [bytes(row.target_response) for row in rows]
    texts += [bytes(row.current_user_input) for row in rows]
    texts += map(bytes, prompts)
    read, scaffold = b"\n".join(texts), b"\n".join(about)
    if b"`" in read and b"```" in read:
        return False
    # Damaged characters are of interest in what a model reads here. A history is other lines' text.
    if _damaged(read) or (b"{" in read and BRACES(read)) or BRACES(scaffold):
        return False
    if _suspicious(read) or _suspicious(scaffold):
        return False
    if not _none_blank(texts) or not _all_whole({text[-2] for text in texts[: len(rows)]}):
        return False
    return _none_blank([bytes(turn.content) for row in rows for turn in row.conversation_history])


def _suspicious(texts: bytes) -> bool:
    return _escaped_quotes(texts, counts=False) < 0 or BRACKETED(texts) or MARKUP(texts)


def _none_blank(texts: list[bytes]) -> bool:
    """Whether all are JSON texts with something in them."""
    begins = {text[:2] for text in texts}
    doubtful = {begin for begin in begins if begin[:1] != b'"' or begin[1] in _MAYBE_BLANK}
    if not doubtful:
        return True
    return all(_says_something(text) for text in texts if text[:2] in doubtful)


def _says_something(text: bytes) -> bool:
    if text[:1] != b'"':
        return False
    said = msgspec.json.decode(text, type=str)
    return said != "" and not said.isspace()


def _all_whole(last: set[int]) -> bool:
    """Whether answers that end with these bytes (before the quote) were surely not cut off."""
    return all(
        (chr(byte) in WHOLE_ENDS and byte not in _DIGITS) if byte < 0x80 else byte not in _MAYBE_SPACE for byte in last
    )
