"""A key that stands twice in one JSON object: decoders keep its last value and say nothing of the others.

A clean record is known as such by a count: its bytes hold two quotation marks for every key and every text that the
decoder gave, and no more. Only where that does not come out is the text taken apart.
"""

from collections.abc import Container, Iterator
from typing import Any, NamedTuple

import orjson

from brightrun.formats.decode import decode
from brightrun.formats.json_spans import Span, spans_of
from brightrun.formats.names import FormatId
from brightrun.formats.reading import Reading, join_path
from brightrun.formats.unread import MESSAGE_FIELDS, PART_FIELDS, fields_read, fields_read_of_message

# Of the metadata, what is read: the scaffolding, and the score.
_SCAFFOLD, _TRAINING, _SCORE = "conversation_metadata", "training_metadata", "quality_score"
_WHOLE = frozenset({"tools", "functions", "tool_calls", "function_call"})
_EXCERPT_CHARACTERS = 70
_SORTED = orjson.OPT_SORT_KEYS


class _Every:
    def __contains__(self, key: object) -> bool:
        return True


_EVERY: Container[str] = _Every()
_NONE: Container[str] = frozenset()


class Repeat(NamedTuple):
    """path: of the field. key: its name. first, last: the JSON text of a value that is lost, and of the one that is
    taken. read: whether a Record holds the field, so that two values are two readings. position: byte of the last such
    key within the record."""

    path: str
    key: str
    first: bytes
    last: bytes
    read: bool
    position: int

    @property
    def same(self) -> bool:
        """Whether both say the same, so that nothing is lost."""
        return same_value(decode(self.first), decode(self.last))


def same_value(one: Any, other: Any) -> bool:
    """Whether two decoded values are the same in JSON, where true is not 1."""
    return orjson.dumps(one, option=_SORTED) == orjson.dumps(other, option=_SORTED)


def strings_in(value: Any) -> int:
    """The keys and texts of a decoded value. Every other value is written without quotation marks."""
    count, waiting = 0, [value]
    for found in waiting:
        if type(found) is str:
            count += 1
        elif type(found) is dict:
            count += len(found)
            waiting += found.values()
        elif type(found) is list:
            waiting += found
    return count


def written_strings(text: bytes) -> int:
    """How many keys and texts a JSON text holds at most; exactly that many where no backslash is escaped."""
    marks = text.count(b'"')
    if b"\\" in text:
        # A backslash before the mark escapes it, unless it is escaped itself.
        marks -= text.count(b'\\"') - text.count(b'\\\\"')
    return marks // 2


def may_repeat(text: bytes, value: Any) -> bool:
    """Whether a key may stand twice anywhere in a JSON text. value: what it decodes to. Never wrong when it says no."""
    return written_strings(text) != strings_in(value)


def repeats_in(text: bytes, format: FormatId | None, *, pair: bool = False) -> Iterator[Repeat]:  # noqa: A002
    """The keys that stand twice in a record: in itself, its messages, tools and what is read of its metadata.

    text: of valid JSON. format: None for what describes a file or a conversation, where any depth is looked at. pair:
    whether it is one of the pairs of a v4 or enriched document. What stands deeper in fields that no format knows is
    nobody's reading, and is not looked at.
    """
    root = spans_of(text)
    if not root.keys:
        return
    if format is None or "_meta" in root.keys:
        yield from _deep(text, root, "", _NONE)
    elif format == "enriched_conversation" and not pair:
        yield from _own(text, root, "", {"training_pairs", "dataset_metadata"})
        for number, entry in enumerate(_children(root.child("training_pairs"))):
            yield from _of_record(text, entry, f"training_pairs[{number}]", "brightrun_lora_v4")
        if (metadata := root.child("dataset_metadata")) is not None:
            yield from _own(text, metadata, "dataset_metadata", {"dataset_name"})
    else:
        yield from _of_record(text, root, "", "brightrun_lora_v4" if pair else format)


def _of_record(text: bytes, record: Span, path: str, format: FormatId) -> Iterator[Repeat]:  # noqa: A002
    read = fields_read(format)
    yield from _own(text, record, path, read)
    for key, number in record.keys.items():
        value, where = record.children[number], join_path(path, key)
        if key in _WHOLE and key in read:
            yield from _deep(text, value, where, _EVERY)
        elif key in MESSAGE_FIELDS and key in read:
            yield from _of_messages(text, value, where, key)
        elif format != "brightrun_lora_v4":
            continue
        elif key == _SCAFFOLD:
            yield from _own(text, value, where, _NONE)
        elif key == _TRAINING:
            yield from (repeat for repeat in _own(text, value, where, _NONE) if repeat.key == _SCORE)


def _of_messages(text: bytes, value: Span, path: str, holder: str) -> Iterator[Repeat]:
    if value.keys:
        yield from _of_message(text, value, path, holder)
    for number, entry in enumerate(_children(value)):
        yield from _of_message(text, entry, f"{path}[{number}]", "")


def _of_message(text: bytes, message: Span, path: str, holder: str) -> Iterator[Repeat]:
    yield from _own(text, message, path, fields_read_of_message(holder))
    for key, number in message.keys.items():
        value, where = message.children[number], f"{path}.{key}"
        if key in _WHOLE:
            yield from _deep(text, value, where, _EVERY)
        elif key in {"content", "value"}:
            for place, part in enumerate(_children(value)):
                yield from _own(text, part, f"{where}[{place}]", PART_FIELDS)
        elif key == "messages" and holder == "input":
            yield from _of_messages(text, value, where, "")


def _children(value: Span | None) -> list[Span]:
    """The entries of a list."""
    return [] if value is None or value.keys else value.children


def _deep(text: bytes, value: Span, path: str, read: Container[str]) -> Iterator[Repeat]:
    """All that stands below a value. No recursion: JSON nests deeper than Python's stack."""
    waiting = [(value, path)]
    while waiting:
        found, where = waiting.pop()
        yield from _own(text, found, where, read)
        below = [(found.children[number], join_path(where, key)) for key, number in found.keys.items()]
        below += [(entry, f"{where}[{number}]") for number, entry in enumerate(_children(found))]
        waiting += reversed(below)


def _own(text: bytes, value: Span, path: str, read: Container[str]) -> Iterator[Repeat]:
    for key, number in value.earlier:
        first, last = value.children[number], value.children[value.keys[key]]
        before, kept = text[first.start : first.end], text[last.start : last.end]
        yield Repeat(join_path(path, key), key, before, kept, key in read, last.begin)


def report_repeats(text: bytes, reading: Reading, format: FormatId | None, *, pair: bool = False) -> None:  # noqa: A002
    """Say of a record in which fields two values stand. Where that leaves two readings, no record comes out."""
    errors = reading.errors
    for repeat in repeats_in(text, format, pair=pair):
        code = "duplicate_key" if repeat.read and not repeat.same else "repeated_key"
        if not reading.hears(code):
            reading.report(code, repeat.path, "")
            continue
        first, last = (value.decode("utf-8", "replace") for value in (repeat.first, repeat.last))
        how = "the same value" if repeat.same else "different values"
        reading.report(
            code,
            repeat.path,
            f"`{repeat.path}` stands twice in one object, with {how}.",
            excerpt=f"{first[:_EXCERPT_CHARACTERS]} | {last[:_EXCERPT_CHARACTERS]}",
            position=repeat.position,
            fixable=repeat.same and reading.is_record,
        )
    if reading.errors > errors:
        reading.records.clear()
        reading.null_targets.clear()
