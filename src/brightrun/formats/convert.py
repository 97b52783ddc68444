"""Writes a training file in another format, and names everything that the new one does not hold.

Between spellings of one format (an array and lines, the full v4 file and its pairs) objects are passed on as they were
written, with every field. Otherwise each record goes through the one reader and the one writer; fields that no record
has are counted by their path.
"""

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import orjson

from brightrun.formats.decode import decode
from brightrun.formats.detect import Detection
from brightrun.formats.documents import OPENED
from brightrun.formats.errors import FormatError, UnwritableRecordError
from brightrun.formats.json_spans import Edit, apply, spans_of
from brightrun.formats.json_stream import JsonWalker, StructureError
from brightrun.formats.lines import MAX_RECORD_BYTES, UTF8_BOM, ByteSource
from brightrun.formats.names import FormatId
from brightrun.formats.reader import RecordReader
from brightrun.formats.reading import Reading
from brightrun.formats.record_text import text_at
from brightrun.formats.unread import unread_fields
from brightrun.formats.write import Unwritten, encode_record

READ_ONLY = frozenset({"enriched_conversation"})
"""Formats that are read and not written: a file of it is one conversation with its whole enrichment."""
MOST_UNWRITTEN = 1_000
_FAMILY: dict[str, str] = {"enriched_conversation": "brightrun_lora_v4"}
_PAIRS = ("brightrun_lora_v4", "enriched_conversation")
_LISTS: dict[str, str] = {"brightrun_lora_v3": "turns", "sharegpt": "conversations"}
_INDEX = re.compile(r"\[\d+\]")
_SPACE = re.compile(rb'("(?:[^"\\]++|\\.)*+")|[ \t\r\n]++', re.DOTALL)


class ConversionError(FormatError, ValueError):
    """Nothing can be converted: a target that is not written, or a file that is not read."""


class Converted(msgspec.Struct):
    """written: objects. dropped: path of a field to how often it was lost. unwritten: the first MOST_UNWRITTEN records
    that are not in the output, and why; unwritten_total: how many they are. format: of the input."""

    written: int = 0
    dropped: dict[str, int] = {}
    unwritten: list[Unwritten] = []
    unwritten_total: int = 0
    format: str | None = None

    @property
    def lossless(self) -> bool:
        """Whether everything that was read stands in the output."""
        return not self.dropped and not self.unwritten_total


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    to: FormatId,
    *,
    format: str = "auto",  # noqa: A002 - the field's word
    max_record_bytes: int = MAX_RECORD_BYTES,
) -> Converted:
    """Convert `source` into JSON Lines of another format at `target`, another file.

    Memory is bounded by one record. Raises ConversionError, UnknownFormatError, OSError.
    """
    if to in READ_ONLY:
        raise ConversionError(f"{to} is read, not written.")
    work = _Conversion(Path(source), Path(target), to, max_record_bytes)
    work.run(format)
    return work.result


