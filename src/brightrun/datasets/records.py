"""One record of a stored file: its bytes, what was read from it, and where it stands."""

import asyncio
import re
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any, BinaryIO, cast
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.datasets import places
from brightrun.datasets.schemas import IssueOut, RecordOut
from brightrun.datasets.service import get
from brightrun.datasets.tables import Dataset, DatasetStatus
from brightrun.datasets.validation_run import ISSUES_KIND
from brightrun.errors import ConflictError, NotFoundError
from brightrun.formats.decode import decode
from brightrun.formats.detect import HEAD_BYTES, Layout, detect
from brightrun.formats.json_stream import JsonWalker, StructureError
from brightrun.formats.lines import MAX_RECORD_BYTES, UTF8_BOM, ByteSource
from brightrun.formats.names import FormatId
from brightrun.formats.objects import ObjectReader
from brightrun.formats.reader import RecordReader
from brightrun.formats.reading import Reading
from brightrun.formats.records import Record
from brightrun.formats.registry import FORMATS
from brightrun.formats.v4 import read_pair
from brightrun.platform import Platform
from brightrun.storage import Bucket, ObjectStore, object_path
from brightrun.storage.errors import ObjectNotFoundError

RAW_CHARACTERS = 1_000_000
_SHOWN = ("conversation_id", "messages", "chosen", "rejected", "label", "tools", "scaffold", "path")
_SEARCHED_BYTES = 64 << 20
"""Files up to this are read from their beginning where no place is known."""


@dataclass(frozen=True)
class StoredRecord:
    """line: as in findings. byte_offset: of its first byte. length: in bytes.

    data: as it stands in the file, without its line end; None above the limit for a record. value: the JSON value, None
    when it is broken. records: what was read from it; empty where it has an error, several where it holds several.
    prefix: what the paths of its findings begin with.
    """

    line: int
    byte_offset: int
    length: int
    data: bytes | None
    format: FormatId
    layout: Layout
    value: Any
    records: list[Record]
    prefix: re.Pattern[str]


async def read_record(session: AsyncSession, platform: Platform, dataset_id: UUID, line: int) -> StoredRecord:
    """The record at a line (or with this number, in a JSON document) of a validated dataset.

    Raises NotFoundError for a line that there is not or that holds no record, ConflictError for a dataset whose file
    was not validated, is gone, or is too large to be searched.
    """
    dataset = await get(session, dataset_id)
    return await asyncio.to_thread(record_of, platform.store, dataset, line)


def record_of(store: ObjectStore, dataset: Dataset, line: int) -> StoredRecord:
    """As `read_record`; blocks. dataset: with its report."""
    if dataset.report is None or dataset.format is None:
        raise ConflictError(
            "The records can be shown when the file was read and its format is known.", code="no_records"
        )
    try:
        with store.open_read(Bucket(dataset.storage_bucket), dataset.storage_path) as stream:
            found = _Finder(store, dataset, stream).find(line)
    except ObjectNotFoundError as error:
        raise ConflictError("The stored file is no longer there.", code="object_missing") from error
    if found is None:
        raise NotFoundError(f"There is no record at line {line:,} of this file", code="no_such_record")
    return found


def as_answer(found: StoredRecord, issues: list[IssueOut], total: int) -> RecordOut:
    """What the API answers."""
    raw = None if found.data is None else found.data.decode("utf-8", errors="replace")
    return RecordOut(
        line=found.line,
        byte_offset=found.byte_offset,
        length=found.length,
        format=found.format,
        raw=None if raw is None else raw[:RAW_CHARACTERS],
        raw_truncated=raw is None or len(raw) > RAW_CHARACTERS,
        chats=[_chat(record) for record in found.records[:100]],
        issues=issues,
        issues_total=total,
    )


def _chat(record: Record) -> dict[str, Any]:
    built: dict[str, Any] = msgspec.to_builtins(record)
    chat = {name: built[name] for name in _SHOWN if built.get(name) is not None}
    return chat | {"kind": record.kind}


def kept_path(dataset: Dataset, kind: str) -> str:
    """Where something that the validation of the present report kept is stored."""
    attempt = dataset.validation_attempt
    if dataset.status == DatasetStatus.VALIDATING:
        attempt -= 1  # the report is still that of the attempt before
    return object_path(dataset.workspace_id, ISSUES_KIND, dataset.id, f"{attempt}.{kind}")


