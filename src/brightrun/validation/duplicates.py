"""Finds records that stand in the file twice, by id or word for word. Keeps at most 64 bytes for each of the two."""

from collections.abc import Iterable

from brightrun.formats.reading import Reading
from brightrun.formats.records import Message, Record
from brightrun.formats.typed import Row, id_of, messages_of
from brightrun.validation.checks import Remark
from brightrun.validation.seen import SeenMap


class Duplicates:
    """Remembers a hash of every id and of every record's messages, each with the line where it was first met."""

    def __init__(self) -> None:
        self._ids, self._texts = SeenMap(), SeenMap()
        self.unit = "line"

    def of_reading(self, reading: Reading) -> list[Remark]:
        """Remarks about the records of one object."""
        return self._look(reading.line, reading.object_id, (_key_of(record) for record in reading.records))

    def of_row(self, line: int, row: Row) -> list[Remark]:
        """Remarks about a row that was read the fast way; the same as about its record."""
        return self._look(line, id_of(row), (hash(tuple(messages_of(row))),))

    def _look(self, line: int, object_id: tuple[str, str] | None, keys: Iterable[int]) -> list[Remark]:
        remarks = []
        if object_id is not None:
            field, value = object_id
            if (first := _first(self._ids, hash(value), line)) is not None:
                shown = value.rpartition("/")[2] if field == "id" else value
                from brightrun.formats.masking import masked_part  # loaded when there is something to report

                message = f"`{field}` {masked_part(shown, 0, 80)!r} was used before, at {self.unit} {first:,}."
                remarks.append(Remark("duplicate_id", field, message))
        for key in keys:
            if (first := _first(self._texts, key, line)) is not None:
                message = f"The record has exactly the messages of {self.unit} {first:,}."
                remarks.append(Remark("duplicate_record", "", message))
        return remarks


def _first(seen: SeenMap, key: int, line: int) -> int | None:
    first = seen.get(key)
    if first is None:
        seen.put(key, line)
    return first


def _key_of(record: Record) -> int:
    """Python's hash of all that is said; of a plain chat, of role and content of every message."""
    said = _said(record.messages)
    if record.kind == "chat" and not any(message.tool_calls for message in record.messages):
        return hash(said)
    calls = tuple(str(message.tool_calls) for message in record.messages)
    return hash((said, calls, _said(record.chosen or []), _said(record.rejected or []), record.label))


def _said(messages: list[Message]) -> tuple[tuple[str, str], ...]:
    return tuple((message.role, message.content) for message in messages)
