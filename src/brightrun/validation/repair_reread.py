"""Reads the text of a record again, as the record that it is; and remembers what records said."""

import hashlib
from collections.abc import Sequence

import orjson

from brightrun.formats.documents import read_document_pair
from brightrun.formats.objects import ObjectReader
from brightrun.formats.reading import Reading
from brightrun.formats.records import Message, Record
from brightrun.formats.registry import Format
from brightrun.formats.texts import PAIR_FIELDS
from brightrun.validation.seen import SeenMap


class SameRecord:
    """`(text)` to a Reading at the same place of the same file, all texts checked.

    entry: the file's format. pairs: whether the record is one of the pairs of a v4 or enriched document.
    """

    def __init__(self, reading: Reading, entry: Format, max_record_bytes: int, *, pairs: bool) -> None:
        self._old, self._entry, self._pairs = reading, entry, pairs
        self._object = ObjectReader(max_record_bytes, True)

    def __call__(self, text: bytes) -> Reading:
        """What the reader finds in this text."""
        old = self._old
        reading = Reading(old.line, old.byte_offset, old.path, old.index)
        reading.conversation, reading.fallback_id = old.conversation, old.fallback_id
        if self._pairs:
            self._object.read_with(
                reading, text, len(text), lambda pair: read_document_pair(pair, reading), PAIR_FIELDS
            )
        else:
            self._object.read(reading, text, len(text), self._entry)
        return reading


class SeenRecords:
    """Remembers what records said, in 24 to 48 bytes each: 127 bits of a hash, so that no two are taken for one."""

    def __init__(self) -> None:
        self._seen = SeenMap()

    def has_all(self, records: Sequence[Record]) -> bool:
        """Whether each of these was said before; they are remembered. False for none."""
        known = [self._has(record) for record in records]
        return bool(known) and all(known)

    def _has(self, record: Record) -> bool:
        digest = hashlib.blake2b(_said(record), digest_size=16).digest()
        key, rest = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big") >> 1
        before = self._seen.get(key)
        if before is None:
            self._seen.put(key, rest)
        return before == rest


def _said(record: Record) -> bytes:
    """All that a model would see of it."""
    lists = (record.messages, record.chosen or [], record.rejected or [])
    said = [[_plain(message) for message in messages] for messages in lists]
    return orjson.dumps([record.kind, said, record.label])


def _plain(message: Message) -> list[object]:
    return [message.role, message.content, message.tool_calls]