class _Finder:
    def __init__(self, store: ObjectStore, dataset: Dataset, stream: BufferedIOBase) -> None:
        self._store, self._dataset, self._stream = store, dataset, cast("BinaryIO", stream)
        head = stream.read(HEAD_BYTES + 1)
        self._bom = head.startswith(UTF8_BOM)
        declared = dataset.declared_format or "auto"
        self._layout: Layout = detect(head[:HEAD_BYTES], complete=len(head) <= HEAD_BYTES, declared=declared).layout
        assert dataset.format is not None
        self._entry = FORMATS[cast("FormatId", dataset.format)]

    def find(self, line: int) -> StoredRecord | None:
        place = self._place(line)
        if self._layout == "lines":
            return self._at_line(line, *(place or (line - 1, 0)))
        if place is not None and place[1] and self._layout != "document":
            self._stream.seek(place[1])
            return self._at_value(line, place[1])
        return self._search(line)

    def _place(self, line: int) -> tuple[int, int] | None:
        try:
            data = self._store.read_bytes(Bucket(self._dataset.storage_bucket), kept_path(self._dataset, "places"))
        except ObjectNotFoundError:  # validated by the first release
            return None
        return places.find(data, line)

    def _at_line(self, line: int, skip: int, offset: int) -> StoredRecord | None:
        self._stream.seek(offset)
        if offset == 0 and self._bom:
            offset = len(UTF8_BOM)
            self._stream.seek(offset)
        for _ in range(skip):
            while piece := self._stream.readline(1 << 20):
                offset += len(piece)
                if piece.endswith(b"\n"):
                    break
            else:
                return None
        data: bytes | None = self._stream.readline(MAX_RECORD_BYTES + 2)
        assert data is not None
        length = len(data.removesuffix(b"\n").removesuffix(b"\r"))
        if length > MAX_RECORD_BYTES:
            while not data.endswith(b"\n") and (data := self._stream.readline(1 << 20)):
                length += len(data)
            return self._made(line, offset, length, None)
        data = data[:length]
        return self._made(line, offset, length, data) if data.strip() else None

    def _at_value(self, line: int, offset: int) -> StoredRecord | None:
        try:
            value = next(iter(JsonWalker(ByteSource(self._stream), lambda path: False)))
        except (StructureError, StopIteration):
            return None
        return self._made(line, offset, value.length, value.data)

    def _search(self, line: int) -> StoredRecord | None:
        """From the beginning: what has no place is broken, or stands in a file without places."""
        if self._dataset.file_size > _SEARCHED_BYTES:
            raise ConflictError(
                "The place of this record is not known, and the file is too large to search. Download it instead.",
                code="place_unknown",
            )
        self._stream.seek(0)
        for reading in RecordReader(self._stream, self._entry.id).readings():
            if reading.is_record and reading.line == line:
                if reading.broken:
                    self._stream.seek(reading.byte_offset)
                    data = self._stream.read(4096)
                    return self._made(line, reading.byte_offset, len(data), data)
                self._stream.seek(reading.byte_offset)
                return self._at_value(line, reading.byte_offset)
        return None

    def _made(self, line: int, offset: int, length: int, data: bytes | None) -> StoredRecord:
        reading = Reading(line, offset, "", line - 1)
        objects = ObjectReader(MAX_RECORD_BYTES, False)
        value: Any = None
        if data is not None:
            try:
                value = decode(data)
            except ValueError:
                value = None
        if self._layout in {"v4_full", "enriched_file"}:
            pairs = FORMATS["brightrun_lora_v4"]

            def read(pair: object) -> None:
                if isinstance(pair, dict) and pairs.marks(pair):
                    read_pair(pair, reading, None)

            objects.read_with(reading, data, length, read, pairs.texts)
        else:
            objects.read(reading, data, length, self._entry)
        prefix = _PREFIXES.get(self._layout, _NO_PREFIX)
        read_from = (self._entry.id, self._layout, value, reading.records, prefix)
        return StoredRecord(line, offset, length, data, *read_from)


_NO_PREFIX = re.compile("")
_PREFIXES: dict[Layout, re.Pattern[str]] = {
    "array": re.compile(r"\[\d+\]\.?"),
    "v4_full": re.compile(r"conversations\[\d+\]\.training_pairs\[\d+\]\.?"),
    "enriched_file": re.compile(r"training_pairs\[\d+\]\.?"),
}