class _Conversion:
    """One conversion under way."""

    def __init__(self, source: Path, target: Path, to: FormatId, limit: int) -> None:
        self._source, self._target, self._to, self._limit = source, target, to, limit
        self._detection: Detection
        self._raw: BinaryIO
        self._out: BinaryIO
        self._header: dict[str, Any] = {}
        self.result = Converted()

    def run(self, format: str) -> None:  # noqa: A002
        """Read the source once, its frame once more, and write the target."""
        reader = RecordReader(self._source, format, max_record_bytes=self._limit)
        with self._source.open("rb") as raw, self._target.open("wb") as out:
            self._raw, self._out = raw, out
            for reading in reader.readings():
                assert reader.detection is not None
                self._detection = reader.detection
                if self._detection.format is None:
                    first = reading.issues[0]
                    raise ConversionError(f"{first.message} {first.suggestion}")
                self.result.format = self._detection.format
                self._take(reading)
            if reader.detection is not None and reader.detection.layout in ("v4_full", "enriched_file"):
                self._frame()
        if self._header:
            self._put_header()

    @property
    def _passes_on(self) -> bool:
        found = self._detection.format or ""
        return _FAMILY.get(found, found) == self._to

    def _drop(self, path: str) -> None:
        self.result.dropped[path] = self.result.dropped.get(path, 0) + 1

    def _leave_out(self, line: int, reason: str) -> None:
        self.result.unwritten_total += 1
        if len(self.result.unwritten) < MOST_UNWRITTEN:
            self.result.unwritten.append(Unwritten(line, reason))

    def _write(self, data: bytes) -> None:
        self._out.write(data + b"\n")
        self.result.written += 1

    # One object

    def _take(self, reading: Reading) -> None:
        errors = [issue for issue in reading.issues if issue.severity == "error"]
        if not reading.is_record:
            if isinstance(reading.meta, dict) and self._passes_on and not self._header and not self.result.written:
                self._header = reading.meta
            elif reading.meta is not None:
                self._drop("_meta")
            self._name_repeats(reading)
            for issue in errors:
                if issue.code not in {"format_mismatch", "no_records", "nothing_to_train"}:
                    self._leave_out(issue.line, issue.message)
            return
        if errors:
            self._leave_out(reading.line, errors[0].message)
            return
        text = text_at(self._raw, reading.byte_offset, self._detection.layout, self._limit)
        if text is None:
            self._leave_out(reading.line, "The record could not be read again.")
        elif self._passes_on:
            self._pass_on(text, reading)
        else:
            self._rewrite(text, reading)

    def _pass_on(self, text: bytes, reading: Reading) -> None:
        """Every field as it was written, on one line."""
        if self._detection.format not in _PAIRS:
            self._write(_one_line(text))
        elif self._detection.layout in ("v4_full", "enriched_file"):
            self._pass_pair(text, reading)
        elif self._detection.format == "enriched_conversation":
            root = spans_of(text)
            listed = root.find(["training_pairs"])
            for pair in listed.children if listed is not None else []:
                self._pass_pair(text[pair.start : pair.end], reading)
            for key in root.keys:
                if key != "training_pairs":
                    self._drop(key)
        else:
            self._write(_one_line(text))

    def _pass_pair(self, pair: bytes, reading: Reading) -> None:
        """With the id of its conversation, which stands above it; its own is only its template's name, and goes."""
        conversation_id = _id_of(reading)
        own = decode(pair).get("conversation_id")
        if own is not None and own != conversation_id:
            self._drop("training_pairs[].conversation_id")
        self._write(_one_line(_with_id(pair, conversation_id)))

    def _rewrite(self, text: bytes, reading: Reading) -> None:
        for _ in reading.null_targets:
            self._leave_out(reading.line, "A user turn: its target is null, so nothing answers it.")
        wrote = False
        for record in reading.records:
            try:
                objects, dropped = encode_record(record, self._to)
            except UnwritableRecordError as error:
                self._leave_out(record.line, str(error))
                continue
            wrote = True
            for obj in objects:
                self._write(orjson.dumps(obj))
            for field in dropped:
                if field != "scaffold":  # named below by the fields that it was read from
                    self._drop(field.replace("messages[]", f"{_LISTS.get(self._detection.format or '', 'messages')}[]"))
        if wrote:
            self._name_repeats(reading)
            self._name_unread(decode(text))

    def _name_repeats(self, reading: Reading) -> None:
        """Of a field that stands twice only the last value is read."""
        for issue in reading.issues:
            if issue.code == "repeated_key" and not issue.fixable:
                self._drop(_INDEX.sub("[]", issue.path))

    def _name_unread(self, value: dict[str, Any]) -> None:
        assert self._detection.format is not None
        if self._detection.format != "enriched_conversation":
            fields = unread_fields(value, self._detection.format)
        elif self._detection.layout == "enriched_file":
            fields = unread_fields(value, "brightrun_lora_v4")
        else:
            for key in value:
                if key != "training_pairs":
                    self._drop(key)
            for pair in value["training_pairs"]:
                for field in unread_fields(pair, "brightrun_lora_v4"):
                    self._drop(f"training_pairs[].{field}")
            return
        for field in fields:
            self._drop(field)

    # Around the records of a document

    def _frame(self) -> None:
        """What stands in the document beside its pairs: into the header of a v4 file, else it is lost."""
        self._raw.seek(0)
        source = ByteSource(self._raw)
        if self._detection.bom:
            source.peek(len(UTF8_BOM))
            source.skip(len(UTF8_BOM))
        try:
            for value in JsonWalker(source, OPENED[self._detection.layout], self._limit):
                match value.path:
                    case ("conversations" | "training_pairs",):
                        pass
                    case (str(key),):
                        self._take_frame(key, value.data)
                    case ("conversations", int(), "conversation_metadata"):
                        metadata = _decoded(value.data)
                        for key in metadata if isinstance(metadata, dict) else ():
                            if key != "conversation_id":
                                self._drop(f"conversations[].conversation_metadata.{key}")
                    case ("conversations", int(), str(key)) if key != "training_pairs":
                        self._drop(f"conversations[].{key}")
        except StructureError:
            return  # said by the reader, and counted there

    def _take_frame(self, key: str, data: bytes | None) -> None:
        value = _decoded(data)
        if not self._passes_on or value is None:
            self._drop(key)
        elif key in {"training_file_metadata", "dataset_metadata"} and isinstance(value, dict):
            self._header = value | self._header | {"total_pairs": 0}
        else:
            self._header = self._header | {key: value}

    def _put_header(self) -> None:
        """The header goes first, and only now is it known how many pairs follow."""
        header = dict(self._header)
        if "total_pairs" in header:
            header["total_pairs"] = self.result.written
        handle, name = tempfile.mkstemp(dir=self._target.parent, prefix=".convert-")
        try:
            with os.fdopen(handle, "wb") as whole, self._target.open("rb") as body:
                whole.write(orjson.dumps({"_meta": header}) + b"\n")
                shutil.copyfileobj(body, whole, 1 << 20)
            shutil.copymode(self._target, name)
            Path(name).replace(self._target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _decoded(data: bytes | None) -> Any:
    try:
        return None if data is None else decode(data)
    except ValueError:
        return None


def _id_of(reading: Reading) -> str:
    if reading.records:
        return reading.records[0].conversation_id
    return reading.null_targets[0].conversation_id


def _with_id(pair: bytes, conversation_id: str) -> bytes:
    """The pair with another id of its conversation."""
    root, data = spans_of(pair), orjson.dumps(conversation_id)
    own = root.child("conversation_id")
    if own is not None:
        return apply(pair, [Edit(own.start, own.end, data)])
    return pair[:1] + b'"conversation_id":' + data + (b"," if root.children else b"") + pair[1:]


def _one_line(text: bytes) -> bytes:
    """The JSON text without white space between its values, where it has line breaks."""
    if b"\n" not in text and b"\r" not in text:
        return text.strip()
    return _SPACE.sub(lambda match: match.group(1) or b"", text)
